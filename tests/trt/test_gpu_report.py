"""The report of a day on a GPU: runs are joined, paths stay out, tables go between their marks."""

import json

import pytest
from gpu_report import fill_page, make_log, make_report, read_folders, tables


def write(folder, name, content):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(content) if content is not None else "")


def step(status, seconds):
    return {"status": status, "seconds": seconds, "commands": [{"argv": ["/secret/python"]}]}


def validation(kinds=False):
    errors = {"worst_ratio": 0.25, "max_scaled": 1e-3, "cosine": 0.5}
    cases = [
        {
            "candidate": name,
            "passed": True,
            "shapes": {"images": [8, 3, 4, 4]},
            "outputs": [{"errors": {**errors, "worst_ratio": ratio}}],
        }
        for name, ratio in (("tensorrt", 0.25), ("tensorrt", 0.125), ("onnxruntime", 0.0625))
    ]
    plugin = {"name": "a", "dtype": "float16", "milliseconds": 0.5}
    plugins = [plugin, {**plugin, "milliseconds": None}]  # as before the kinds were told apart
    if kinds:
        plugins = [{**item, "kind": "propagation"} for item in plugins]
        plugins.append({**plugin, "kind": "fused"})
    return {
        "passed": True,
        "tolerance": {"source": "/secret/folder/table"},
        "top1": {"tensorrt": {"items": 16, "agreeing": 16, "accuracy": None}},
        "cases": cases,
        "engine_proof": {"plugins": plugins, "layers": 7},
    }


def bench():
    figures = dict.fromkeys(("median", "p90", "p99", "min", "p10"), 2.0) | {"runs": 9}

    def row(subject, compute):
        state = {"sm_mhz": 1980.0}
        return {
            "subject": subject,
            "model": "tiny in fp16",
            "items": 8,
            "error": None,
            "device": {"kind": "gpu", "driver": "580.1", "uuid": "GPU-secret"},
            "latency_ms": figures,
            "compute_ms": {**figures, "median": compute},
            "items_per_second": 4000.0,
            "steady": True,
            "agrees_with_first": True,
            "earlier": "/secret/torch.json",
            "prepare_seconds": 1.0,
            "memory": None,
            "state": {"before": state, "after": state},
        }

    layer = {"group": "convolution", "kind": "Cask", "dtype": "float16", "of_copy": None}
    layers = [
        {**layer, "name": "conv", "milliseconds": 1.5, "bytes": 3_000_000},
        {**layer, "name": "p", "group": "propagation", "milliseconds": 0.5, "bytes": None},
    ]
    table = {
        "subject": "tensorrt",
        "shapes": {"images": [8, 3, 4, 4]},
        "milliseconds": 2.0,
        "copy_bytes_per_second": 2e10,
        "propagation_share": 0.25,
        "bound": "convolution",
        "layers": layers,
    }
    machine = {"cpu": {"name": "Xeon", "cores": 16}, "created": "2026-11-25"}
    rows = [row("pytorch eager", 8.0), row("tensorrt", 2.0)]
    return {"machine": machine, "rows": rows, "layers": [table]}


def body(precision, built):
    def engine(seconds, of_tolerance, compute):
        times = {"median": compute, "p90": compute, "min": compute, "runs": 50}
        row = {"samples": 2, "passed": True, "of_scale": 1e-3, "reasons": []}
        return {
            "build_seconds": seconds,
            "plan_bytes": 3_000_000,
            "options": {"precision_constraints": "obey", "timing_cache_path": "/secret/cache"},
            "parity": {
                "1": {**row, "of_tolerance": 0.01},
                "8": {**row, "of_tolerance": of_tolerance},
            },
            "compute_ms": {"1": times, "8": {**times, "median": 2 * compute}},
            "gpu": "a GPU",
        }

    engines = {"plugin": engine(70.0, 0.125, 0.25)}
    if built:
        engines["body"] = engine(90.0, 0.25, 2.0)
    error = None if built else ["the parser | refused it", "In node 3 (/secret/x.cpp):\nno Scan"]
    return {
        "built": built,
        "attempts": [{"precision_constraints": "obey", "error": error, "seconds": 1.0}],
        "error": error,
        "model": f"nano in {precision}",
        "engines": engines,
        "passed": True,
    }


