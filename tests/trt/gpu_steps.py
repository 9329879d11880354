"""The steps of ``gpu_day.py``: what is proven on the GPU, in the order of what matters most.

Estimates are what an H100 with 16 cores took, several steps side by side.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from gpu_day import Command, Step
from gpu_options import option_steps
from gpu_places import HEADERS, LONGEST, MODELS, PLUGIN, PRECISIONS, SEED, Places
from gpu_proofs import bisect_steps, body_steps


def _images(*shapes: tuple[int, tuple[int, int]]) -> str:
    """A profile by its batches, each with the height and width of its images."""
    return "images=" + ":".join(f"{batch}x3x{size[0]}x{size[1]}" for batch, size in shapes)


def _square(*batches: int) -> tuple[str, str]:
    """The option that asks for a profile of images of 224x224."""
    return "--profile", _images(*((batch, (224, 224)) for batch in batches))


TUNED_BATCHES = (1, 64)  # of torch.compile's max-autotune

# Other ways to build an engine, by the options that ask for them.
VARIANTS: dict[str, tuple[str, ...]] = {
    "unfused": ("--no-fuse",),
    "two-profiles": (*_square(1, 1, 1), *_square(2, 64, 64)),
}


def make_steps(work: Path) -> list[Step]:
    """Return the steps, in order."""
    at = Places(work)
    steps = [*_preparation(at), *_faces(at), *_compile(at, "tiny", "fp16")]
    for name in ("nano", "nano-free"):
        steps += _engine(at, name, "fp32") + _engine(at, name, "fp16")
    steps += _runtime(at) + bisect_steps(at)
    for precision in ("fp16", "fp32"):
        steps += _engine(at, "tiny", precision)
    steps += _bench(at, "tiny", "fp16", tuned=True)
    others = ("small", "base", "tiny-512x768")
    for precision in ("fp16", "fp32"):
        for name in others:
            steps += _engine(at, name, precision)
    for name in (*others, "nano"):
        steps += _bench(at, name, "fp16")
    for name in ("tiny", *others, "nano"):
        steps += _bench(at, name, "fp32")
    return steps + body_steps(at) + option_steps(at) + _variants(at, "tiny", "fp16")


def _preparation(at: Places) -> list[Step]:
    def unpack() -> Sequence[Command]:
        script = (
            f"cd {at.work} && cat parts/part.?? | tar -xf - && "
            "bash unpack_kit.sh kit.tar kit && rm kit.tar && mkdir -p site && "
            f"for wheel in wheels/*.whl; do {sys.executable} -m zipfile -e $wheel site; done"
        )
        return [Command(("bash", "-c", script))]

    def headers() -> Sequence[Command]:
        # They come first in the payload, so that they can be read while the rest is arriving.
        script = (
            f"mkdir -p {at.headers} && cd {at.headers} && "
            "{ tar -xf ../parts/part.00 headers.tar.gz 2>/dev/null || true; } && "
            "tar -xzf headers.tar.gz"
        )
        return [Command(("bash", "-c", script)), _package(at)]

    def native() -> Sequence[Command]:
        roots = ";".join(str(at.headers / version) for version in HEADERS)
        configure = (
            *("cmake", "-S", str(at.source / "plugins"), "-B", str(at.native), "-G", "Ninja"),
            *("-DGSPN2_BUILD_TESTS=ON", "-DCMAKE_CUDA_ARCHITECTURES=90-real"),
            f"-DGSPN2_TENSORRT_ROOTS={roots}",
        )
        targets = ("gspn2_kernels", "gspn2_tensorrt_all")
        build = ("cmake", "--build", str(at.native), "--target", *targets)
        path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/cuda/bin"])
        return [Command(configure, {"PATH": path}), Command(build, {"PATH": path})]

    def cases() -> Sequence[Command]:
        return [at.torch(at.source / "tests/trt/prepare_proof.py", at.cases)]

    def machine() -> Sequence[Command]:
        query = "--query-gpu=name,driver_version,memory.total,clocks.max.sm"
        torch = (
            "import json, platform, torch; gpu = torch.cuda.get_device_properties(0); "
            "print(json.dumps({'gpu': gpu.name, 'compute_capability': [gpu.major, gpu.minor], "
            "'torch': torch.__version__, 'cuda': torch.version.cuda, "
            "'python': platform.python_version()}))"
        )
        tensorrt = (
            "import json, platform, tensorrt, pycuda.driver as cuda; "
            "print(json.dumps({'tensorrt': tensorrt.__version__, 'driver': "
            "cuda.get_driver_version(), 'python': platform.python_version()}))"
        )
        return [
            Command(("nvidia-smi", query, "--format=csv")),
            replace(at.torch("-c", torch), output=at.result("machine")),
            at.tensorrt("-c", tensorrt, output=at.result("tensorrt")),
        ]

    steps = [
        Step("prepare:headers", headers, 1, 60, background=True),
        Step("prepare:native", native, 45, 400, ("prepare:headers",), background=True),
        Step("prepare:cases", cases, 10, 300, ("prepare:headers",), background=True),
    ]
    steps += [_export(at, name, precision) for name in MODELS for precision in PRECISIONS]
    steps += [
        Step("prepare:unpack", unpack, 65, 240),
        Step("prepare:machine", machine, 10, 60, ("prepare:unpack",)),
    ]
    return steps


def _package(at: Places) -> Command:
    """Lay the package out as it is installed: export/ is gspn2_deploy.export."""
    source, target = at.source, at.pkg / "gspn2_deploy"
    script = (
        "import shutil, sys; source, target = sys.argv[1:]; shutil.rmtree(target, True); "
        "shutil.copytree(source + '/gspn2_deploy', target); "
        "shutil.copytree(source + '/export', target + '/export')"
    )
    return Command((sys.executable, "-c", script, str(source), str(target)))


def _export(at: Places, name: str, precision: str) -> Step:
    model = MODELS[name]

    def commands() -> Sequence[Command]:
        helper = at.source / "tests/trt/gpu_models.py"
        weights = at.weights(name, precision)
        onnx, golden = at.model(name, precision, ".onnx"), at.model(name, precision, ".golden.npz")
        inputs = at.model(name, precision, ".inputs.npz")
        made = []
        export: list[object] = ["-m", "gspn2_deploy", "-q", "export", "--precision", precision]
        if model.registered is None:
            inputs = at.source / "examples/digits/heldout.npz"
        else:
            made.append(at.torch(helper, "weights", model.registered, SEED, weights))
            size = "x".join(map(str, model.size or (224, 224)))
            export += ["--image-size", size]
            if model.free is None:
                made.append(at.torch(helper, "inputs", max(model.batches), size, SEED, inputs))
        export += ["--checkpoint", weights, "--output", onnx, "--golden", golden]
        export += ["--golden-inputs", inputs] if model.free is None else ["--dynamic-size"]
        exported = at.torch(*export)
        # An onnxruntime before 1.24 does not run the files: they are then not compared with it.
        made.append(replace(exported, otherwise=(at.without_onnxruntime(exported),)))
        if model.free is None:
            batches = ",".join(map(str, model.batches))
            made.append(at.torch(helper, "regroup", golden, batches))
        return made

    return Step(f"export:{name}-{precision}", commands, 110, 400, ("prepare:headers",), True)


def _faces(at: Places) -> list[Step]:
    def face(short: str) -> Step:
        def commands() -> Sequence[Command]:
            folder = at.native / "tensorrt" / short
            argv = (folder / "face_proof", folder / PLUGIN, *sorted(at.cases.iterdir()))
            return [Command(tuple(map(str, argv)))]

        return Step(f"face:{short}", commands, 5, 120, ("prepare:native", "prepare:cases"))

    def engines() -> Sequence[Command]:
        folder = at.native / "tensorrt/8.6"
        out = at.work / "results" / "engine_proof"
        out.mkdir(parents=True, exist_ok=True)
        argv = (folder / "engine_proof", folder / PLUGIN, out, *sorted(at.cases.iterdir()))
        return [Command(tuple(map(str, argv)), at.tensorrt().env)]

    needs = ("prepare:native", "prepare:cases", "prepare:unpack")
    return [
        *(face(".".join(version.split(".")[:2])) for version in HEADERS),
        Step("engines:ops", engines, 35, 300, needs),
    ]


def _engine(at: Places, name: str, precision: str) -> list[Step]:
    """Build an engine by the command line, and hold it against the golden samples."""
    model, full = MODELS[name], f"{name}-{precision}"
    onnx, plan = at.model(name, precision, ".onnx"), at.model(name, precision, ".plan")
    golden = at.model(name, precision, ".golden.npz")

    def build() -> Sequence[Command]:
        arguments = ("build", onnx, "-o", plan, *_build_options(name, precision))
        output = at.result(f"build-{full}")
        # Should a layer have no kernel in the file's type, or a source of kernels not work here,
        # the rest can still be proven; the log keeps the first failure, the manifest the options.
        attempts = [
            at.tensorrt("-m", "gspn2_deploy", "--debug", *arguments, *words, output=output)
            for words in ((), ("--precision-constraints", "prefer"), ("--tactic-source", "none"))
        ]
        return [replace(attempts[0], otherwise=tuple(attempts[1:]))]

    def validate() -> Sequence[Command]:
        options = ["--golden", golden, "--engine", plan, "--json"]
        if model.registered is None:
            options += ["--require-top1", "all"]
        return [at.deploy("validate", onnx, *options, output=at.result(f"validate-{full}"))]

    return [
        _build_step("build", name, precision, build),
        Step(f"validate:{full}", validate, 25, 180, (f"build:{full}",)),
    ]


def _build_options(name: str, precision: str) -> list[object]:
    model = MODELS[name]
    level = model.level if precision == "fp16" else 1
    options = ["--backend", "tensorrt", "--optimization-level", level, "--json"]
    if model.size is not None:
        options += ["--profile", _profile(name)]
    return options


def _build_step(
    kind: str,
    name: str,
    precision: str,
    commands: Callable[[], Sequence[Command]],
    which: str | None = None,
) -> Step:
    """A step that builds an engine of a model, or a variant of it.

    One that is measured is built alone: beside other work its tactics are timed wrongly.
    """
    full, estimate = f"{name}-{precision}", MODELS[name].estimates[PRECISIONS.index(precision)]
    needs = ("prepare:machine", "prepare:native", f"export:{full}")
    title = full if which is None else f"{full}-{which}"
    limit = min(3 * estimate + 60, LONGEST)
    alone = precision == "fp16" and MODELS[name].level > 1
    return Step(f"{kind}:{title}", commands, estimate, limit, needs, alone=alone)


def _profile(name: str) -> str:
    model = MODELS[name]
    assert model.size is not None
    low, tuned, high = model.batches
    least, most = model.free or (model.size, model.size)
    return _images((low, least), (tuned, model.size), (high, most))


def _torch_bench(at: Places, name: str, precision: str) -> tuple[object, ...]:
    """PyTorch alone, in the precision of the ONNX file."""
    onnx, weights = at.model(name, precision, ".onnx"), at.weights(name, precision)
    command = ("-m", "gspn2_deploy", "-q", "bench", onnx, "--checkpoint", weights)
    return (*command, "--no-onnxruntime", "--device", "cuda")


def _compiled(at: Places, name: str, precision: str, batch: int) -> Path:
    """The file that is there once torch.compile's cache is full for this batch."""
    return at.inductor / f"{name}-{precision}-{batch}.full"


