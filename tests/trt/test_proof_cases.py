"""The cases that face_proof reads: every form of the fused layers, complete files."""

import math
import re

import pytest
from case_writer import PRECISIONS
from proof_layers import SIZES, layer_nodes, write_layers

from gspn2_deploy.spec import (
    CHANNEL_NORM,
    DEPTHWISE,
    DEPTHWISE_KERNELS,
    DEPTHWISE_NORM,
    FUSED_TYPES,
)


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_every_form_of_a_layer_is_a_node(dtype):
    nodes = layer_nodes(dtype)
    half = dtype != "float32"
    assert {node.op_type for node in nodes} == set(FUSED_TYPES if half else (CHANNEL_NORM,))
    norms = {(len(n.names), n.vectorised) for n in nodes if n.op_type == CHANNEL_NORM}
    expected = {(count, layout) for count in (3, 5) for layout in {False, half}}
    assert norms == expected | ({(6, True), (8, True)} if half else set())
    assert {node.proxies for node in nodes} == ({0, 1, 2} if half else {0})
    convolutions = {
        (shape[-1], len(n.inputs))
        for n in nodes
        if n.op_type == DEPTHWISE
        for shape in n.inputs.values()
        if len(shape) == 4
    }
    expected = {(kernel, count) for kernel in DEPTHWISE_KERNELS for count in (1, 2)}
    assert convolutions == (expected if half else set())


def test_a_case_has_every_file_that_it_names(tmp_path):
    write_layers(tmp_path, "float16")
    lines = [line.split() for line in (tmp_path / "case.txt").read_text().splitlines()]
    kinds = [line[0] for line in lines]
    nodes = layer_nodes("float16")
    assert "model" not in kinds
    assert kinds.count("sample") == len(SIZES)
    outputs = [name for index, node in enumerate(nodes) for name in node.outputs(index)]
    assert len(outputs) == len(nodes) + sum(node.op_type == DEPTHWISE_NORM for node in nodes)
    assert kinds.count("output") == len(SIZES) * len(outputs)
    for kind, _, *rest in lines:
        if kind in ("input", "output"):
            count = math.prod(map(int, rest[0].split("x")))
            assert (tmp_path / rest[1]).stat().st_size == count * (2 if kind == "input" else 4)
    written = [line for line in lines if line[0] == "node"]
    assert [line[1] for line in written] == [node.op_type for node in nodes]
    assert [name for line in written for name in line[2].split(",")] == outputs
    assert {line[3] for line in written} == {"linear", "hwc8"}
    for line in written:
        assert re.fullmatch(r"\w+=[\w.-]+(,\w+=[\w.-]+)*", line[4]), line
