"""Files by hand with a propagation whose inputs are parts of a prediction."""

import numpy as np
import onnx
from onnx import TensorProto, helper

from gspn2_deploy.build.graph_view import attributes_of
from gspn2_deploy.build.tensorrt_model import prepare_model
from gspn2_deploy.spec import (
    ONNX_DOMAIN,
    PACKED_CHANNELS,
    PACKED_GROUPS,
    PACKED_OFFSETS,
    PROP2D,
)

MAJORS = (8, 11)


class PredictionFile:
    """A file whose parts come from a Split of a prediction; tests change what they are about.

    x is (n, 2, h, w); the prediction has 30 channels, of which lam, u and w are parts.
    """

    def __init__(self):
        self.shapes = {
            "x": ["n", 2, "h", "w"],
            "prediction": ["n", 30, "h", "w"],
            "lam_piece": ["n", 8, "h", "w"],
            "u_piece": ["n", 8, "h", "w"],
            "w_piece": ["n", 12, "h", "w"],
            "lam": ["n", 4, 2, "h", "w"],
            "u": ["n", 4, 2, "h", "w"],
            "w": ["n", 4, 3, 1, "h", "w"],
            "y": ["n", 2, "h", "w"],
        }
        self.initializers = {"sizes": [8, 8, 12, 2], "shape5": [0, 4, 2, -1, 7]}
        self.initializers["shape6"] = [0, 4, 3, 1, -1, 7]
        pieces = ["lam_piece", "u_piece", "w_piece", "rest"]
        self.cuts = [helper.make_node("Split", ["prediction", "sizes"], pieces, axis=1)]
        self.reshapes = [
            helper.make_node("Reshape", [f"{part}_piece", shape], [part])
            for part, shape in (("lam", "shape5"), ("u", "shape5"), ("w", "shape6"))
        ]
        self.inputs = ["x", "lam", "w", "u"]
        self.sources = ["x", "prediction"]
        self.others = []
        self.outputs = ["y"]
        self.opset = 18
        self.element = TensorProto.FLOAT
        self.convs = []
        self.weights = {}
        self.saved = {}  # how the weights are kept

    def add_conv(self, output, bias=True, source="z", size=(1, 1), **attributes):
        """Let a convolution of z (n, 3, h, w) give x or the prediction."""
        self.sources = [name for name in self.sources if name != output]
        self.sources += [source] if source not in self.sources else []
        self.shapes[source] = ["n", 3, "h", "w"]
        channels = self.shapes[output][1]
        inner = 3 // attributes.get("group", 1)
        inputs = [source, f"{output}_weight", *([f"{output}_bias"] if bias else [])]
        random = np.random.default_rng(channels)
        for name, shape in zip(inputs[1:], ((channels, inner, *size), (channels,)), strict=False):
            self.weights[name] = random.standard_normal(shape).astype(np.float32)
        self.convs.append(
            helper.make_node("Conv", inputs, [output], name=f"{output}_conv", **attributes)
        )

    def add_d(self):
        self.shapes |= {"rest": ["n", 8, "h", "w"], "d": ["n", 4, 2, "h", "w"]}
        self.shapes["prediction"][1] = 36
        self.initializers["sizes"] = [8, 8, 12, 8]
        self.reshapes.append(helper.make_node("Reshape", ["rest", "shape5"], ["d"]))
        self.inputs.append("d")

    def slices(self, **bounds):
        """Cut by Slices: (start, end) by part, or (start, end, axis), or with a step behind."""
        self.cuts = []
        for part, given in bounds.items():
            start, end, axis, *step = (*given, 1) if len(given) == 2 else given
            names = [f"{part}_{what}" for what in ("start", "end", "axis", "step")]
            values = dict(zip(names, (start, end, axis, *step), strict=False))
            self.initializers |= {name: [value] for name, value in values.items()}
            inputs = ["prediction", *values]
            self.cuts.append(helper.make_node("Slice", inputs, [f"{part}_piece"]))

    def prepare(self, path, major=11):
        node = helper.make_node(PROP2D, self.inputs, ["y"], name="p", domain=ONNX_DOMAIN)

        def value(name):
            return helper.make_tensor_value_info(name, self.element, self.shapes.get(name))

        kind = helper.tensor_dtype_to_np_dtype(self.element)
        graph = helper.make_graph(
            [*self.convs, *self.cuts, *self.reshapes, node, *self.others],
            "graph",
            [value(name) for name in self.sources],
            [value(name) for name in self.outputs],
            [
                helper.make_tensor(name, TensorProto.INT64, [len(numbers)], numbers)
                for name, numbers in self.initializers.items()
            ]
            + [
                onnx.numpy_helper.from_array(values.astype(kind), name)
                for name, values in self.weights.items()
            ],
            value_info=[value(name) for name in self.shapes],
        )
        imports = [helper.make_opsetid("", self.opset), helper.make_opsetid(ONNX_DOMAIN, 1)]
        made = helper.make_model(graph, opset_imports=imports, ir_version=10)
        onnx.save(made, path / "m.onnx", **self.saved)
        model = prepare_model(path / "m.onnx", major, fuse=True)
        return model, onnx.load_from_string(model.content).graph


def check_packed(model, graph, offsets=(-1, 0, 8, -1, 16), inputs=("x", "prediction")):
    assert model.packed == ("p",)
    node = next(node for node in graph.node if node.name == "p")
    assert list(node.input) == list(inputs)
    attributes = attributes_of(node)
    assert (tuple(attributes[PACKED_OFFSETS]), attributes[PACKED_GROUPS]) == (offsets, 1)
    assert attributes.get(PACKED_CHANNELS) == (2 if offsets[0] >= 0 else None)