@pytest.fixture
def report(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    steps = {"face:8.6": step("passed", 1.0), "build:nano-fp32": step("failed", 2.0)}
    write(first, "results.json", {"steps": steps})
    steps = {"face:8.6": step("failed", 3.0), "build:nano-fp32": step("passed", 4.0)}
    write(second, "results.json", {"steps": steps})
    write(second / "results", "validate-nano-fp16.json", {"old": "of an earlier run"})
    write(second / "results", "build-small-fp16.json", None)  # was ended
    third = tmp_path / "third"
    write(third, "validate-nano-fp16.json", validation())
    write(third, "bench-tiny-fp16.json", bench())
    write(third, "body-nano-fp32.json", body("fp32", True))
    write(third, "body-nano-fp16.json", body("fp16", False))
    write(third, "bodybuild-nano-fp16.json", {"built": False})
    return make_report(*read_folders([first, second, third]))


def test_what_passed_counts_else_the_last(report):
    assert report["steps"]["face:8.6"] == {"status": "passed", "seconds": 1.0}
    assert report["steps"]["build:nano-fp32"] == {"status": "passed", "seconds": 4.0}
    assert report["steps"]["option:embedded"] == {"status": "not run", "seconds": None}
    assert report["builds"] == {}


def test_nothing_tells_of_the_machines_paths(report):
    text = json.dumps(report)
    assert "/secret" not in text
    assert "GPU-secret" not in text
    assert report["parity"]["nano-fp16"]["tolerance"] == {"source": "table"}
    assert report["latency"]["tiny-fp16"][0]["earlier"] is True


def test_the_worst_of_a_batch_counts(report):
    rows = report["parity"]["nano-fp16"]["rows"]
    assert [(row["executor"], row["batch"], row["samples"]) for row in rows] == [
        ("tensorrt", 8, 2),
        ("onnxruntime", 8, 1),
    ]
    assert rows[0]["of_tolerance"] == 0.25
    assert report["parity"]["nano-fp16"]["plugin_types"] == {"float16": 1}  # the other did not run


@pytest.mark.parametrize("kinds", [False, True])
def test_the_tables_count_the_propagations(kinds):
    row = make_report({}, {"validate-nano-fp16": validation(kinds)})["parity"]["nano-fp16"]
    assert (row["plugins"], row["plugin_types"]) == (2, {"float16": 1})


def test_groups_of_layers(report):
    groups = report["layers"]["tiny-fp16"][0]["groups"]
    assert list(groups) == ["convolution", "propagation"]
    assert groups["convolution"]["share"] == 0.75
    assert groups["convolution"]["of_copy"] == pytest.approx(0.1)


def test_every_layer_of_the_goals_engine_is_there(report):
    (table,) = report["layers"]["tiny-fp16"]
    assert table["layers"] == [
        "1.5000 ms       convolution: conv",
        "0.5000 ms       propagation: p",
    ]


def test_the_log_has_what_the_commands_said_in_brief(tmp_path):
    command = {"argv": ["/secret/python", "-m", "build"], "code": 1, "seconds": 2.0}
    steps = {"build:nano": step("failed", 3.0) | {"commands": [command]}}
    said = ["$ /secret/python", '{"json": 1}', "DEBUG of no use", "twice", "twice"]
    said += [f"line {number} of /secret/file" for number in range(60)]
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/build_nano.log").write_text("\n".join(said))
    lines = make_log(steps, [tmp_path]).splitlines()
    assert lines[:4] == [
        *("== build:nano: failed, 3 s", "$ python -m build", "  exit 1, 2 s"),
        "| twice",
    ]
    assert lines[4] == "| line 0 of file"
    assert lines[-1] == "| line 59 of file"
    assert sum("lines" in line for line in lines) == 1
    assert len(lines) < 40


def test_tables_go_between_their_marks(report):
    filled = tables(report)
    marks = "".join(f"<!-- {name}: begin -->\nold\n<!-- {name}: end -->\n" for name in filled)
    page = fill_page(f"before\n{marks}after\n", filled)
    assert page.startswith("before\n")
    assert page.endswith("after\n")
    assert "old" not in page
    assert "| nano-fp16 | 8 | 2 | 25.0% | 1.0e-03 | 6.2% | 16 of 16 | 1 float16 |" in page
    assert "| tiny-fp16 | 8 | 8.00 | 2.00 | 4,000 | 4.00x |" in page
    assert "| engine | batch | layers | ms | convolution | propagation |" in page
    assert "| tiny-fp16 | 8 | 2 | 2.00 | 1.500, 75%, 10% | 0.500, 25%, 0% |" in page
    assert fill_page(page, filled) == page
    with pytest.raises(ValueError, match="no marks for steps"):
        fill_page("", filled)


def test_bodies_stand_beside_the_plugin_or_say_why_not(report):
    assert list(report["bodies"]) == ["nano-fp32", "nano-fp16"]
    marks = "<!-- bodies: begin -->\n<!-- bodies: end -->\n"
    rows = fill_page(marks, {"bodies": tables(report)["bodies"]}).splitlines()[3:-1]
    assert rows == [
        "| nano-fp32 | plugin | 70 s | 3.0 MB | 12.5% | 1 | 0.250 ms | 1.00x |",
        "| nano-fp32 | plugin | 70 s | 3.0 MB | 12.5% | 8 | 0.500 ms | 1.00x |",
        "| nano-fp32 | function body | 90 s | 3.0 MB | 25.0% | 1 | 2.000 ms | 0.12x |",
        "| nano-fp32 | function body | 90 s | 3.0 MB | 25.0% | 8 | 4.000 ms | 0.12x |",
        "| nano-fp16 | plugin | 70 s | 3.0 MB | 12.5% | 1 | 0.250 ms | 1.00x |",
        "| nano-fp16 | plugin | 70 s | 3.0 MB | 12.5% | 8 | 0.500 ms | 1.00x |",
        "| nano-fp16 | function body | none: the parser / refused it In node 3 (x.cpp): no Scan |"
        "  |  |  |  |  |",
    ]


def test_a_page_without_bodies_stays_as_it_is(report):
    filled = tables(report)
    marks = "".join(
        f"<!-- {name}: begin -->\n<!-- {name}: end -->\n" for name in filled if name != "bodies"
    )
    assert "function body" not in fill_page(marks, filled)
