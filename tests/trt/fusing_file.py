"""Files by hand for what a build lets the plugin take over, and what is asked of them.

x is (n, 8, 5, 6) in float16, and a propagation stands behind what is looked at.
"""

from collections import Counter

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from gspn2_deploy.build.tensorrt_model import prepare_model
from gspn2_deploy.spec import FUSED_TYPES, ONNX_DOMAIN


def fused_nodes(model):
    graph = onnx.load_from_string(model.content).graph
    return {node.name: node for node in graph.node if node.op_type in FUSED_TYPES}


def check_order(model):
    """Each tensor is given ahead of those that use it, and by one node."""
    graph = onnx.load_from_string(model.content).graph
    known = [value.name for value in (*graph.input, *graph.initializer)]
    for node in graph.node:
        assert set(filter(None, node.input)) <= set(known), node.name
        known += node.output
    assert len(known) == len(set(known))


class File:
    """A graph around which a propagation stands, so that it can be prepared."""

    def __init__(self):
        self.nodes = []
        self.constants = {}
        self.extra_outputs = []
        self.shapes = {}

    def constant(self, name, value, dtype=np.float16):
        self.constants[name] = np.asarray(value, dtype)
        return name

    def add(self, op_type, inputs, output, **attributes):
        self.nodes.append(
            helper.make_node(op_type, inputs, [output], name=f"n_{output}", **attributes)
        )
        return output

    def prepare(self, folder, result):
        path = folder / "hand.onnx"
        parts = {"lam": [1, 4, 8, 5, 6], "w": [1, 4, 3, 1, 5, 6], "u": [1, 4, 8, 5, 6]}
        prop = helper.make_node(
            "GspnProp2D", [result, *parts], ["y"], name="prop", domain=ONNX_DOMAIN
        )
        kind = TensorProto.FLOAT16
        inputs = [
            helper.make_tensor_value_info(name, kind, shape)
            for name, shape in {"x": [1, 8, 5, 6], **parts}.items()
        ]
        names = ["y", *self.extra_outputs]
        outputs = [helper.make_tensor_value_info(name, kind, None) for name in names]
        inner = [
            helper.make_tensor_value_info(output, kind, self.shapes.get(output))
            for node in self.nodes
            for output in node.output
        ]
        graph = helper.make_graph(
            [*self.nodes, prop],
            "hand",
            inputs,
            outputs,
            [numpy_helper.from_array(value, name) for name, value in self.constants.items()],
            value_info=[value for value in inner if value.name not in names],
        )
        imports = [helper.make_opsetid("", 18), helper.make_opsetid(ONNX_DOMAIN, 1)]
        onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=10), path)
        return prepare_model(path, 11, fuse=True)

    def norm(self, x="x", output="z", **changes):
        given = {"axis": -1, "epsilon": 1e-6} | changes
        self.constant("scale", np.ones(8))
        self.constant("shift", np.zeros(8))
        last = self.add("Transpose", [x], f"{output}_last", perm=[0, 2, 3, 1])
        self.add("LayerNormalization", [last, "scale", "shift"], f"{output}_norm", **given)
        return self.add("Transpose", [f"{output}_norm"], output, perm=[0, 3, 1, 2])

    def response(self, z="z", *, axes=(2, 3), one=1.0, mean_axes=(1,)):
        self.constant("column", np.ones((8, 1, 1)))
        self.constant("axes", axes, np.int64)
        self.constant("mean_axes", mean_axes, np.int64)
        self.constant("epsilon", 1e-6)
        self.constant("one", one)
        self.add("Mul", [z, z], "square")
        self.add("ReduceMean", ["square", "axes"], "energy", keepdims=1)
        self.add("Add", ["epsilon", "energy"], "safe")
        self.add("Sqrt", ["safe"], "root")
        self.add("ReduceMean", ["root", "mean_axes"], "mean", keepdims=1)
        self.add("Div", ["root", "mean"], "ratio")
        self.add("Mul", ["ratio", "column"], "scaled")
        self.add("Add", ["one", "scaled"], "factor")
        self.add("Mul", ["factor", z], "product")
        return self.add("Add", ["column", "product"], "grn")

    def projected(
        self,
        *,
        features="x",
        proxies=2,
        kernel=1,
        dtype=np.float16,
        swapped=False,
        bias=False,
        **changes,
    ):
        """Features and a 1x1 convolution of the first channels of x."""
        numbers = {"first": [0], "last": [proxies], "axis": [1]}
        names = [self.constant(name, value, np.int64) for name, value in numbers.items()]
        two = self.add("Slice", ["x", *names], "two")
        shape = (8, proxies, kernel, kernel)
        weight = np.arange(np.prod(shape)).reshape(shape)
        inputs = [two, self.constant("across", weight, dtype)]
        if bias:
            inputs.append(self.constant("bias", np.ones(8)))
        conv = self.add("Conv", inputs, "conv", **changes)
        self.shapes["sum"] = [1, 8, 5, 6]
        return self.add("Add", [conv, features] if swapped else [features, conv], "sum")

    def depthwise(self, x="x", *, channels=8, kernel=3, output="conv", **changes):
        self.constant("weight", np.ones((channels, 1, kernel, kernel)))
        given = {"group": channels, "pads": [kernel // 2] * 4, "kernel_shape": [kernel] * 2}
        return self.add("Conv", [x, "weight"], output, **(given | changes))


def kinds(model):
    return Counter(node.op_type for node in fused_nodes(model).values())
