"""A TensorRT that runs ONNX files in onnxruntime, with damage where a test plants it.

Its plans hold the path of the file that they were "built" from. Everything else of the runner is
real, over the doubles of tests/runners.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
from gspn2_deploy.export.check import is_ours
from onnx import TensorProto, numpy_helper
from runners.tensorrt_fakes import FakeCuda, FakeEngine, install

from gspn2_deploy.files import sha256_of
from gspn2_deploy.manifest import Manifest, ShapeRange, TensorInfo, manifest_path
from gspn2_deploy.validate import executors

NAMES = {TensorProto.FLOAT: "float32", TensorProto.FLOAT16: "float16"}
WORDS = {TensorProto.FLOAT: "FP32", TensorProto.FLOAT16: "FP16"}


class OnnxEngine(FakeEngine):
    """Runs a file in onnxruntime.

    Args:
        cuda: Whose memory it works in.
        path: The file.
        profiles: Shapes by input name; None for the file's own fixed ones.
        damage: Changes the model before it runs.
    """

    def __init__(self, cuda, path, profiles, damage):
        model = onnx.load(path)
        damage(model)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        weights = {item.name for item in model.graph.initializer}
        inputs = tuple(tensor(item) for item in model.graph.input if item.name not in weights)
        super().__init__(
            cuda,
            function=self.run,
            inputs=inputs,
            outputs=tuple(tensor(item) for item in model.graph.output),
            profiles=profiles or ({item.name: (item.shape,) * 3 for item in inputs},),
            layers=layers(model),
        )

    def run(self, arrays):
        names = [item.name for item in self.outputs]
        feed = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
        return dict(zip(names, self.session.run(names, feed), strict=True))


def tensor(value):
    kind = value.type.tensor_type
    shape = tuple(axis.dim_value or -1 for axis in kind.shape.dim)
    return TensorInfo(value.name, NAMES[kind.elem_type], shape)


def layers(model):
    """One layer for everything ordinary, and a plugin layer for each propagation."""
    types = {item.name: item.type.tensor_type.elem_type for item in model.graph.value_info}
    found = [{"Name": "the rest", "LayerType": "CaskConvolution", "ms": 0.9}]
    for node in model.graph.node:
        if is_ours(node):
            word = WORDS[types.get(node.output[0], TensorProto.FLOAT)]
            output = {"Name": node.output[0], "Format/Datatype": f"Row major linear {word}"}
            item = {"Name": node.name, "LayerType": "PluginV2", "Outputs": [output], "ms": 0.1}
            found.append(item)
    return found


class Factory:
    """Plans and engines of ONNX files.

    Args:
        monkeypatch: pytest's.
        profiles: Of the engines, ``{name: (min, opt, max)}`` each.
    """

    def __init__(self, monkeypatch, profiles):
        self.profiles = profiles
        self.damage = lambda model: None
        self.change_layers = lambda found: None
        self.built = []
        self.machine = install(monkeypatch, FakeEngine)
        runtime = SimpleNamespace(deserialize_cuda_engine=self.load)
        self.machine.tensorrt.Runtime = lambda logger: runtime
        monkeypatch.setattr(executors, "build_like", self.build_like)

    @property
    def cuda(self) -> FakeCuda:
        return self.machine.cuda

    def load(self, plan):
        content = json.loads(plan)
        engine = OnnxEngine(self.cuda, content["onnx"], content["profiles"], self.damage)
        self.change_layers(engine.layers)
        return engine

    def build(self, path: Path, plan: Path, *, dynamic=True, **changes) -> Path:
        """Write a plan of a file, and its manifest."""
        model = onnx.load(path)
        content = {"onnx": str(path), "profiles": self.profiles if dynamic else None}
        plan.write_text(json.dumps(content))
        weights = {item.name for item in model.graph.initializer}
        metadata = {item.key: item.value for item in model.metadata_props}
        values = {
            "plan_file": plan.name,
            "plan_bytes": plan.stat().st_size,
            "plan_sha256": sha256_of(plan),
            "onnx_file": path.name,
            "onnx_sha256": sha256_of(path),
            "external_data_sha256": {},
            "backend": "tensorrt",
            "backend_version": self.machine.tensorrt.__version__,
            "package_version": "0",
            "cuda_version": None,
            "driver_version": None,
            "compute_capabilities": ("9.0",),
            "profiles": tuple(
                {name: ShapeRange(*map(tuple, shapes)) for name, shapes in profile.items()}
                for profile in (self.profiles if dynamic else ())
            ),
            "inputs": tuple(named(i) for i in model.graph.input if i.name not in weights),
            "outputs": tuple(named(item) for item in model.graph.output),
            "precision": metadata["gspn2.precision"],
            "layer_dtypes": {},
            "propagations": json.loads(metadata["gspn2.op_counts"]),
            "activation_bytes": None,
            "metadata": metadata,
            "unproven": (),
            "build_seconds": 0.0,
            "host": "",
            "created": "",
        }
        Manifest(**(values | changes)).save(manifest_path(plan))
        return plan

    def build_like(self, manifest, onnx_path, plan, profiles):
        self.built.append(onnx_path.name)
        assert profiles in (manifest.profiles, ())
        self.build(onnx_path, plan, dynamic=bool(profiles))


def named(value):
    kind = value.type.tensor_type
    shape = tuple(axis.dim_value or axis.dim_param for axis in kind.shape.dim)
    return TensorInfo(value.name, NAMES[kind.elem_type], shape)


def is_alone(model):
    """Whether a model holds the propagations alone."""
    return model.graph.name == "propagations"


def is_marked(model):
    """Whether a model's blocks are marked."""
    return len(model.graph.output) > 1 and not is_alone(model)


