"""From a request to figures: the subjects, the same inputs for each, one after the other."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gspn2_deploy.bench import machine
from gspn2_deploy.bench.layers import report_layers
from gspn2_deploy.bench.report import (
    BenchReport,
    LayerTable,
    Row,
    check_comparable,
    read_rows,
)
from gspn2_deploy.bench.source import Source, read_source
from gspn2_deploy.bench.subjects import (
    CPU_PLACE,
    CUDA_PLACE,
    CUDA_PROVIDER,
    OnnxRuntimeSubject,
    Subject,
    TorchSubject,
)
from gspn2_deploy.bench.timing import Effort, measure
from gspn2_deploy.errors import DtypeError, Gspn2Error, PlatformError, ShapeError, UsageError
from gspn2_deploy.export import metadata as keys
from gspn2_deploy.runners.base import Arrays
from gspn2_deploy.runners.onnxruntime_runner import CPU_PROVIDER
from gspn2_deploy.validate.compare import compare_outputs
from gspn2_deploy.validate.samples import Sample, random_samples
from gspn2_deploy.validate.tolerances import Tolerance

if TYPE_CHECKING:
    from torch import nn

COMPILE_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
_LAYER_RUNS = 20
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class BenchRequest:
    """What is to be measured, and how.

    Args:
        onnx: The ONNX file, or None to rely on the plans' manifests.
        model: The PyTorch model in float32, or None to leave PyTorch out. What ``torch.compile``
            or ``DataParallel`` wrapped around it is left out: ``compile_modes`` says what to run.
        engines: TensorRT plans.
        eager: Whether to run PyTorch as it is.
        compile_modes: Modes of ``torch.compile`` to run too.
        onnxruntime: Whether to run onnxruntime, where there is an ONNX file; None to do so where
            it is installed with the device's provider, and to say so elsewhere.
        graph: Whether to run engines as replayed CUDA graphs too.
        device: Where PyTorch and onnxruntime run: ``cpu``, ``cuda`` or ``cuda:N``; None for a GPU
            where there are engines, the CPU elsewhere.
        providers: onnxruntime's execution providers; empty for the device's.
        batches: Batch sizes; empty for the file's, or 1.
        sizes: Image sizes in pixels; empty for the file's.
        effort: How much to run.
        threads: Of PyTorch and onnxruntime on the CPU; 0 for their own default.
        tf32: Whether PyTorch may round float32 products to TF32 on a GPU. Engines were built with
            it or without: without by default.
        seed: Of the inputs.
        layers: Whether to profile the engines layer by layer.
        earlier: Reports whose rows stand in the same table.
        allow_different_devices: Whether rows of several devices may stand in one table.
    """

    onnx: Path | None = None
    model: nn.Module | None = None
    engines: tuple[Path, ...] = ()
    eager: bool = True
    compile_modes: tuple[str, ...] = ()
    onnxruntime: bool | None = None
    graph: bool = True
    device: str | None = None
    providers: tuple[str, ...] = ()
    batches: tuple[int, ...] = ()
    sizes: tuple[tuple[int, int], ...] = ()
    effort: Effort = field(default_factory=Effort)
    threads: int = 0
    tf32: bool = False
    seed: int = 0
    layers: bool = False
    earlier: tuple[Path, ...] = ()
    allow_different_devices: bool = False

    def check(self) -> None:
        """Raise UsageError when an option would do nothing."""
        pytorch = {"--compile": self.compile_modes, "--tf32": self.tf32}
        onnxruntime = {"--onnxruntime": self.onnxruntime, "--provider": self.providers}
        engines = {"--layers": self.layers}
        needing = (
            (self.model is None, pytorch, "the PyTorch model", "add --model or --checkpoint"),
            (self.onnx is None, onnxruntime, "an ONNX file", "add ONNX_FILE"),
            (not self.engines, engines, "an engine", "add --engine PLAN"),
        )
        for absent, options, what, hint in needing:
            given = [option for option, value in options.items() if value]
            if absent and given:
                verb = "needs" if len(given) == 1 else "need"
                raise UsageError(f"{' and '.join(given)} {verb} {what}", hint=hint)
        if self.providers and self.onnxruntime is False:
            raise UsageError(
                "--provider is for onnxruntime, which --no-onnxruntime leaves out",
                hint="leave out one of them",
            )

    @property
    def place(self) -> str:
        """Where PyTorch and onnxruntime run, with the GPU's number."""
        device = self.device or (CUDA_PLACE if self.engines else CPU_PLACE)
        name, _, index = device.partition(":")
        if name == CPU_PLACE and not index:
            return CPU_PLACE
        if name != CUDA_PLACE or (index and not index.isdecimal()):
            raise UsageError("no such device", got=device, expected="cpu, cuda or cuda:N")
        return f"{CUDA_PLACE}:{index or 0}"