def _compile(at: Places, name: str, precision: str) -> list[Step]:
    """Fill torch.compile's cache, so that to measure takes seconds.

    max-autotune had tuned 44 kernels of tiny at batch 1 after 433 s and was not yet done, and each
    batch has its own: one step each, of those that the goals are of. What was tuned stays in the
    cache, so that they resume where they were killed.
    """

    def step(batch: int) -> Step:
        def commands() -> Sequence[Command]:
            touch = "import pathlib, sys; pathlib.Path(sys.argv[1]).touch()"
            return [
                _fill(at, name, precision, "max-autotune", [batch]),
                at.torch("-c", touch, _compiled(at, name, precision, batch)),
            ]

        ready = ("prepare:native", f"export:{name}-{precision}")
        full = f"compile:{name}-{precision}-{batch}"
        return Step(full, commands, 500, 900, ready, resumes=True)

    return [step(batch) for batch in TUNED_BATCHES]


def _compile_quickly(at: Places, name: str, precision: str) -> Step:
    """Fill torch.compile's cache for reduce-overhead at all batches, beside whatever runs."""

    def commands() -> Sequence[Command]:
        return [_fill(at, name, precision, "reduce-overhead", MODELS[name].batches[:3])]

    ready = ("prepare:native", f"export:{name}-{precision}")
    return Step(f"compile:{name}-{precision}", commands, 100, 400, ready)


