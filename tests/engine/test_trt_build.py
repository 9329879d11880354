"""The library-facing part, in this process: op variants, and the check of a finished plan."""

from __future__ import annotations

import itertools
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from engine_models import conv_model, request_for, save
from gspn2_deploy.export.functions import Variant, build_function
from onnx import TensorProto, helper

from gspn2_deploy.build import build_engine, create_backend, trt_build, trt_network
from gspn2_deploy.build.translate import EngineLibraryError
from gspn2_deploy.manifest import ShapeRange
from gspn2_deploy.progress import Step
from gspn2_deploy.spec import (
    DTYPES,
    LINE_SCAN,
    LINE_SCAN_SHAPES,
    PROP2D,
    PROP2D_OPTIONAL,
    PROP2D_SHAPES,
    Direction,
    Normalize,
)

ELEMENT_TYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
}


class Channel:
    """Keeps what a child would send."""

    def __init__(self) -> None:
        self.records: list[tuple[int, str]] = []

    def log(self, level: int, text: str) -> None:
        self.records.append((level, text))

    def progress(
        self, fraction: float | None, detail: str | None, *, important: bool = False
    ) -> None:
        pass


@pytest.fixture
def session():
    from gspn2_deploy.build.tensorrt_rtx import _import_library

    return trt_build.Session(_import_library(), Channel())


def variants() -> list[Variant]:
    optional = [(), ("d",), ("d", "m")]
    prop2d = [
        Variant(PROP2D, normalize, None, given)
        for normalize, given in itertools.product(Normalize, optional)
    ]
    line_scan = [
        Variant(LINE_SCAN, normalize, direction)
        for normalize, direction in itertools.product(Normalize, Direction)
    ]
    return prop2d + line_scan


def variant_model(path: Path, variant: Variant, dtype: str, groups: int | str, chunk: int) -> Path:
    shapes = PROP2D_SHAPES if variant.op_type == PROP2D else LINE_SCAN_SHAPES
    *inputs, output = shapes
    given = [name for name in inputs if name not in PROP2D_OPTIONAL or name in variant.optional]
    extents = {"C": 2, "G": groups, "4": 4, "3": 3}
    attributes: dict[str, Any] = {"normalize": variant.normalize.value, "chunk": chunk}
    if variant.direction is not None:
        attributes["direction"] = variant.direction.value
    node = helper.make_node(
        variant.op_type, given, [output], name="op", domain="gspn2", **attributes
    )

    def value(name: str) -> Any:
        shape = [extents.get(extent, extent) for extent in shapes[name]]
        return helper.make_tensor_value_info(name, ELEMENT_TYPES[dtype], shape)

    graph = helper.make_graph([node], "op", [value(name) for name in given], [value(output)])
    save(graph, path, functions=[build_function(variant, variant.op_type, 20)])
    return path


@pytest.mark.tensorrt
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("variant", variants(), ids=lambda item: f"{item.op_type}-{item.suffix}")
def test_every_op_variant_parses(session: Any, tmp_path: Path, variant: Variant, dtype: str):
    """With dynamic N, H and W, shared and per-channel weights, whole lines and segments."""
    groups, chunk = (1, 0) if dtype == "float32" else (2, 3)
    path = variant_model(tmp_path / "op.onnx", variant, dtype, groups, chunk)
    request = request_for(path)
    trt_build.parse(session, request.onnx_path)
    summary = trt_network.summarise(session.trt, session.network)
    trt_network.check(summary, request)
    assert summary.propagations == {variant.op_type: 1}
    assert summary.outputs[0].dtype == dtype
    assert summary.layer_dtypes["float32"] > 0  # the state and every sum