def run_benchmark(
    request: BenchRequest, *, on_step: Callable[[str], None] | None = None
) -> BenchReport:
    """Measure everything that is asked for.

    Every subject gets the same inputs. They run one after the other: thread pools spin on for a
    while after a run and would take the cores from one another.

    Args:
        request: What to do.
        on_step: Told what runs.

    Returns:
        The report. A subject that failed on some inputs has a row that says so.

    Raises:
        UsageError: Nothing is to be measured, or devices or models would be mixed.
        BenchmarkFileError: A report of an earlier benchmark cannot be read.
        OnnxFileError: The ONNX file is missing, damaged, or not one of ours.
        ManifestError: A plan was built from another file, is altered, or does not fit here.
        ShapeError: Batches or sizes do not fit the file.
        MissingDependencyError: A package is not installed.
        PlatformError: There is no such GPU, the provider cannot start, or it is all that is
            missing.
    """
    request.check()
    tell = on_step or (lambda _: None)
    earlier = tuple(row for path in request.earlier for row in read_rows(path))
    rows: list[Row] = list(earlier)
    layers: list[LayerTable] = []
    of_file: tuple[str, ...] = ()
    if request.onnx is not None or request.engines:
        source = read_source(request.onnx, request.engines)
        of_file = source.warnings
        for warning in of_file:  # now: the measuring may take minutes
            _LOG.warning("%s", warning)
        subjects = _subjects(request, source)
        _check_places(subjects, request)
        samples = _samples(request, source)
        _check_before(earlier, source, subjects, request)
        first: dict[str, Arrays] = {}
        for subject in subjects:
            with subject:
                for sample in samples:
                    tell(f"{subject.name}, {sample.name}")
                    row = _measure(subject, sample, source, request.effort, first)
                    rows.append(row)
                    if request.layers and row.error is None:
                        layers += _layers(subject, sample)
    elif not earlier:
        raise UsageError(
            "there is nothing to measure",
            expected="an ONNX file, --engine PLAN, or earlier reports (--add)",
            hint=None
            if request.model is None
            else "give the file that the model was exported to: it says inputs and precision",
        )
    warnings = check_comparable(rows, allow_different_devices=request.allow_different_devices)
    return BenchReport(
        tuple(rows),
        request.effort,
        {
            "software": machine.software(),
            "cpu": machine.cpu_device().as_dict(),
            "load_average": machine.load_average(),
            "created": machine.now(),
        },
        tuple(layers),
        (*filter(None, [_left_out(request)]), *warnings, *_doubts(rows)),
        of_file,
    )


