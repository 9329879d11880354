"""The steps of ``gpu_day.py``: what is proven on the GPU, in the order of what matters most.

Two Pythons take part: the machine's own, with PyTorch, exports and measures PyTorch; the one that
comes with TensorRT 8.6, without PyTorch, builds, validates and measures engines, both by the
command line of gspn2-deploy. Estimates are for an H100 or H200 with 16 cores.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gpu_day import Command, Step

HEADERS = ("8.6.0", "10.16", "11.1")
SEED = 0
BATCHES = (1, 8, 64)
PRECISIONS = ("fp32", "fp16")
PLUGIN = "libgspn2_tensorrt.so"


@dataclass(frozen=True)
class Model:
    """A model that is exported, built and proven.

    Args:
        registered: Its registered name; None for the trained digits model.
        size: Height and width of its images; None for its own.
        batches: Of the golden samples; the first, the second and the last are the profile's.
        level: The builder's optimization level in fp16; in fp32 it is 1. Lower ones build faster,
            and run slower.
        estimate: Seconds that a build takes.
    """

    registered: str | None
    size: tuple[int, int] | None = None
    batches: tuple[int, ...] = BATCHES
    level: int = 1
    estimate: int = 60


# The goals for speed are those of tiny in fp16: it is built as a user would. The others prove that
# they are right.
MODELS = {
    "nano": Model(None, batches=(1, 8, 64, 64, 64, 64, 64, 31), level=1, estimate=35),
    "tiny": Model("tiny", level=3, estimate=100),
    "tiny-512x768": Model("tiny", size=(512, 768), batches=(1, 2, 8), estimate=60),
    "small": Model("small", estimate=60),
    "base": Model("base", estimate=80),
}


@dataclass(frozen=True)
class Places:
    """Where everything lies below the work folder, and the environments of the Pythons."""

    work: Path

    @property
    def source(self) -> Path:
        """The tree: the copy that was taken with the first part, or this one."""
        copied = self.work / "src"
        return copied if copied.is_dir() else Path(__file__).resolve().parents[2]

    def __getattr__(self, name: str) -> Path:
        """Any other folder by its name."""
        if name.startswith("_"):
            raise AttributeError(name)
        return self.work / name

    def model(self, name: str, precision: str, ending: str) -> Path:
        """A file of a model."""
        return self.work / "models" / f"{name}-{precision}{ending}"

    def result(self, name: str) -> Path:
        """A file that a command's JSON goes to."""
        return self.work / "results" / f"{name}.json"

    def torch(self, *arguments: object) -> Command:
        """A command of the Python with PyTorch."""
        env = {
            "PYTHONPATH": os.pathsep.join(map(str, (self.pkg, self.source / "tests"))),
            "GSPN2_KERNELS_LIBRARY": str(self.native / "libgspn2_kernels.so"),
            "OMP_NUM_THREADS": "4",
            "TORCHINDUCTOR_CACHE_DIR": str(self.work / "inductor"),
        }
        return Command((sys.executable, *map(str, arguments)), env)

    def without_onnxruntime(self, command: Command) -> Command:
        """The same command where onnxruntime counts as not installed."""
        folder = self.work / "without"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "onnxruntime.py").write_text('raise ImportError("left out")\n')
        path = os.pathsep.join([str(folder), command.env["PYTHONPATH"]])
        return replace(command, env={**command.env, "PYTHONPATH": path})

    def tensorrt(self, *arguments: object, **options: object) -> Command:
        """A command of the Python with TensorRT."""
        kit = self.kit
        path = (kit / "site", self.site, self.pkg, self.source / "tests")
        libraries = [str(kit / "lib"), str(kit / "python/lib")]
        libraries += filter(None, [os.environ.get("LD_LIBRARY_PATH")])
        env = {
            "PYTHONPATH": os.pathsep.join(map(str, path)),
            "LD_LIBRARY_PATH": os.pathsep.join(libraries),
            "GSPN2_TENSORRT_PLUGIN": str(self.native / "tensorrt/8.6" / PLUGIN),
            "GSPN2_CACHE_DIR": str(self.work / "cache"),
        }
        python = kit / "python/bin/python3.11"
        return Command((str(python), *map(str, arguments)), env, **options)  # type: ignore[arg-type]

    def deploy(self, *arguments: object, **options: object) -> Command:
        """gspn2-deploy in the Python with TensorRT."""
        return self.tensorrt("-m", "gspn2_deploy", "-q", *arguments, **options)


