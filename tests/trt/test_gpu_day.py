"""The script that proves things on a GPU machine: steps, limits, what is left, what is resumed."""

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from format_cost import sort_layers
from gpu_day import Command, Day, Step, take
from gpu_places import MODELS, Places
from gpu_steps import make_steps

SCRIPT = Path(__file__).with_name("gpu_day.py")


def python(code, **options):
    return Command((sys.executable, "-c", code), **options)


def step(name, *commands, estimate=0, limit=30, **options):
    return Step(name, lambda: commands, estimate, limit, **options)


def statuses(day):
    results = {name: day.result(name) for name in day.steps}
    return {name: result.status for name, result in results.items() if result is not None}


def test_steps_run_in_order_and_once(tmp_path):
    trace = tmp_path / "trace"
    note = f"open({str(trace)!r}, 'a').write"
    steps = [step(name, python(f"{note}({name!r})")) for name in "ab"]
    assert Day(tmp_path / "work", steps).run(budget=60) == []
    assert Day(tmp_path / "work", steps).run(budget=60) == []
    assert trace.read_text() == "ab"


def test_a_failed_step_is_kept_and_run_again_on_request(tmp_path):
    flag = tmp_path / "flag"
    code = f"import pathlib, sys; sys.exit(not pathlib.Path({str(flag)!r}).exists())"
    steps = [step("a", python(code)), step("b", python("pass"), needs=("a",))]
    day = Day(tmp_path / "work", steps)
    assert day.run(budget=60) == ["b: needs a"]
    assert statuses(day) == {"a": "failed"}
    flag.touch()
    assert day.run(budget=60) == ["b: needs a"]
    assert day.run(budget=60, again=True) == []
    assert statuses(day) == {"a": "passed", "b": "passed"}


def test_the_first_command_that_fails_ends_a_step(tmp_path):
    day = Day(tmp_path, [step("a", python("print(1)"), python("exit(3)"), python("print(2)"))])
    day.run(budget=60)
    result = day.result("a")
    assert result.status == "failed"
    assert [command["code"] for command in result.commands] == [0, 3]


def test_a_step_is_ended_at_its_limit_with_all_that_it_started(tmp_path):
    waits = "import time; time.sleep(60)"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {waits!r}])"
    day = Day(tmp_path, [step("a", python(child), limit=1), step("b", python("pass"))])
    day.run(budget=60)
    assert statuses(day) == {"a": "timed out", "b": "passed"}
    assert day.result("a").seconds < 10


def test_another_way_may_do_where_one_fails(tmp_path):
    first = python("exit(3)", otherwise=(python("exit(4)"), python("pass"), python("exit(5)")))
    day = Day(tmp_path, [step("a", first, python("pass"))])
    day.run(budget=60)
    result = day.result("a")
    assert result.status == "passed"
    assert [command["code"] for command in result.commands] == [3, 4, 0, 0]


def test_what_does_not_fit_into_the_budget_is_left(tmp_path):
    steps = [step("long", python("pass"), estimate=100), step("short", python("pass"))]
    day = Day(tmp_path, steps)
    (left,) = day.run(budget=10)
    assert left.startswith("long: needs 100 s")
    assert statuses(day) == {"short": "passed"}


def test_exit_codes_and_texts_that_are_wanted(tmp_path):
    refused = "import sys; sys.stderr.write('no such GPU'); sys.exit(2)"
    steps = [
        step("right", python(refused, codes=(2,), said=("no such GPU",))),
        step("other text", python(refused, codes=(2,), said=("no such disk",))),
        step("other code", python(refused)),
    ]
    day = Day(tmp_path, steps)
    day.run(budget=60)
    assert list(statuses(day).values()) == ["passed", "failed", "failed"]


def test_results_and_logs_are_written(tmp_path):
    output = tmp_path / "results" / "figures.json"
    steps = [
        step("a:b", python("print('{\"ms\": 1.5}')", output=output), python("print('said')")),
        step("c", python("print('{')", output=tmp_path / "results" / "broken.json")),
    ]
    day = Day(tmp_path, steps)
    day.run(budget=60)
    day.report(tmp_path / "out")
    written = json.loads((tmp_path / "out" / "results.json").read_text())["steps"]
    assert written["a:b"]["results"] == {"figures": {"ms": 1.5}}
    assert written["c"]["results"] == {"broken": None}
    with tarfile.open(tmp_path / "out" / "logs.tar.gz") as archive:
        names = archive.getnames()
        log = archive.extractfile("logs/a_b.log").read().decode()
    assert "results/figures.json" in names
    assert "said" in log


def test_a_mistake_in_a_step_ends_that_step_alone(tmp_path):
    def broken():
        raise KeyError("no such file")

    day = Day(tmp_path, [Step("a", broken, 0, 10), step("b", python("pass"))])
    day.run(budget=60)
    assert statuses(day) == {"a": "failed", "b": "passed"}


