"""What the TensorRT backend asks of a network and of an engine, on stand-ins for them."""

import json
from enum import Enum
from types import SimpleNamespace

import pytest

from gspn2_deploy.build.gpu import Gpu
from gspn2_deploy.build.tensorrt_engine import check_plugins, honour_precision, inspected_types
from gspn2_deploy.build.timing_cache import CACHE_VARIABLE, TimingCache
from gspn2_deploy.build.translate import EngineLibraryError

LayerType = Enum("LayerType", "CONVOLUTION PLUGIN_V2 CONSTANT CAST IDENTITY SHAPE")
FLOAT, HALF, INT = "float", "half", "int"
TRT = SimpleNamespace(
    LayerType=LayerType,
    BuilderFlag=SimpleNamespace(TF32="TF32", FP16="FP16", OBEY_PRECISION_CONSTRAINTS="OBEY"),
    float32=FLOAT,
    float16=HALF,
)


class Layer(SimpleNamespace):
    def __init__(self, name, kind, *dtypes):
        super().__init__(name=name, type=kind, num_outputs=len(dtypes), precision=None)
        self.dtypes, self.output_types = dtypes, {}

    def get_output(self, index):
        return SimpleNamespace(dtype=self.dtypes[index])

    def set_output_type(self, index, dtype):
        self.output_types[index] = dtype


def make_network(*layers):
    return SimpleNamespace(num_layers=len(layers), get_layer=lambda index: layers[index])


class Config:
    def __init__(self):
        self.flags = {"TF32"}

    def set_flag(self, flag):
        self.flags.add(flag)

    def clear_flag(self, flag):
        self.flags.discard(flag)


def test_plugins_are_counted_by_name_and_kind():
    network = make_network(
        Layer("a", LayerType.PLUGIN_V2, HALF), Layer("b", LayerType.CONVOLUTION, HALF)
    )
    assert check_plugins(TRT, network, {"a": "GspnProp2D"}) == ("a",)
    wanted = {"a": "GspnProp2D", "b": "GspnProp2D", "c": "GspnLineScan"}
    with pytest.raises(EngineLibraryError, match="1 GspnProp2D, 1 GspnLineScan") as caught:
        check_plugins(TRT, network, wanted)
    assert caught.value.got == "1 of 3; missing: b, c"


def test_fp32_uses_neither_tf32_nor_half():
    layer, config = Layer("a", LayerType.CONVOLUTION, FLOAT), Config()
    honour_precision(TRT, make_network(layer), config, "fp32")
    assert config.flags == set()
    assert layer.precision is None


def test_mixed_types_are_those_of_the_file():
    half = Layer("a", LayerType.PLUGIN_V2, HALF)
    wide = Layer("b", LayerType.CONVOLUTION, FLOAT, FLOAT)
    cast = Layer("c", LayerType.CAST, FLOAT)
    shape = Layer("d", LayerType.CONVOLUTION, INT)
    config = Config()
    honour_precision(TRT, make_network(half, wide, cast, shape), config, "mixed")
    assert config.flags == {"FP16", "OBEY"}
    assert (half.precision, half.output_types) == (HALF, {0: HALF})
    assert (wide.precision, wide.output_types) == (FLOAT, {0: FLOAT, 1: FLOAT})
    assert cast.precision is None
    assert shape.precision is None


def inspector_text(description):
    layer = {"Name": "a", "LayerType": "PluginV2", "Outputs": [{"Format/Datatype": description}]}
    return json.dumps({"Layers": [layer, {"Name": "other"}]})


@pytest.mark.parametrize(
    "description, dtype",
    [
        ("Row major linear FP16 format", "float16"),
        ("Row major linear FP32", "float32"),
        ("Half", "float16"),
        ("BFloat16", "bfloat16"),
    ],
)
def test_types_are_read_from_the_inspector(description, dtype):
    assert inspected_types(inspector_text(description), ("a", "gone")) == {"a": dtype}


@pytest.mark.parametrize(
    "text", ["", "{}", '{"Layers": ["a"]}', inspector_text("N/A due to dynamic shapes")]
)
def test_unknown_inspector_text_is_not_guessed(text):
    assert inspected_types(text, ("a",)) is None


class CacheConfig:
    """A builder configuration that accepts one content only."""

    def __init__(self, accepts):
        self.accepts, self.cache = accepts, None

    def create_timing_cache(self, content):
        return SimpleNamespace(content=content, serialize=lambda: content + b"learnt")

    def set_timing_cache(self, cache, ignore_mismatch):
        assert not ignore_mismatch
        if cache.content not in (b"", self.accepts):
            return False
        self.cache = cache
        return True

    def get_timing_cache(self):
        return self.cache


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    path = tmp_path / "plugin.so"
    path.write_bytes(b"one")
    return path


GPU = Gpu("GPU", "9.0")


def test_timing_cache_is_kept_and_used_again(plugin):
    cache = TimingCache.open("8.6.1", GPU, "13.0", plugin)
    first = CacheConfig(b"")
    cache.attach(first)
    cache.keep(first)
    assert cache.path.read_bytes() == b"learnt"
    second = CacheConfig(b"learnt")
    TimingCache.open("8.6.1", GPU, "13.0", plugin).attach(second)
    assert second.cache.content == b"learnt"


def test_timing_cache_of_other_content_is_replaced(plugin, caplog):
    cache = TimingCache.open("8.6.1", GPU, "13.0", plugin)
    cache.path.parent.mkdir(parents=True)
    cache.path.write_bytes(b"damaged")
    config = CacheConfig(b"learnt")
    cache.attach(config)
    assert config.cache.content == b""
    assert "not usable" in caplog.text


def test_timing_cache_key_covers_what_timings_depend_on(plugin):
    def path(version="8.6.1", gpu=GPU, driver="13.0"):
        return TimingCache.open(version, gpu, driver, plugin).path

    paths = {
        path(),
        path(version="8.6.2"),
        path(gpu=Gpu("GPU", "8.0")),
        path(gpu=Gpu("Other", "9.0")),
        path(driver=None),
    }
    assert path() in paths
    assert len(paths) == 5
    before = path()
    plugin.write_bytes(b"two")
    assert path() != before
