"""A whole build with the TensorRT backend, on doubles of four versions of TensorRT."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from builder_fakes import DataType, Layer, Network, fake_builder
from onnx import TensorProto, helper

from gspn2_deploy.build import tensorrt_engine
from gspn2_deploy.build.backend import BuildRequest
from gspn2_deploy.build.gpu import Gpu
from gspn2_deploy.build.options import BuildOptions
from gspn2_deploy.build.timing_cache import CACHE_VARIABLE
from gspn2_deploy.build.translate import EngineLibraryError
from gspn2_deploy.build.wire import engine_from_wire, engine_to_wire
from gspn2_deploy.errors import KernelLibraryError, UsageError
from gspn2_deploy.files import sha256_of
from gspn2_deploy.manifest import ShapeRange, TensorInfo
from gspn2_deploy.runners.engine_layers import EngineLayer, EngineTensor
from gspn2_deploy.runners.plan_errors import RunFailedError
from gspn2_deploy.spec import ONNX_DOMAIN

VERSIONS = ("8.5", "8.6", "10.16", "11.1")
GPU = Gpu("NVIDIA H200", "9.0")
ELEMENTS = {"fp32": TensorProto.FLOAT, "fp16": TensorProto.FLOAT16, "mixed": TensorProto.FLOAT16}
NAMES = {TensorProto.FLOAT: "float32", TensorProto.FLOAT16: "float16"}
BATCHES = {"images": ShapeRange((1, 3, 8, 8), (2, 3, 8, 8), (4, 3, 8, 8))}
SMALL = {"images": ShapeRange(*[(1, 3, 8, 8)] * 3)}


class Channel:
    """Keeps what a child would send."""

    def __init__(self):
        self.logged, self.progressed = [], []

    def log(self, level, text):
        self.logged.append(text)

    def progress(self, fraction, detail, *, important=False):
        self.progressed.append((fraction, detail))


def write_model(path, precision, *, cast=False):
    """Conv, norm, two propagations, Gemm; of a mixed file the second propagation is float32.

    With `cast` the images are float32, and cast first.
    """
    element = ELEMENTS[precision]
    second = TensorProto.FLOAT if precision == "mixed" else element
    nodes = [
        helper.make_node("Conv", ["images", "k"], ["c"], name="conv"),
        helper.make_node("LayerNormalization", ["c"], ["l"], name="norm"),
        helper.make_node("GspnProp2D", ["l"], ["p"], name="first", domain=ONNX_DOMAIN),
        helper.make_node("Cast", ["p"], ["q"], name="cast", to=second),
        helper.make_node("GspnProp2D", ["q"], ["r"], name="second", domain=ONNX_DOMAIN),
        helper.make_node("Gemm", ["r", "m"], ["logits"], name="head"),
    ]
    types = {"c": element, "l": element, "p": element, "q": second, "r": second}
    given = element
    if cast:
        given, types["images_cast"] = TensorProto.FLOAT, element
        nodes.insert(0, helper.make_node("Cast", ["images"], ["images_cast"], to=element))
        nodes[1].input[0] = "images_cast"
    maps = [
        helper.make_tensor_value_info(name, kind, ["n", 3, 8, 8]) for name, kind in types.items()
    ]
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info("images", given, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", element, ["n", 4])],
        value_info=maps,
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid(ONNX_DOMAIN, 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def backend(tmp_path, monkeypatch):
    """Returns build(version, precision="fp32", profiles, prepare, cast=False, **options)."""
    plugin = tmp_path / "libgspn2_tensorrt.so"
    plugin.write_bytes(b"needs libgspn2_kernels.so\0")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(tensorrt_engine, "find_plugin", lambda version: plugin)
    monkeypatch.setattr(tensorrt_engine, "load_plugin", lambda trt, path: "the library")
    monkeypatch.setattr(tensorrt_engine, "last_error", lambda library: said[-1])
    said = [""]

    class Backend:
        trt = channel = request = None
        plugin_path = plugin

        def say(self, text):
            """Let the plugin log an error."""
            said.append(text)

        def build(
            self,
            version,
            precision="fp32",
            profiles=(BATCHES,),
            prepare=None,
            cast=False,
            **options,
        ):
            element = NAMES[ELEMENTS[precision]]
            given = "float32" if cast else element
            self.trt, self.channel = fake_builder(version), Channel()
            if prepare is not None:
                prepare(self.trt)
            self.request = BuildRequest(
                onnx_path=write_model(tmp_path / "m.onnx", precision, cast=cast),
                plan_path=tmp_path / "m.plan",
                inputs=(TensorInfo("images", given, ("n", 3, 8, 8)),),
                outputs=(TensorInfo("logits", element, ("n", 4)),),
                precision=precision,
                propagations={"GspnProp2D": 2},
                profiles=profiles,
                compute_capabilities=("9.0",),
                options=BuildOptions(**options),
            )
            built = tensorrt_engine.build(self.trt, self.channel, self.request, GPU)
            return engine_from_wire(engine_to_wire(built))

    return Backend()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_build(backend, version, precision):
    built = backend.build(version, precision)
    assert backend.request.plan_path.read_bytes() == b"a plan"
    assert built.library_version == f"{version}.1"
    assert built.gpu == "NVIDIA H200"
    assert built.plugin_sha256 == sha256_of(backend.plugin_path)
    assert built.activation_bytes == 4096
    assert built.engine_dtypes["float16" if precision == "fp16" else "float32"] >= 4
    assert built.layer_dtypes == {"float16" if precision == "fp16" else "float32": 6}
    assert built.unproven == ("the engine was loaded but not run",)
    assert "TF32" not in backend.trt.config.flags


@pytest.mark.parametrize("version", VERSIONS)
def test_types_are_honoured(backend, version):
    backend.build(version, "mixed")
    layers = {layer.name: layer for layer in backend.trt.network.layers}
    if version in ("10.16", "11.1"):
        assert backend.trt.network.strongly_typed
        assert layers["conv"].output_types == {}
        assert "OBEY_PRECISION_CONSTRAINTS" not in backend.trt.config.flags
        return
    assert {"FP16", "OBEY_PRECISION_CONSTRAINTS"} <= backend.trt.config.flags
    half, wide = DataType.HALF, DataType.FLOAT
    assert (layers["conv"].precision, layers["conv"].output_types) == (half, {0: half})
    assert (layers["first"].precision, layers["second"].precision) == (half, wide)
    assert layers["cast"].output_types == {}  # TensorRT takes none for it
    # What multiplies by no weights may compute wider than the type that it gives.
    assert (layers["norm"].precision, layers["norm"].output_types) == (None, {0: half})


@pytest.mark.parametrize("version", ["8.5", "8.6"])
def test_float32_needs_no_constraint(backend, version):
    backend.build(version)
    assert backend.trt.config.flags == set()


def test_constraints_may_be_a_preference(backend):
    def prepare(trt):
        trt.run_as = {"conv": DataType.FLOAT}

    with pytest.raises(EngineLibraryError, match="do not run in fp16") as caught:
        backend.build("8.6", "fp16", prepare=prepare)
    assert "conv (CaskConvolution): float32 -> float32" in str(caught.value.got)
    built = backend.build("8.6", "fp16", prepare=prepare, precision_constraints="prefer")
    assert "PREFER_PRECISION_CONSTRAINTS" in backend.trt.config.flags
    assert built.unproven[1:] == ("1 layers do not run in fp16",)
    with pytest.raises(UsageError, match="has no other choice"):
        backend.build("10.16", "fp16", precision_constraints="prefer")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_propagation_in_another_type_is_an_error(backend, version):
    def prepare(trt):
        trt.run_as = {"second": DataType.FLOAT}

    with pytest.raises(EngineLibraryError, match="plugin layers do not run in the type") as caught:
        backend.build(version, "fp16", prepare=prepare)
    assert caught.value.got == "second: float32"
    backend.build(version, "mixed", prepare=prepare)  # where it is the file's


@pytest.mark.parametrize("version", VERSIONS)
def test_a_propagation_that_is_no_plugin_layer_is_an_error(backend, version):
    def prepare(trt):
        trt.swallowed = ("GspnProp2D",)

    with pytest.raises(EngineLibraryError, match="the network lacks plugin layers: 2 GspnProp2D"):
        backend.build(version, prepare=prepare)
    assert not backend.request.plan_path.exists()


@pytest.mark.parametrize("second", [DataType.HALF, DataType.FLOAT])
def test_all_that_a_plugin_layer_gives_is_of_one_type(second):
    trt = fake_builder("11.1")
    network = Network(trt, strongly_typed=True)
    node = helper.make_node("GspnDepthwiseNorm", ["x"], ["y", "z"], name="both")
    tensors = [SimpleNamespace(dtype=dtype) for dtype in (DataType.HALF, second)]
    network.layers = [Layer(node, trt.LayerType["PLUGIN_V3"], tensors)]
    wanted = {"both": node.op_type}
    if second is DataType.HALF:
        assert tensorrt_engine.check_plugins(trt, network, wanted) == {"both": "float16"}
        return
    with pytest.raises(EngineLibraryError, match="tensors of different types") as caught:
        tensorrt_engine.check_plugins(trt, network, wanted)
    assert caught.value.got == "both: float16, float32"


@pytest.mark.parametrize("version", VERSIONS)
def test_several_profiles_are_each_inspected(backend, version):
    backend.build(version, profiles=(SMALL, BATCHES))
    assert [profile.shapes["images"][2][0] for profile in backend.trt.config.profiles] == [1, 4]
    shared = backend.trt.config.features.get("PROFILE_SHARING_0806")
    assert shared is (True if version == "8.6" else None)


@pytest.mark.parametrize("version", VERSIONS)
def test_progress_is_told(backend, version):
    backend.build(version)
    if version in ("10.16", "11.1"):
        assert backend.channel.progressed[0] == (0.0, "Building engine")
        assert (0.5, None) in backend.channel.progressed
    else:
        assert backend.channel.progressed == [(None, "TensorRT is timing kernels")]


@pytest.mark.parametrize("version", VERSIONS)
def test_an_engine_that_tells_no_layers_is_said_to_be_unchecked(backend, version):
    def prepare(trt):
        trt.inspected = "Layers: none"

    built = backend.build(version, prepare=prepare)
    assert built.unproven[1:] == (
        "the engine's layers were not checked: TensorRT does not tell them",
    )


def untold(trt):
    """8.6, which tells no type before the engine has run."""
    trt.tells_types = False


@pytest.mark.parametrize("refuses", [False, True])
@pytest.mark.parametrize("fault", [RunFailedError("no memory"), ValueError("no memory")])
def test_types_that_are_untold_are_said_to_be_unchecked(backend, monkeypatch, refuses, fault):
    def prepare(trt):
        untold(trt)
        trt.refuses_shapes = refuses

    def run(*arguments):
        raise fault

    monkeypatch.setattr(tensorrt_engine, "inspect_after_run", run)
    built = backend.build("8.6", "fp16", prepare=prepare)
    assert built.engine_dtypes == {}
    ran, said = built.unproven
    assert ran == "the engine was loaded but did not run: no memory"
    assert "the type of any layer, 2 plugin layers among them: gspn2-deploy validate" in said


def test_an_engine_runs_where_its_types_are_untold(backend, monkeypatch):
    """It is asked for its layers once more, and they are held against the file."""
    types = {"first": "float16", "second": "float16", "conv": "float16"}

    def run(trt, engine, inputs, outputs, profiles):
        assert [tensor.name for tensor in (*inputs, *outputs)] == ["images", "logits"]
        assert profiles == (BATCHES,)
        return [
            EngineLayer(name, kind, outputs=(EngineTensor("t", dtype, None),))
            for name, dtype in types.items()
            for kind in ["CaskConvolution" if name == "conv" else "PluginV2"]
        ]

    monkeypatch.setattr(tensorrt_engine, "inspect_after_run", run)
    built = backend.build("8.6", "fp16", prepare=untold)
    assert built.engine_dtypes == {"float16": 3}
    assert built.unproven == ("the engine ran once, on zeros: its outputs were not compared",)
    types["second"] = "float32"
    with pytest.raises(EngineLibraryError, match="plugin layers do not run in the type") as caught:
        backend.build("8.6", "fp16", prepare=untold)
    assert caught.value.got == "second: float32"


# Options: what each version has.


@pytest.mark.parametrize(
    "options, since",
    [
        ({"optimization_level": 5}, "8.6"),
        ({"version_compatible": True}, "8.6"),
        ({"hardware_compatibility": "ampere-plus"}, "8.6"),
        ({"embed_plugin": True}, "8.6"),
        ({"hardware_compatibility": "same-compute-capability"}, "10.12"),
        ({"weights": "stripped"}, "10.0"),
    ],
    ids=str,
)
@pytest.mark.parametrize("version", VERSIONS)
def test_an_option_that_a_version_lacks_is_refused(backend, version, options, since):
    (backend.plugin_path.parent / "libgspn2_tensorrt_embed.so").write_bytes(b"with the kernels")
    if [int(part) for part in version.split(".")] >= [int(part) for part in since.split(".")]:
        backend.build(version, **options)
        return
    with pytest.raises(UsageError, match=rf"TensorRT {version}\.1 has no --") as caught:
        backend.build(version, **options)
    assert caught.value.expected == f"TensorRT {since} or later"


def test_flags_and_attributes_that_are_set(backend):
    embed = backend.plugin_path.parent / "libgspn2_tensorrt_embed.so"
    embed.write_bytes(b"with the kernels")
    built = backend.build(
        "10.16",
        optimization_level=0,
        timing_iterations=2,
        version_compatible=True,
        exclude_lean_runtime=True,
        hardware_compatibility="same-compute-capability",
        embed_plugin=True,
        weights="refittable",
        tactic_sources=("cudnn", "cublas-lt"),
        tf32=True,
    )
    config = backend.trt.config
    assert config.builder_optimization_level == 0
    assert config.avg_timing_iterations == 2
    assert config.flags == {"VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME", "REFIT", "TF32"}
    assert config.hardware_compatibility_level.name == "SAME_COMPUTE_CAPABILITY"
    assert config.plugins_to_serialize == [str(embed)]
    assert built.plugin_sha256 == sha256_of(embed)
    assert config.sources == ["CUBLAS_LT", "CUDNN"]


def test_stripped_weights_are_to_be_filled_in_as_they_were(backend):
    backend.build("11.1", weights="stripped")
    assert backend.trt.config.flags == {"STRIP_PLAN", "REFIT_IDENTICAL"}


def test_8_makes_no_version_compatible_plan_refittable(backend):
    with pytest.raises(UsageError, match="no version-compatible plan refittable"):
        backend.build("8.6", weights="refittable", version_compatible=True)
    backend.build("8.6", weights="refittable")
    assert backend.trt.config.flags == {"REFIT"}


@pytest.mark.parametrize("version", ["8.5", "8.6"])
def test_before_10_kernels_are_tensorrts_own(backend, version):
    backend.build(version)
    assert backend.trt.config.sources == ["EDGE_MASK_CONVOLUTIONS", "JIT_CONVOLUTIONS"]
    backend.build(version, tactic_sources=())
    assert backend.trt.config.sources == []


def test_from_10_on_the_librarys_sources_are_left(backend):
    backend.build("11.1")
    assert backend.trt.config.sources is None
    with pytest.raises(UsageError, match="no such tactic source") as caught:
        backend.build("11.1", tactic_sources=("cudnn",))
    assert caught.value.expected == "edge-mask-convolutions, jit-convolutions"


def test_a_compatible_plan_of_8_holds_no_plugin_of_tensorrts(backend):
    backend.build("8.6", hardware_compatibility="ampere-plus")
    assert backend.trt.parser.flags == {"NATIVE_INSTANCENORM"}
    backend.build("8.6")
    assert backend.trt.parser.flags == set()


def test_a_plugin_that_needs_the_kernel_library_is_not_embedded(backend):
    with pytest.raises(KernelLibraryError, match="cannot be embedded"):
        backend.build("8.6", embed_plugin=True)
    backend.plugin_path.write_bytes(b"all in one")
    backend.build("8.6", embed_plugin=True)
    assert backend.trt.config.plugins_to_serialize == [str(backend.plugin_path)]


# The timing cache.


def test_times_are_kept_by_default_and_used_again(backend):
    first = backend.build("8.6")
    assert Path(first.timing_cache).read_bytes() == b"learnt;"
    second = backend.build("8.6")
    assert second.timing_cache == first.timing_cache
    assert Path(second.timing_cache).read_bytes() == b"learnt;learnt;"
    other = backend.build("11.1")
    assert other.timing_cache != first.timing_cache


def test_times_are_kept_where_the_user_says(backend, tmp_path):
    path = tmp_path / "mine" / "times.cache"
    assert backend.build("8.6", timing_cache_path=path).timing_cache == str(path)
    assert path.read_bytes() == b"learnt;"


def test_times_are_not_mixed_with_means_over_another_number(backend, tmp_path):
    path = tmp_path / "times.cache"
    backend.build("8.6", timing_cache_path=path)
    with pytest.raises(UsageError, match="averaged over another number of runs"):
        backend.build("8.6", timing_cache_path=path, timing_iterations=1)
    assert path.read_bytes() == b"learnt;"
    assert backend.build("8.6", timing_cache_path=path).timing_cache == str(path)


def test_times_are_not_kept_on_request(backend, tmp_path):
    assert backend.build("8.6", timing_cache=False).timing_cache is None
    assert backend.trt.config.cache is None
    assert not (tmp_path / "cache").exists()


# What goes wrong.


@pytest.mark.parametrize("version", VERSIONS)
def test_the_plugins_own_words_are_the_error(backend, version):
    refused = "gspn2 plugin, createPlugin: GspnProp2D: chunk is -1; expected 0 or more"

    def prepare(trt):
        backend.say(refused)
        trt.unknown = {"GspnProp2D": ("INVALID_NODE", 'plugin && "Could not create plugin"')}

    backend.say("gspn2 plugin, enqueue: of an earlier build")
    with pytest.raises(EngineLibraryError, match="the plugin refuses a propagation") as caught:
        backend.build(version, prepare=lambda trt: prepare_later(trt, prepare))
    assert "chunk is -1" in caught.value.problem
    assert caught.value.got == "GspnProp2D (first)"


def prepare_later(trt, prepare):
    """Let something happen once the session has looked at the plugin's last message."""
    make = trt.OnnxParser

    def parser(network, logger):
        prepare(trt)
        return make(network, logger)

    trt.OnnxParser = parser