def _fill(at: Places, name: str, precision: str, mode: str, batches: Sequence[int]) -> Command:
    """Compile and run once, for each batch."""
    effort = ("--warmup", 1, "--iterations", 1, "--seconds", 0)
    words = [word for batch in batches for word in ("--batch", batch)]
    options = ("--no-eager", "--compile", mode, *words, *effort)
    return at.torch(*_torch_bench(at, name, precision), *options)


def _bench(at: Places, name: str, precision: str, *, tuned: bool = False) -> list[Step]:
    """PyTorch on this GPU, then the engine beside it, on the same inputs; layer by layer too.

    Args:
        at: The folders.
        name: The model.
        precision: Of the ONNX file.
        tuned: Whether torch.compile is measured by max-autotune too, at the batches for which its
            cache is full, and not by reduce-overhead alone.
    """
    model, full = MODELS[name], f"{name}-{precision}"
    plan = at.model(name, precision, ".plan")
    rows, result = at.work / "results" / f"torch-{full}.json", at.result(f"bench-{full}")
    batches = [word for batch in model.batches[:3] for word in ("--batch", batch)]

    def ready_batches() -> list[int]:
        given = TUNED_BATCHES if tuned else ()
        return [b for b in given if _compiled(at, name, precision, b).is_file()]

    def torch() -> Sequence[Command]:
        command = _torch_bench(at, name, precision)
        eager = at.torch(*command, *batches, "--report", rows)
        both = at.torch(*command, "--compile", "reduce-overhead", *batches, "--report", rows)
        commands = [replace(both, otherwise=(eager,))]
        if words := [word for batch in ready_batches() for word in ("--batch", batch)]:
            options = ("--no-eager", "--compile", "max-autotune", *words, "--add", rows)
            # Where it fails, the rows of the others stand.
            kept = at.torch("-c", "")
            best = at.torch(*command, *options, "--report", rows)
            commands.append(replace(best, otherwise=(kept,)))
        return commands

    def engine() -> Sequence[Command]:
        arguments = ("bench", "--engine", plan, *batches, "--layers", "--add", rows, "--json")
        cost = at.torch(at.source / "tests/trt/format_cost.py", result)
        return [
            at.deploy(*arguments, output=result),
            replace(cost, output=at.result(f"formats-{full}")),
        ]

    ready = ("prepare:native", f"export:{full}")
    quick = _compile_quickly(at, name, precision)
    tunings = tuple(f"compile:{full}-{batch}" for batch in TUNED_BATCHES) if tuned else ()
    seconds = (100, 500) if tuned else (60, 400)
    engine_ready = (f"validate:{full}", f"torch:{full}")
    return [
        quick,
        Step(f"torch:{full}", torch, *seconds, ready, after=(quick.name, *tunings), alone=True),
        Step(f"bench:{full}", engine, 45, 200, engine_ready, alone=True),
    ]