def _subjects(request: BenchRequest, source: Source) -> list[Subject]:
    place = request.place
    subjects: list[Subject] = []
    modes = ([None] if request.eager else []) + list(request.compile_modes)
    if request.model is not None and modes:
        model = _prepared(request.model, source)
        names = [tensor.name for tensor in source.inputs]
        subjects += [
            TorchSubject(
                model,
                names,
                source.outputs,
                place=place,
                compile_mode=mode,
                threads=request.threads,
                allow_tf32=request.tf32,
            )
            for mode in modes
        ]
    if request.onnx is not None and _left_out(request) is None:
        subjects.append(
            OnnxRuntimeSubject(
                request.onnx,
                providers=_providers(request),
                place=place,
                threads=request.threads,
            )
        )
    if request.engines:
        from gspn2_deploy.bench.engine import EngineSubject

        index = int(place.partition(":")[2] or 0)
        labels = [path.stem for path in request.engines] if len(request.engines) > 1 else [None]
        for path, label in zip(request.engines, labels, strict=True):
            subjects += [
                EngineSubject(path, device=index, graph=graph, label=label)
                for graph in ((False, True) if request.graph else (False,))
            ]
    if not subjects:
        raise _nothing_left(request)
    return subjects


def _nothing_left(request: BenchRequest) -> Gspn2Error:
    problem = "nothing is left to measure"
    expected = "PyTorch (--model or --checkpoint), onnxruntime, or an engine (--engine)"
    reason = _left_out(request)
    if not reason:  # the options leave everything out
        return UsageError(problem, expected=expected)
    on_gpu = request.place != CPU_PLACE
    install = f"pip install 'gspn2-deploy[{'onnxruntime-gpu' if on_gpu else 'onnxruntime'}]'"
    if "not installed" not in reason:  # the two builds are one Python package
        install = f"pip uninstall onnxruntime && {install}"
    others = ", or leave out --device to run on the CPU" if on_gpu else ""
    return PlatformError(
        f"{problem}: {reason}", expected=expected, hint=f"{install}; or add one of these{others}"
    )


def _providers(request: BenchRequest) -> tuple[str, ...]:
    return request.providers or (CPU_PROVIDER if request.place == CPU_PLACE else CUDA_PROVIDER,)


def _left_out(request: BenchRequest) -> str | None:
    """Why onnxruntime is left out; None where it is not. Empty where nobody need be told."""
    if request.onnx is None or request.onnxruntime is False:
        return ""
    if request.onnxruntime or request.providers:
        return None
    try:
        import onnxruntime
    except ImportError:
        return "onnxruntime was left out: it is not installed"
    missing = set(_providers(request)) - set(onnxruntime.get_available_providers())
    if not missing:
        return None
    return f"onnxruntime was left out: this build of it has no {', '.join(sorted(missing))}"


def _prepared(model: nn.Module, source: Source) -> nn.Module:
    """The model in the file's precision."""
    from gspn2_deploy.export.precision import plan_from_metadata, prepare_model
    from gspn2_deploy.models.wrappers import unwrap

    model = unwrap(model)
    told = source.metadata.get(keys.CONFIG)
    found = keys.config_json(getattr(model, "config", None))
    if told and found and told != found:
        raise UsageError(
            "the PyTorch model is not the one that the file was exported from: its configuration "
            "differs",
            got=found,
            expected=told,
            hint="give the same --model and --model-arg as to export",
        )
    prepared: nn.Module = prepare_model(model, plan_from_metadata(source.metadata))
    return prepared


def _check_places(subjects: Sequence[Subject], request: BenchRequest) -> None:
    """Refuse several devices before anything costs time."""
    places: dict[str, list[str]] = {}
    for subject in subjects:
        places.setdefault(subject.place, []).append(subject.name)
    if len(places) > 1 and not request.allow_different_devices:
        raise UsageError(
            "the executors would run on several devices, whose times are not compared",
            got="; ".join(f"{place}: {', '.join(names)}" for place, names in places.items()),
            expected="one device",
            hint="choose one with --device, leave executors out (--no-eager, --no-onnxruntime), "
            "or add --allow-different-devices",
        )