def propagations(model):
    """The propagation nodes, in order."""
    return [node for node in model.graph.node if is_ours(node)]


def set_chunk(model, index, value=1):
    """Let one propagation restart its state after every step: a wrong op in a known block."""
    node = propagations(model)[index]
    attribute = next(item for item in node.attribute if item.name == "chunk")
    attribute.i = value


def set_constant(model, name, value):
    """Change a constant in every function body: onnxruntime alone runs those."""
    for node in (node for function in model.functions for node in function.node):
        if node.name == name:
            dtype = numpy_helper.to_array(node.attribute[0].t).dtype
            node.attribute[0].t.CopyFrom(numpy_helper.from_array(np.array(value, dtype)))


def scale_weight(model, part, factor=1.5):
    """Change one weight."""
    weight = next((item for item in model.graph.initializer if part in item.name), None)
    if weight is not None:
        values = numpy_helper.to_array(weight) * np.float32(factor)
        weight.CopyFrom(numpy_helper.from_array(values.astype(values.dtype), weight.name))


WITHOUT_TORCH = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "onnxscript"):
            raise ImportError("torch is not installed here")
sys.meta_path.insert(0, Refuse())
sys.path[:0] = [{tests!r}]
import json
from pathlib import Path
import pytest
from click.testing import CliRunner
from validate.engine_double import Factory, set_chunk, set_constant
from gspn2_deploy.cli.app import app
folder, plan, source = Path({folder!r}), Path({plan!r}), Path({source!r})
with pytest.MonkeyPatch.context() as patch:
    factory = Factory(patch, ({images!r},))
    factory.damage = lambda model: {damage}
    factory.build(source, plan)
    arguments = ["--quiet", "validate", source, "--engine", plan, "--golden", folder / "fp32.npz"]
    result = CliRunner().invoke(app, list(map(str, [*arguments, "--bisect", "--json"])))
assert result.exit_code == 1, result.output
print(json.dumps(json.loads(result.stdout)["bisections"]))
"""


def bisect_without_torch(folder, source, plan, images, damage):
    """What a bisection finds in a process without PyTorch, with an engine that is damaged.

    Args:
        folder: Where the golden data are.
        source: The ONNX file.
        plan: Where the engine goes.
        images: An image's extents, as the engine takes them.
        damage: What is done to the `model` that the engine runs, in Python.
    """
    code = WITHOUT_TORCH.format(
        tests=str(Path(__file__).parents[1]),
        folder=str(folder),
        source=str(source),
        plan=str(plan),
        images=images,
        damage=damage,
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)