def _variants(at: Places, name: str, precision: str) -> list[Step]:
    """The engine beside those by other options: each is compared, and measured twice."""
    model, full = MODELS[name], f"{name}-{precision}"
    onnx, usual = at.model(name, precision, ".onnx"), at.model(name, precision, ".plan")
    plans = {which: usual.with_name(f"{full}-{which}.plan") for which in VARIANTS}
    batches = [word for batch in model.batches[:3] for word in ("--batch", batch)]
    golden = at.model(name, precision, ".golden.npz")

    def build(which: str) -> Callable[[], Sequence[Command]]:
        words = ("build", onnx, "-o", plans[which], *VARIANTS[which])
        output = at.result(f"variant-{full}-{which}")
        return lambda: [
            at.tensorrt(
                "-m", "gspn2_deploy", *words, *_build_options(name, precision), output=output
            )
        ]

    def bench() -> Sequence[Command]:
        there = {"usual": usual, **plans}
        back = {f"{which}-again": plan for which, plan in reversed(there.items())}
        compared = [
            at.deploy("validate", onnx, "--golden", golden, "--engine", plan, "--json",
                      output=at.result(f"variant-validate-{full}-{which}"))
            for which, plan in plans.items()
        ]  # fmt: skip
        measured = [
            at.deploy("bench", "--engine", plan, *batches, "--layers", "--json",
                      output=at.result(f"variants-{full}-{which}"))
            for which, plan in (there | back).items()  # so that none has the warmer GPU
        ]  # fmt: skip
        return compared + measured

    steps = [_build_step("variant", name, precision, build(which), which) for which in VARIANTS]
    ready = (f"validate:{full}", *(step.name for step in steps))
    return [*steps, Step(f"variants:{full}", bench, 200, 500, ready, alone=True)]