def _check_before(
    earlier: Sequence[Row], source: Source, subjects: Sequence[Subject], request: BenchRequest
) -> None:
    """Refuse earlier rows that do not fit before anything costs time."""
    if not earlier:
        return
    on_cpu = subjects[0].place == CPU_PLACE
    device = machine.cpu_device() if on_cpu else machine.gpu_device()
    here = Row(subjects[0].name, device, source.model, 1, {}, None)
    check_comparable([*earlier, here], allow_different_devices=request.allow_different_devices)


def _samples(request: BenchRequest, source: Source) -> list[Sample]:
    fixed = source.inputs[0].shape[0] if source.inputs and source.inputs[0].shape else None
    batches = request.batches or ((fixed,) if isinstance(fixed, int) else (1,))
    sizes = request.sizes
    image = next((item for item in source.inputs if len(item.shape) == 4), None)
    if not sizes and image is not None:
        default = source.image_size or (64, 64)
        height, width = (
            extent if isinstance(extent, int) else fallback
            for extent, fallback in zip(image.shape[2:], default, strict=True)
        )
        sizes = ((height, width),)
    drawn = random_samples(source.inputs, batches=batches, sizes=sizes, count=1, seed=request.seed)
    return list(drawn)


def _measure(
    subject: Subject,
    sample: Sample,
    source: Source,
    effort: Effort,
    first: dict[str, Arrays],
) -> Row:
    """Measure one subject on one sample; a failure becomes a row too."""
    common: dict[str, Any] = {
        "subject": subject.name,
        "device": subject.device,
        "model": source.model,
        "items": next(iter(sample.shapes.values()))[0],
        "shapes": sample.shapes,
    }
    on_gpu = subject.place != CPU_PLACE
    try:
        began = time.perf_counter()
        subject.prepare(sample.inputs)
        seconds = time.perf_counter() - began
        before = machine.gpu_state(subject.bus_id()) if on_gpu else None
        measured = measure(subject.run, subject.burst, effort)
        after = machine.gpu_state(subject.bus_id()) if on_gpu else None
        agrees = _agreement(sample, subject.outputs(), source.tolerance, first)
    except (PlatformError, ShapeError, DtypeError) as error:
        return Row(**common, measured=None, description=subject.describe(), error=str(error))
    return Row(
        **common,
        measured=measured,
        prepare_seconds=seconds,
        memory=subject.memory(),
        agrees=agrees,
        state={"before": before, "after": after} if on_gpu else {},
        description=subject.describe(),
    )


def _agreement(
    sample: Sample, outputs: Arrays, tolerance: Tolerance | None, first: dict[str, Arrays]
) -> bool | None:
    """Whether the outputs are those of the first subject; None for the first itself."""
    if sample.name not in first:
        first[sample.name] = outputs
        return None
    if tolerance is None:
        return None
    results = compare_outputs(first[sample.name], outputs, tolerance)
    return all(result.passed for result in results)


def _layers(subject: Subject, sample: Sample) -> list[LayerTable]:
    from gspn2_deploy.bench.engine import EngineSubject

    # A graph has the same layers.
    if not isinstance(subject, EngineSubject) or subject.replays:
        return []
    report = report_layers(subject.layers(_LAYER_RUNS), subject.copy_bytes_per_second())
    return [LayerTable(subject.name, sample.shapes, report)]


def _doubts(rows: Sequence[Row]) -> tuple[str, ...]:
    now = [row for row in rows if row.earlier is None]
    disturbed = [f"{row.subject} {_shape(row)}" for row in now if not row.steady]
    differing = [f"{row.subject} {_shape(row)}" for row in now if row.agrees is False]
    found = []
    if disturbed:
        found.append(
            "disturbed by other work: the slowest tenth of the runs took twice as long as the "
            f"fastest, or more: {', '.join(disturbed)}"
        )
    if differing:
        found.append(
            f"gives something else than {now[0].subject}: {', '.join(differing)}; without the "
            "checkpoint that was exported that is to be expected, and the times still hold"
        )
    return tuple(found)


def _shape(row: Row) -> str:
    return ", ".join("x".join(map(str, shape)) for shape in row.shapes.values())