def make_steps(work: Path) -> list[Step]:
    """Return the steps, in order."""
    at = Places(work)
    steps = [*_preparation(at), *_faces(at), _compile(at, "tiny", "fp16")]
    steps += _engine(at, "nano", "fp32") + _engine(at, "nano", "fp16")
    steps += _runtime(at)
    for precision in ("fp16", "fp32"):
        steps += _engine(at, "tiny", precision)
    steps += _bench(at, "tiny", "fp16", "max-autotune") + _bench(at, "tiny", "fp32")
    for name in ("tiny-512x768", "small", "base"):
        for precision in ("fp16", "fp32"):
            steps += _engine(at, name, precision)
    steps += _options(at)
    for name in ("tiny-512x768", "small", "base"):
        steps += _bench(at, name, "fp16")
    return steps


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
        Step("prepare:headers", headers, 5, 60, background=True),
        Step("prepare:native", native, 60, 400, ("prepare:headers",), background=True),
        Step("prepare:cases", cases, 30, 300, ("prepare:headers",), background=True),
    ]
    steps += [_export(at, name, precision) for name in MODELS for precision in PRECISIONS]
    steps += [
        Step("prepare:unpack", unpack, 60, 240),
        Step("prepare:machine", machine, 15, 60, ("prepare:unpack",)),
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
        weights = at.work / "models" / f"{name}-{precision}.safetensors"
        onnx, golden = at.model(name, precision, ".onnx"), at.model(name, precision, ".golden.npz")
        inputs = at.model(name, precision, ".inputs.npz")
        made = []
        export: list[object] = ["-m", "gspn2_deploy", "-q", "export", "--precision", precision]
        if model.registered is None:
            digits = at.source / "examples/digits"
            weights, inputs = digits / "nano-digits.safetensors", digits / "heldout.npz"
        else:
            made.append(at.torch(helper, "weights", model.registered, SEED, weights))
            size = "x".join(map(str, model.size or (224, 224)))
            made.append(at.torch(helper, "inputs", max(model.batches), size, SEED, inputs))
            export += ["--image-size", size]
        export += ["--checkpoint", weights, "--output", onnx]
        export += ["--golden", golden, "--golden-inputs", inputs]
        batches = ",".join(map(str, model.batches))
        exported = at.torch(*export)
        # An onnxruntime before 1.24 does not run the files: they are then not compared with it.
        exported = replace(exported, otherwise=(at.without_onnxruntime(exported),))
        return [*made, exported, at.torch(helper, "regroup", golden, batches)]

    return Step(f"export:{name}-{precision}", commands, 60, 400, ("prepare:headers",), True)


def _faces(at: Places) -> list[Step]:
    def face(short: str) -> Step:
        def commands() -> Sequence[Command]:
            folder = at.native / "tensorrt" / short
            argv = (folder / "face_proof", folder / PLUGIN, *sorted(at.cases.iterdir()))
            return [Command(tuple(map(str, argv)))]

        return Step(f"face:{short}", commands, 15, 120, ("prepare:native", "prepare:cases"))

    def engines() -> Sequence[Command]:
        folder = at.native / "tensorrt/8.6"
        out = at.work / "results" / "engine_proof"
        out.mkdir(parents=True, exist_ok=True)
        argv = (folder / "engine_proof", folder / PLUGIN, out, *sorted(at.cases.iterdir()))
        return [Command(tuple(map(str, argv)), at.tensorrt().env)]

    needs = ("prepare:native", "prepare:cases", "prepare:unpack")
    return [
        *(face(".".join(version.split(".")[:2])) for version in HEADERS),
        Step("engines:ops", engines, 90, 300, needs),
    ]


def _engine(at: Places, name: str, precision: str) -> list[Step]:
    """Build an engine by the command line, and hold it against the golden samples."""
    model, full = MODELS[name], f"{name}-{precision}"
    onnx, plan = at.model(name, precision, ".onnx"), at.model(name, precision, ".plan")
    golden = at.model(name, precision, ".golden.npz")

    def build() -> Sequence[Command]:
        level = model.level if precision == "fp16" else 1
        options = ["--backend", "tensorrt", "--optimization-level", level, "--json"]
        if model.size is not None:
            profile = _profile(name)
            options += ["--profile", profile]
        arguments, output = ("build", onnx, "-o", plan, *options), at.result(f"build-{full}")
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

    needs = ("prepare:machine", "prepare:native", f"export:{full}")
    return [
        Step(f"build:{full}", build, model.estimate, 4 * model.estimate + 60, needs),
        Step(f"validate:{full}", validate, 25, 180, (f"build:{full}",)),
    ]


def _profile(name: str) -> str:
    model = MODELS[name]
    assert model.size is not None
    low, tuned, high = model.batches
    shapes = [f"{batch}x3x{model.size[0]}x{model.size[1]}" for batch in (low, tuned, high)]
    return f"images={':'.join(shapes)}"


def _torch_bench(at: Places, name: str, precision: str) -> tuple[object, ...]:
    """PyTorch alone, in the precision of the ONNX file."""
    onnx = at.model(name, precision, ".onnx")
    weights = at.model(name, precision, ".safetensors")
    command = ("-m", "gspn2_deploy", "-q", "bench", onnx, "--checkpoint", weights)
    return (*command, "--no-onnxruntime", "--device", "cuda")


def _compile(at: Places, name: str, precision: str) -> Step:
    """Fill torch.compile's cache, so that to measure takes seconds."""

    def commands() -> Sequence[Command]:
        batches = [word for batch in MODELS[name].batches[:3] for word in ("--batch", batch)]
        effort = ("--warmup", 1, "--iterations", 1, "--seconds", 0)
        options = ("--no-eager", "--compile", "max-autotune", *batches, *effort)
        return [at.torch(*_torch_bench(at, name, precision), *options)]

    ready = ("prepare:native", f"export:{name}-{precision}")
    return Step(f"compile:{name}-{precision}", commands, 120, 500, ready)


def _bench(at: Places, name: str, precision: str, *compile_modes: str) -> list[Step]:
    """PyTorch on this GPU, then the engine beside it, on the same inputs; layer by layer too."""
    model, full = MODELS[name], f"{name}-{precision}"
    plan = at.model(name, precision, ".plan")
    rows, result = at.work / "results" / f"torch-{full}.json", at.result(f"bench-{full}")
    batches = [word for batch in model.batches[:3] for word in ("--batch", batch)]

    def torch() -> Sequence[Command]:
        modes = [word for mode in compile_modes for word in ("--compile", mode)]
        return [at.torch(*_torch_bench(at, name, precision), *modes, *batches, "--report", rows)]

    def engine() -> Sequence[Command]:
        arguments = ("bench", "--engine", plan, *batches, "--layers", "--add", rows, "--json")
        cost = at.torch(at.source / "tests/trt/format_cost.py", result)
        return [
            at.deploy(*arguments, output=result),
            replace(cost, output=at.result(f"formats-{full}")),
        ]

    ready = ("prepare:native", f"export:{full}")
    return [
        Step(f"torch:{full}", torch, 40, 300, ready),
        Step(f"bench:{full}", engine, 30, 150, (f"validate:{full}", f"torch:{full}")),
    ]


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
        Step("runner:nano", runner, 20, 120, ("validate:nano-fp32",)),
        Step("bundle:nano", make_bundle, 20, 120, ("validate:nano-fp32",)),
        Step("runtime:gpu", tests, 60, 300, ("bundle:nano",)),
    ]