@pytest.mark.tensorrt
@pytest.mark.parametrize(
    ("variant", "dtype", "chunk"),
    [
        (Variant(PROP2D, Normalize.SIGMOID, None, ("d", "m")), "float16", 3),
        (Variant(PROP2D, Normalize.SOFTMAX, None, ()), "bfloat16", 0),
        (Variant(LINE_SCAN, Normalize.NONE, Direction.BOTTOM_TO_TOP), "float32", 2),
    ],
    ids=lambda item: item.suffix if isinstance(item, Variant) else str(item),
)
def test_op_builds_with_every_extent_dynamic(
    tmp_path: Path, variant: Variant, dtype: str, chunk: int
):
    path = variant_model(tmp_path / "op.onnx", variant, dtype, 1, chunk)
    extents = {"N": (1, 2, 4), "H": (1, 7, 9), "W": (1, 5, 300)}
    profile = {}
    for tensor in request_for(path).inputs:
        shapes = [
            tuple(extents[e][at] if isinstance(e, str) else int(e or 0) for e in tensor.shape)
            for at in range(3)
        ]
        profile[tensor.name] = ShapeRange(*shapes)
    request = request_for(path, (profile,))
    built = create_backend("tensorrt-rtx").build(request, Step())
    assert request.plan_path.stat().st_size > 10_000
    assert built.layer_dtypes["float32"] > 0


@pytest.mark.tensorrt
def test_a_missing_body_is_noticed(session: Any, onnx_file: Path):
    request = request_for(onnx_file)
    trt_build.parse(session, request.onnx_path)
    summary = trt_network.summarise(session.trt, session.network)
    lost = SimpleNamespace(**{**vars(summary), "propagations": {}})
    with pytest.raises(EngineLibraryError, match="does not hold every GspnProp2D"):
        trt_network.check(lost, request)  # type: ignore[arg-type]


@pytest.mark.tensorrt
def test_messages_are_passed_on_by_level(session: Any, tmp_path: Path):
    path = conv_model(tmp_path / "m.onnx", body=False)
    with pytest.raises(EngineLibraryError):
        trt_build.parse(session, path)
    levels = {level for level, _ in session.channel.records}
    # Its errors arrive as an exception; as log records they are for debugging.
    assert max(levels) <= logging.INFO
    assert logging.DEBUG in levels


@pytest.mark.tensorrt
def test_truncated_plan_is_noticed_without_a_gpu(session: Any, onnx_file: Path):
    plan = build_engine(onnx_file).plan_path.read_bytes()
    request = request_for(onnx_file)
    assert trt_build.check_plan(session, plan, request)
    with pytest.raises(EngineLibraryError, match="plan is damaged"):
        trt_build.check_plan(session, plan[:-100], request)
    with pytest.raises(EngineLibraryError, match="plan is damaged"):
        trt_build.check_plan(session, b"not a plan" * 100, request)


class FakeEngine:
    """An engine as the library shows it once a GPU has loaded it."""

    def __init__(self, tensors: dict[str, tuple[str, str, tuple[int, ...]]]) -> None:
        self.tensors = tensors
        self.num_io_tensors = len(tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[index]

    def get_tensor_mode(self, name: str) -> str:
        return self.tensors[name][0]

    def get_tensor_dtype(self, name: str) -> Any:
        return SimpleNamespace(name=self.tensors[name][1])

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.tensors[name][2]


def loaded(engine: FakeEngine) -> Any:
    runtime = SimpleNamespace(deserialize_cuda_engine=lambda plan: engine)
    trt = SimpleNamespace(
        Runtime=lambda logger: runtime, TensorIOMode=SimpleNamespace(INPUT="in", OUTPUT="out")
    )
    return SimpleNamespace(trt=trt, logger=None, take_errors=list)


SOUND = {
    "images": ("in", "FLOAT", (-1, 3, 16, 16)),
    "logits": ("out", "FLOAT", (-1, 4)),
}


def test_a_loaded_engine_is_held_against_the_file(onnx_file: Path):
    said = trt_build.check_plan(loaded(FakeEngine(SOUND)), b"", request_for(onnx_file))
    assert said == ("the engine was loaded but not run",)


@pytest.mark.parametrize(
    "change",
    [
        {"logits": ("out", "HALF", (-1, 4))},
        {"logits": ("out", "FLOAT", (-1, 5))},
        {"logits": ("out", "FLOAT", (4,))},
        {"images": ("out", "FLOAT", (-1, 3, 16, 16))},
        {"surplus": ("out", "FLOAT", (1,))},
    ],
)
def test_an_engine_that_differs_is_refused(
    onnx_file: Path, change: dict[str, tuple[str, str, tuple[int, ...]]]
):
    with pytest.raises(EngineLibraryError, match="are not those of the ONNX file"):
        trt_build.check_plan(loaded(FakeEngine({**SOUND, **change})), b"", request_for(onnx_file))