def test_background_steps_run_together_in_the_order_of_their_needs(tmp_path):
    steps = [
        step("b", python("pass"), needs=("a",), background=True),
        step("a", python("pass"), background=True),
        step("c", python("pass"), needs=("gone",), background=True),
        step("gpu", python("pass")),
    ]
    day = Day(tmp_path, steps)
    assert day.run(budget=60, background=True) == []
    assert statuses(day) == {"a": "passed", "b": "passed"}
    assert day.run(budget=60) == ["c: needs gone"]
    assert statuses(day)["gpu"] == "passed"


def test_steps_run_side_by_side(tmp_path):
    """Each ends when it has seen the other."""
    code = (
        "import pathlib, time\n"
        "pathlib.Path({!r}).touch()\n"
        "while not pathlib.Path({!r}).exists(): time.sleep(0.01)"
    )
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    steps = [step("a", python(code.format(a, b))), step("b", python(code.format(b, a)))]
    day = Day(tmp_path / "work", steps)
    assert day.run(budget=60, together=2) == []
    assert statuses(day) == {"a": "passed", "b": "passed"}


def test_nothing_runs_beside_a_step_that_measures(tmp_path):
    code = (
        "import pathlib, sys, time; folder = pathlib.Path({!r}); mine = folder / {!r}\n"
        "mine.touch(); time.sleep(0.2); names = [path.name for path in folder.iterdir()]\n"
        "mine.unlink(); sys.exit({!r} != 'build' and len(names) > 1)"
    )

    def kind(name, what, **options):
        return step(name, python(code.format(str(tmp_path / "now"), name, what)), **options)

    (tmp_path / "now").mkdir()
    steps = [
        kind("a", "build"),
        kind("measure:1", "measure", alone=True),
        kind("b", "build", needs=("a",)),
        kind("measure:2", "measure", alone=True, needs=("a",)),
        kind("c", "build", needs=("measure:2",)),
    ]
    day = Day(tmp_path / "work", steps)
    assert day.run(budget=60, together=4) == []
    assert set(statuses(day).values()) == {"passed"}


def test_a_step_waits_for_others_to_end_however_they_do(tmp_path):
    flag = tmp_path / "flag"
    touch = f"import pathlib, sys, time; time.sleep(0.2); pathlib.Path({str(flag)!r}).touch()"
    seen = f"import pathlib, sys; sys.exit(not pathlib.Path({str(flag)!r}).exists())"
    steps = [
        step("first", python(touch + "; sys.exit(1)")),
        step("second", python(seen), after=("first", "not in this call")),
    ]
    day = Day(tmp_path / "work", steps)
    assert day.run(budget=60, together=2) == []
    assert statuses(day) == {"first": "failed", "second": "passed"}


def test_needs_may_come_later_in_the_order(tmp_path):
    steps = [step("b", python("pass"), needs=("a",)), step("a", python("pass"))]
    day = Day(tmp_path, steps)
    assert day.run(budget=60) == []
    assert statuses(day) == {"b": "passed", "a": "passed"}


def test_what_waits_for_itself_is_left(tmp_path):
    steps = [step("a", python("pass"), after=("b",)), step("b", python("pass"), after=("a",))]
    left = Day(tmp_path, steps).run(budget=60)
    assert left == ["a: waits for what waits for it", "b: waits for what waits for it"]


def test_a_step_that_resumes_stays_due_until_its_limit(tmp_path):
    trace = tmp_path / "trace"
    code = f"import time; open({str(trace)!r}, 'a').write('x'); time.sleep(60)"
    steps = [step("a", python(code), estimate=1, limit=2, resumes=True)]
    day = Day(tmp_path / "work", steps)
    for seconds in (1.2, 60, 60):  # the budget's end; its own limit's; no more
        day.run(budget=seconds)
    assert trace.read_text() == "xx"
    result = day.result("a")
    assert result.status == "timed out"
    assert 2 <= result.seconds < 10


def test_a_step_that_resumes_begins_with_less_than_it_takes(tmp_path):
    steps = [step("a", python("pass"), estimate=450, limit=900, resumes=True)]
    day = Day(tmp_path, steps)
    (left,) = day.run(budget=30)
    assert left.startswith("a: needs 60 s")
    assert day.run(budget=90) == []


def test_taking_parts_keeps_the_tree_and_starts_once(tmp_path, monkeypatch):
    tree = tmp_path / "tree"
    script = tree / "tests/trt/gpu_day.py"
    script.parent.mkdir(parents=True)
    script.write_text("import time; time.sleep(30)")
    (tree / ".parts").mkdir()
    for name in ("part.00", "part.01"):
        (tree / ".parts" / name).write_bytes(name.encode())
    work, started = tmp_path / "work", []
    popen = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda *a, **k: started.append(popen(*a, **k)) or started[-1]
    )
    try:
        for name in ("part.00", "part.01"):
            take(work, tree / ".parts" / name, tree)
    finally:
        for child in started:
            child.kill()
            child.wait()
    assert len(started) == 1
    assert (work / "parts" / "part.01").read_bytes() == b"part.01"
    assert not (work / "src" / ".parts").exists()