@pytest.mark.parametrize("version", VERSIONS)
def test_a_plugin_that_the_parser_does_not_find(backend, version):
    said = 'creator && "Plugin not found, are the plugin name, version, and namespace correct?"'

    def prepare(trt):
        trt.unknown = {"GspnProp2D": ("UNSUPPORTED_NODE", said)}

    with pytest.raises(EngineLibraryError, match="does not find the plugin GspnProp2D") as caught:
        backend.build(version, prepare=prepare)
    assert caught.value.expected == "version 1, namespace ''"


@pytest.mark.parametrize("version", VERSIONS)
def test_an_unsupported_node_is_named_in_every_version(backend, version):
    def prepare(trt):
        trt.unknown = {"Gemm": ("UNSUPPORTED_NODE", "false")}

    with pytest.raises(EngineLibraryError, match="does not support Gemm") as caught:
        backend.build(version, prepare=prepare)
    assert caught.value.got == "Gemm (head): false"


def test_a_builder_that_does_not_start(backend):
    def prepare(trt):
        trt.starts_with = (
            "CUDA initialization failure with error: 35. Please check your CUDA installation:  "
            "http://docs.nvidia.com/cuda/cuda-installation-guide-linux/index.html"
        )

    with pytest.raises(EngineLibraryError, match="needs a GPU with a recent driver"):
        backend.build("8.6", prepare=prepare)


