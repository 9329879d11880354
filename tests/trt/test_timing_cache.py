"""The file that keeps measured times, and what it is named after."""

import pytest
from builder_fakes import Config, fake_builder

from gspn2_deploy.build.gpu import Gpu
from gspn2_deploy.build.timing_cache import CACHE_VARIABLE, TimingCache

GPU = Gpu("GPU", "9.0")


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    path = tmp_path / "plugin.so"
    path.write_bytes(b"one")
    return path


def make_config():
    return Config(fake_builder("8.6"))


def test_it_is_kept_and_used_again(plugin):
    cache = TimingCache.open("8.6.1", GPU, "13.0", plugin, 8)
    first = make_config()
    cache.attach(first)
    assert cache.keep(first) == cache.path
    assert cache.path.read_bytes() == b"learnt;"
    second = make_config()
    TimingCache.open("8.6.1", GPU, "13.0", plugin, 8).attach(second)
    assert second.cache.content == b"learnt;"


def test_one_of_another_machine_is_replaced(plugin, caplog):
    cache = TimingCache.open("8.6.1", GPU, "13.0", plugin, 8)
    cache.path.parent.mkdir(parents=True)
    cache.path.write_bytes(b"damaged")
    config = make_config()
    cache.attach(config)
    assert config.cache.content == b""
    assert "not usable" in caplog.text
    cache.keep(config)
    assert cache.path.read_bytes() == b"learnt;"


def test_what_another_build_wrote_meanwhile_is_kept(plugin):
    cache = TimingCache.open("8.6.1", GPU, "13.0", plugin, 8)
    config = make_config()
    cache.attach(config)
    cache.path.parent.mkdir(parents=True)
    cache.path.write_bytes(b"of another;")
    cache.keep(config)
    assert cache.path.read_bytes() == b"of another;learnt;"


def test_a_folder_that_nobody_may_write_to_is_no_failure(plugin, caplog):
    cache = TimingCache.open("8.6.1", GPU, "13.0", plugin, 8, plugin / "below" / "a.cache")
    config = make_config()
    cache.attach(config)
    assert cache.keep(config) is None
    assert "was not kept" in caplog.text


def test_the_key_covers_what_times_depend_on(plugin):
    def path(version="8.6.1", gpu=GPU, driver="13.0", iterations=8):
        return TimingCache.open(version, gpu, driver, plugin, iterations).path

    paths = {
        path(),
        path(version="8.6.2"),
        path(gpu=Gpu("GPU", "8.0")),
        path(gpu=Gpu("Other", "9.0")),
        path(driver=None),
        path(iterations=1),
    }
    assert path() in paths
    assert len(paths) == 6
    before = path()
    plugin.write_bytes(b"two")
    assert path() != before