def test_the_steps_need_steps_that_come_before_them(tmp_path):
    steps = make_steps(tmp_path)
    names = [step.name for step in steps]
    assert len(set(names)) == len(names)
    for index, item in enumerate(steps):
        assert {*item.needs, *item.after} <= set(names[:index]), item.name
        assert item.estimate < item.limit, item.name
        assert item.limit <= 600 or item.resumes, item.name  # a call takes 10 minutes
        measures = ("torch:", "bench:", "variants:", "runner:", "body:")
        measured = (
            "build:tiny-fp16",
            "variant:tiny-fp16-unfused",
            "variant:tiny-fp16-two-profiles",
        )
        assert item.alone == (item.name.startswith(measures) or item.name in measured), item.name
    for model in MODELS:
        for precision in ("fp32", "fp16"):
            assert f"validate:{model}-{precision}" in names


@pytest.mark.parametrize(
    "name", ["build:base-fp16", "validate:nano-fp32", "option:embedded", "bisect:nano"]
)
def test_engines_are_built_and_proven_by_the_command_line(tmp_path, name):
    (item,) = [item for item in make_steps(tmp_path) if item.name == name]
    for command in item.commands()[:1]:
        assert command.argv[1:3] == ("-m", "gspn2_deploy")
        assert command.env["GSPN2_TENSORRT_PLUGIN"].endswith("8.6/libgspn2_tensorrt.so")


def test_variants_are_compared_before_they_are_measured(tmp_path):
    steps = {step.name: step for step in make_steps(tmp_path)}
    commands = steps["variants:tiny-fp16"].commands()
    assert [command.argv[4] for command in commands] == ["validate"] * 2 + ["bench"] * 6
    (build,) = steps["variant:tiny-fp16-two-profiles"].commands()
    profiles = [build.argv[i + 1] for i, word in enumerate(build.argv) if word == "--profile"]
    assert profiles == [
        "images=1x3x224x224:1x3x224x224:1x3x224x224",
        "images=2x3x224x224:64x3x224x224:64x3x224x224",
    ]


def test_compiled_pytorch_is_measured_by_what_is_ready(tmp_path):
    steps = {item.name: item for item in make_steps(tmp_path)}
    batches = MODELS["tiny"].batches
    compiles = [f"compile:tiny-fp16-{batch}" for batch in (1, 64)]
    assert steps["torch:tiny-fp16"].after == tuple(compiles)

    def words(argv, option):
        return [argv[index + 1] for index, word in enumerate(argv) if word == option]

    def modes():
        commands = steps["torch:tiny-fp16"].commands()
        return [(words(one.argv, "--compile"), words(one.argv, "--batch")) for one in commands]

    every = [str(batch) for batch in batches[:3]]
    quick = (["reduce-overhead"], every)
    assert modes() == [quick]
    (tmp_path / "inductor").mkdir()
    for count, name in enumerate(compiles, 1):
        fill, touch = steps[name].commands()
        assert fill.env["TORCHINDUCTOR_CACHE_DIR"] == str(Places(tmp_path).inductor)
        subprocess.run(touch.argv, check=True)
        assert modes() == [quick, (["max-autotune"], ["1", "64"][:count])]
    best = steps["torch:tiny-fp16"].commands()[1]
    assert words(best.argv, "--add") == words(best.argv, "--report")  # rows are added, not lost
    (other,) = steps["torch:small-fp16"].commands()
    assert words(other.argv, "--compile") == ["reduce-overhead"]
    assert words(other.otherwise[0].argv, "--compile") == []
    (digits,) = steps["torch:nano-fp16"].commands()
    assert words(digits.argv, "--checkpoint")[0].endswith("examples/digits/nano-digits.safetensors")


def test_reformats_at_the_plugins_are_told_from_others():
    def layer(name, group, milliseconds):
        return {"name": name, "group": group, "milliseconds": milliseconds}

    other = "reformat and copy"
    table = {
        "layers": [
            layer("block/prop", "propagation", 0.5),
            layer("Reformatting CopyNode for Input Tensor 0 to block/prop", other, 0.25),
            layer("Reformatting CopyNode for Output Tensor 0 to conv", other, 0.125),
            layer("conv", "convolution", 1.0),
            layer("shuffle", other, 0.0625),
        ]
    }
    assert sort_layers(table) == {
        "plugins": 0.5,
        "reformats at plugins": 0.25,
        "other reformats": 0.125,
        "other": 1.0625,
    }


def test_it_lists_the_steps(tmp_path):
    result = subprocess.run(
        [sys.executable, SCRIPT, "list"],
        env={"GSPN2_GPU_WORK": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "build:tiny-fp16" in result.stdout