def test_a_build_that_fails_leaves_no_plan(backend):
    def prepare(trt):
        trt.build_errors = ("2: [virtualMemoryBuffer.cpp] Error Code 2: OutOfMemory",)

    with pytest.raises(EngineLibraryError, match="ran out of memory"):
        backend.build("8.6", prepare=prepare)
    assert not backend.request.plan_path.exists()


def test_a_plan_that_does_not_load_is_an_error(backend):
    def prepare(trt):
        trt.load_errors = ("Error Code 1: Serialization (Serialization assertion failed.)",)

    with pytest.raises(EngineLibraryError, match="plan is damaged"):
        backend.build("8.6", prepare=prepare)
    built = backend.build(
        "8.6", prepare=prepare, version_compatible=True, exclude_lean_runtime=True
    )
    assert built.unproven == ("the plan was not loaded: it needs a lean runtime beside it",)


@pytest.mark.parametrize("fuse", [True, False])
def test_the_plugin_takes_over_what_it_is_asked_for(backend, monkeypatch, fuse):
    seen = []

    def prepare(*arguments, **options):
        seen.append(options)
        return prepare_model(*arguments, **options)

    prepare_model = tensorrt_engine.prepare_model
    monkeypatch.setattr(tensorrt_engine, "prepare_model", prepare)
    backend.build("8.6", fuse=fuse)
    assert seen == [{"fuse": fuse}]
    said = "0 of 2 propagations take a prediction unsplit; 0 plugin layers stand for standard ops"
    assert said in backend.channel.logged


@pytest.mark.parametrize("fused", [("first",), ()])
def test_the_plugin_layers_that_stand_for_standard_ops_are_named(backend, monkeypatch, fused):
    prepare_model = tensorrt_engine.prepare_model

    def prepare(*arguments, **options):
        return replace(prepare_model(*arguments, **options), fused=fused)

    monkeypatch.setattr(tensorrt_engine, "prepare_model", prepare)
    assert backend.build("8.6").fused == dict.fromkeys(fused, "GspnProp2D")


@pytest.mark.parametrize("fuse", [True, False])
@pytest.mark.parametrize("version", ["8.6", "10.16"])
def test_an_input_that_is_cast_keeps_its_type(backend, version, fuse):
    backend.build(version, "fp16", cast=True, fuse=fuse)
    network = backend.trt.network
    assert network.get_input(0).dtype == backend.trt.float32
    casts = [layer for layer in network.layers if layer.type == backend.trt.LayerType.CAST]
    assert len(casts) == (1 if version == "8.6" and fuse else 2)
