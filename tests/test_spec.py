"""Everything that names the op is held against the one definition."""

import inspect
import re
from pathlib import Path

import pytest
import torch

from gspn2_deploy import ops, spec

ROOT = Path(__file__).parents[1]


def schema_arguments(name):
    return {
        argument.name: argument
        for argument in getattr(torch.ops.gspn2, name).default._schema.arguments
    }


@pytest.mark.parametrize(
    "name, shapes, attributes, result",
    [
        ("prop2d", spec.PROP2D_SHAPES, spec.PROP2D_ATTRIBUTES, "y"),
        ("line_scan", spec.LINE_SCAN_SHAPES, spec.LINE_SCAN_ATTRIBUTES, "h"),
    ],
)
def test_torch_schema_follows_the_definition(name, shapes, attributes, result):
    arguments = schema_arguments(name)
    tensors = [key for key in shapes if key != result]
    assert list(arguments) == [*tensors, *attributes]
    for key, default in attributes.items():
        assert arguments[key].default_value == default
    optional = spec.PROP2D_OPTIONAL if name == "prop2d" else ()
    for key in tensors:
        assert (str(arguments[key].type) == "Optional[Tensor]") == (key in optional)


def test_public_functions_document_every_shape():
    for function, shapes in (
        (ops.prop2d, spec.PROP2D_SHAPES),
        (ops.line_scan, spec.LINE_SCAN_SHAPES),
    ):
        text = inspect.getdoc(function._init_fn)
        for shape in shapes.values():
            assert f"({', '.join(shape)}" in text, shape


def test_c_header_enumerations_follow_the_definition():
    header = (ROOT / "plugins/include/gspn2/kernels.h").read_text()
    for order, direction in enumerate(spec.DIRECTIONS):
        assert re.search(rf"GSPN2_{direction.name}\s*=\s*{order}\b", header), direction
    for mode in spec.Normalize:
        assert f"GSPN2_NORMALIZE_{mode.name}" in header
    for dtype in spec.DTYPES:
        assert re.search(rf"GSPN2_{dtype.upper()}\s*=", header), dtype


def test_c_header_limits_follow_the_definition():
    header = (ROOT / "plugins/include/gspn2/kernels.h").read_text()
    for name in (
        "PROJECTION_MAX_CHANNELS",
        "DEPTHWISE_NORM_KERNEL",
        "DEPTHWISE_NORM_MAX_CHANNELS",
    ):
        assert f"#define GSPN2_{name} {getattr(spec, name)}\n" in header, name


def test_direction_properties():
    assert [d.horizontal for d in spec.DIRECTIONS] == [True, True, False, False]
    assert [d.reverse for d in spec.DIRECTIONS] == [False, True, False, True]
    assert all(d.opposite.opposite is d and d.opposite is not d for d in spec.DIRECTIONS)


@pytest.mark.parametrize(
    "op_type, shapes, attributes",
    [
        (spec.PROP2D, spec.PROP2D_SHAPES, spec.PROP2D_ATTRIBUTES),
        (spec.LINE_SCAN, spec.LINE_SCAN_SHAPES, spec.LINE_SCAN_ATTRIBUTES),
    ],
)
def test_the_operator_page_follows_the_definition(op_type, shapes, attributes):
    page = (ROOT / "docs/operator.md").read_text()
    section = page.split(f"## {op_type}\n")[1].split("\n## ")[0]
    documented = dict(re.findall(r"^\| `(\w+)` \| (\([^|]*\)) \|", section, flags=re.MULTILINE))
    assert list(documented) == list(shapes)
    for name, shape in shapes.items():
        expected = f"({shape[0]},)" if len(shape) == 1 else f"({', '.join(shape)})"
        assert documented[name] == expected
    listed = ", ".join(f"`{key}` = `{value}`" for key, value in attributes.items())
    assert f"Attributes: {listed}." in section
    assert f"ONNX domain `{spec.ONNX_DOMAIN}`, version {spec.ONNX_DOMAIN_VERSION}." in page
    for mode in spec.Normalize:
        assert f"| `{mode.value}` |" in page
    assert ", ".join(f"`{d.value}`" for d in spec.DIRECTIONS) in re.sub(r"\s+", " ", page)