def _runtime(at: Places) -> list[Step]:
    plan, bundle = at.work / "models/nano-fp32.plan", at.work / "nano.bundle"
    golden = at.work / "models/nano-fp32.golden.npz"
    kit = at.kit

    def make_bundle() -> Sequence[Command]:
        shutil.rmtree(bundle, ignore_errors=True)
        plugin = at.native / "tensorrt/8.6" / PLUGIN
        options = ("--plugin", plugin, "--library", at.native / "libgspn2_kernels.so")
        arguments = ("bundle", plan, *options, "--golden", golden, "-o", bundle)
        return [
            at.deploy(*arguments),
            at.deploy("verify", bundle, "--json", output=at.result("verify-nano")),
        ]

    def runner() -> Sequence[Command]:
        return [at.tensorrt(at.source / "tests/runners/run_on_gpu.py", plan, golden)]

    def tests() -> Sequence[Command]:
        path = os.pathsep.join(filter(None, [str(kit / "lib"), os.environ.get("LD_LIBRARY_PATH")]))
        env: Mapping[str, str] = {
            **at.torch().env,
            "GSPN2_DIGITS_BUNDLE": str(bundle),
            "TENSORRT_LIB_DIR": str(kit / "lib"),
            "LD_LIBRARY_PATH": path,
            "TENSORRT_ROOT": str(at.headers / HEADERS[0]),
        }
        options = ("-c", str(at.source / "pyproject.toml"), "-p", "no:cacheprovider")
        argv = (sys.executable, "-m", "pytest", "-v", "-m", "gpu", *options)
        return [Command((*argv, str(at.source / "tests/runtime")), env, said=("passed",))]

    return [
        # It looks at how much memory is free on the whole GPU.
        Step("runner:nano", runner, 10, 120, ("validate:nano-fp32",), alone=True),
        Step("bundle:nano", make_bundle, 10, 120, ("validate:nano-fp32",)),
        Step("runtime:gpu", tests, 35, 300, ("bundle:nano",)),
    ]
