"""onnxruntime on the standard body of the custom op: no custom library is registered.

Graph optimisation. The default is ``ORT_ENABLE_ALL``, onnxruntime's own default, because that is
what an application runs; inlining, fusing and folding are part of what has to be proven.
``Optimization.NONE`` runs the nodes as the file has them: where ``ALL`` differs and ``NONE``
agrees, the file is right and onnxruntime's rewriting is not.

float16. onnxruntime's CPU provider puts casts around most float16 nodes and computes in float32;
with optimisation it also removes pairs of casts, so that fewer roundings happen than in PyTorch.

bfloat16. The CPU provider has hardly any bfloat16 node, and the Python interface no bfloat16
array, so such files run with their weights widened to float32
(:mod:`gspn2_deploy.runners.widen`); reports say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from gspn2_deploy.errors import MissingDependencyError, OnnxFileError, PlatformError
from gspn2_deploy.manifest import TensorInfo
from gspn2_deploy.runners.base import Arrays, Kind, Runner

CPU_PROVIDER = "CPUExecutionProvider"

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(bfloat16)": "bfloat16",
    "tensor(double)": "float64",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(bool)": "bool",
}
_LOG_ERRORS = 3  # onnxruntime's severity: 2 is warning, 3 is error


class Optimization(str, Enum):
    """How far onnxruntime may rewrite the graph."""

    ALL = "all"
    NONE = "none"


class OnnxRuntimeRunner(Runner):
    """Runs an ONNX file with onnxruntime.

    Args:
        path: The ONNX file; external data lies beside it.
        providers: Execution providers in order of preference. Each must be there: nothing falls
            back to the CPU in silence.
        optimization: How far the graph may be rewritten, see the module's text.
        threads: Threads within a node, 0 for one per core.
        name: The runner's name in reports.
    """

    kind: ClassVar[Kind] = Kind.ONNXRUNTIME

    def __init__(
        self,
        path: Path,
        *,
        providers: Sequence[str] = (CPU_PROVIDER,),
        optimization: Optimization = Optimization.ALL,
        threads: int = 0,
        name: str = "onnxruntime",
    ) -> None:
        super().__init__(name)
        self._path = path
        self._providers = list(providers)
        self._optimization = optimization
        self._threads = threads
        self._session: Any = None
        self._widened = False
        self._inputs: tuple[TensorInfo, ...] = ()
        self._output_dtypes: dict[str, str] = {}

    @property
    def input_specs(self) -> tuple[TensorInfo, ...]:
        """The file's inputs."""
        return self._inputs

    @property
    def output_names(self) -> tuple[str, ...]:
        """The file's outputs."""
        return tuple(self._output_dtypes)

    @property
    def session(self) -> Any:
        """The session itself, for what this interface does not offer. Known once entered."""
        return self._session

    def activate(self) -> None:
        """Create the session.

        Raises:
            MissingDependencyError: onnxruntime or a provider is not installed.
            OnnxFileError: The file is missing, truncated or not a valid model.
            PlatformError: onnxruntime has no implementation of a node of this file.
        """
        ort = _import_onnxruntime()
        missing = [name for name in self._providers if name not in ort.get_available_providers()]
        if missing:
            raise MissingDependencyError(
                f"the onnxruntime provider {', '.join(missing)}",
                "onnxruntime-gpu",
                f"this build has {', '.join(ort.get_available_providers())}",
            )
        if not self._path.is_file():
            raise OnnxFileError(
                f"{self._path} does not exist", hint="gspn2-deploy export writes it"
            )
        self._widened = False
        try:
            self._session = self._create(ort, self._path)
            self._read_interface()
            widen = "bfloat16" in (*self._output_dtypes.values(), *(s.dtype for s in self._inputs))
        except ort.capi.onnxruntime_pybind11_state.NotImplemented as error:
            widen = self._holds_bfloat16()
            if not widen:
                raise PlatformError(
                    f"onnxruntime has no implementation of a node of {self._path}", got=error
                ) from error
        if widen:
            self._session = self._create(ort, self._widened_bytes())
            self._widened = True
        active = self._session.get_providers()
        if any(name not in active for name in self._providers):
            raise PlatformError(
                "onnxruntime could not start a provider",
                got=f"active: {', '.join(active)}",
                expected=", ".join(self._providers),
                hint="see onnxruntime's message above; often the CUDA or cuDNN version",
            )

    def deactivate(self) -> None:
        """Drop the session."""
        self._session = None

    def infer_impl(self, inputs: Arrays) -> Arrays:
        """Run the session once."""
        if self._widened:
            inputs = {
                name: value.astype(np.float32) if value.dtype.name == "bfloat16" else value
                for name, value in inputs.items()
            }
        names = list(self._output_dtypes)
        try:
            values = self._session.run(names, inputs)
        except Exception as error:  # onnxruntime's errors share no base class but Exception
            raise PlatformError(f"onnxruntime failed while running {self._path}", got=error) from (
                error
            )
        return {
            name: _as_declared(value, self._output_dtypes[name])
            for name, value in zip(names, values, strict=True)
        }

    def describe(self) -> dict[str, Any]:
        """The version, the providers that ran, the optimisation and the arithmetic."""
        ort = _import_onnxruntime()
        return {
            "name": self.name,
            "onnxruntime": ort.__version__,
            "providers": self._session.get_providers() if self._session else self._providers,
            "optimization": self._optimization.value,
            "threads": self._threads,
            "arithmetic": (
                "bfloat16 weights widened to float32" if self._widened else "as the file says"
            ),
        }

    def _create(self, ort: Any, source: Path | bytes) -> Any:
        options = ort.SessionOptions()
        options.log_severity_level = _LOG_ERRORS
        options.intra_op_num_threads = self._threads
        options.graph_optimization_level = (
            ort.GraphOptimizationLevel.ORT_ENABLE_ALL
            if self._optimization is Optimization.ALL
            else ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        )
        states = ort.capi.onnxruntime_pybind11_state
        corrupt = (
            states.InvalidProtobuf,
            states.InvalidGraph,
            states.InvalidArgument,
            states.NoModel,
            states.NoSuchFile,
            states.Fail,
        )
        try:
            return ort.InferenceSession(source, options, providers=self._providers)
        except corrupt as error:
            raise OnnxFileError(
                f"{self._path} is not a valid ONNX model",
                got=error,
                hint="it is truncated, altered or parted from its external data: export again",
            ) from error

    def _read_interface(self) -> None:
        self._inputs = tuple(
            TensorInfo(item.name, _DTYPES.get(item.type, item.type), tuple(item.shape))
            for item in self._session.get_inputs()
        )
        self._output_dtypes = {
            item.name: _DTYPES.get(item.type, item.type) for item in self._session.get_outputs()
        }

    def _holds_bfloat16(self) -> bool:
        import onnx

        from gspn2_deploy.runners.widen import uses_bfloat16

        model = onnx.load(self._path, load_external_data=False)
        self._inputs = tuple(_spec(value) for value in model.graph.input)
        self._output_dtypes = {value.name: _spec(value).dtype for value in model.graph.output}
        return uses_bfloat16(model)

    def _widened_bytes(self) -> bytes:
        import onnx

        from gspn2_deploy.runners.widen import widen

        model = onnx.load(self._path)
        widen(model)
        return bytes(model.SerializeToString())


def _import_onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependencyError("onnxruntime", "onnxruntime", str(error)) from error
    return onnxruntime


def _as_declared(value: Any, dtype: str) -> Any:
    """The output in the dtype that the file declares; another one only after widening."""
    if dtype != "bfloat16":
        return value
    import ml_dtypes

    return value.astype(ml_dtypes.bfloat16)


def _spec(value: Any) -> TensorInfo:
    """The interface of a graph input or output (onnx.ValueInfoProto)."""
    import onnx

    tensor = value.type.tensor_type
    axes = tuple(
        axis.dim_value if axis.HasField("dim_value") else (axis.dim_param or None)
        for axis in tensor.shape.dim
    )
    name = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
    return TensorInfo(value.name, {"float": "float32"}.get(name, name), axes)