def _options(at: Places) -> list[Step]:
    """Builds of nano with each option of the command line that 8.6 has, and what it refuses."""
    onnx = at.work / "models/nano-fp16.onnx"
    golden = at.work / "models/nano-fp16.golden.npz"
    load = at.source / "tests/trt/load_plan.py"

    def built(name: str, *options: str, validated: bool = True, **checks: object) -> Step:
        plan = at.work / "plans" / f"{name}.plan"

        def commands() -> Sequence[Command]:
            arguments = ("build", onnx, "-o", plan, "--backend", "tensorrt", *options, "--json")
            made = [at.deploy(*arguments, output=at.result(f"option-{name}"))]
            if validated:
                made.append(at.deploy("validate", onnx, "--golden", golden, "--engine", plan))
            if checks:
                arguments = (load, plan, *(f"{key}={value}" for key, value in checks.items()))
                made.append(at.tensorrt(*arguments, output=at.result(f"load-{name}")))
            return made

        return Step(f"option:{name}", commands, 35, 150, ("build:nano-fp16",))

    def refused() -> Sequence[Command]:
        plan = at.work / "plans/refused.plan"
        build = ("build", onnx, "-o", plan, "--backend", "tensorrt")
        return [
            at.deploy(
                *build, "--weights", "stripped", codes=(2,), said=("TensorRT 10.0 or later",)
            ),
            at.deploy(
                *build,
                *("--hardware-compatibility", "same-compute-capability"),
                codes=(2,),
                said=("TensorRT 10.12 or later",),
            ),
            at.deploy(
                *build, "--compute-capability", "8.0", codes=(2,), said=("only for the GPU",)
            ),
        ]

    plan = at.work / "models/nano-fp16.plan"

    def unplugged() -> Sequence[Command]:
        return [
            at.tensorrt(load, plan, "plugin=no", "loads=no", output=at.result("load-unplugged"))
        ]

    several = ["images=1x1x8x8", "images=8x1x8x8:16x1x8x8:64x1x8x8"]
    return [
        Step("option:refused", refused, 40, 120, ("build:nano-fp16",)),
        Step("option:no-plugin", unplugged, 15, 60, ("build:nano-fp16",)),
        built("two-profiles", *(word for text in several for word in ("--profile", text))),
        built("embedded", "--embed-plugin", plugin="no", loads="yes"),
        built("refittable", "--weights", "refittable"),
        built("ampere-plus", "--hardware-compatibility", "ampere-plus"),
        built("no-sources", "--tactic-source", "none"),
        built("level-5", "--optimization-level", "5"),
        built(
            "version-compatible",
            *("--version-compatible", "--exclude-lean-runtime"),
            validated=False,
        ),
    ]
