"""The file that keeps measured times, what it is named after, and what its times are means of."""

import json

import pytest
from builder_fakes import Config, fake_builder

from gspn2_deploy.build.gpu import Gpu
from gspn2_deploy.build.timing_cache import CACHE_VARIABLE, RECORD_SUFFIX, TimingCache
from gspn2_deploy.errors import UsageError

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


# A file that the user names.


@pytest.fixture
def named(plugin, tmp_path):
    """Returns named(iterations): that file, opened by a build that averages so many runs."""
    path = tmp_path / "times.cache"
    return lambda iterations: TimingCache.open("8.6.1", GPU, "13.0", plugin, iterations, path)


def build(cache):
    config = make_config()
    cache.attach(config)
    assert cache.keep(config) == cache.path


def record_of(cache):
    return cache.path.with_name(cache.path.name + RECORD_SUFFIX)


def test_the_record_of_a_named_file_lies_beside_it(named):
    build(named(8))
    build(named(8))
    assert named(8).path.read_bytes() == b"learnt;learnt;"
    assert json.loads(record_of(named(8)).read_text())["timing_iterations"] == 8


def test_the_users_own_folder_of_caches_holds_no_records(plugin):
    cache = TimingCache.open("8.6.1", GPU, "13.0", plugin, 8)
    build(cache)
    assert list(cache.path.parent.iterdir()) == [cache.path]


def test_means_over_another_number_are_refused(named):
    build(named(8))
    with pytest.raises(UsageError, match="another number of runs") as caught:
        named(1)
    assert caught.value.got == f"{named(8).path}: over 8"
    assert caught.value.expected == "over 1, as --timing-iterations says"
    assert "--timing-iterations 8" in caught.value.hint
    assert named(8).path.read_bytes() == b"learnt;"


def test_a_file_without_a_record_is_used_and_gets_none(named, caplog):
    named(8).path.write_bytes(b"by trtexec;")
    build(named(8))
    assert "not known over how many runs" in caplog.text
    assert named(1).path.read_bytes() == b"by trtexec;learnt;"
    assert not record_of(named(8)).exists()


def test_a_record_is_of_one_content(named, caplog):
    build(named(8))
    named(8).path.write_bytes(b"by trtexec;")
    build(named(1))
    assert "not known over how many runs" in caplog.text
    caplog.clear()
    build(named(8))
    assert "not known over how many runs" in caplog.text


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"sha256": 1, "timing_iterations": 1}'])
def test_a_damaged_record_says_nothing(named, caplog, text):
    build(named(8))
    record_of(named(8)).write_text(text)
    build(named(8))
    assert "not known over how many runs" in caplog.text


def test_a_file_that_is_measured_anew_has_a_new_record(named, caplog):
    build(named(8))
    named(8).path.unlink()
    build(named(1))
    assert json.loads(record_of(named(1)).read_text())["timing_iterations"] == 1
    named(1).path.write_bytes(b"damaged")
    build(named(8))
    assert "not usable" in caplog.text
    assert json.loads(record_of(named(8)).read_text())["timing_iterations"] == 8
    assert "not known" not in caplog.text


def test_what_builds_write_at_once_is_not_mixed(named, caplog):
    cache, config = named(1), make_config()
    cache.attach(config)
    build(named(8))
    assert cache.keep(config) is None
    assert "another number of runs" in caplog.text
    assert named(8).path.read_bytes() == b"learnt;"


def test_what_another_build_writes_before_times_are_used_is_checked(named):
    cache, config = named(1), make_config()
    build(named(8))
    with pytest.raises(UsageError, match="another number of runs"):
        cache.attach(config)
    assert config.cache is None
    other = named(8)
    build(named(8))
    other.attach(config)
    assert config.cache.content == b"learnt;learnt;"


def test_what_builds_of_one_number_write_at_once_is_joined(named):
    cache, config = named(8), make_config()
    cache.attach(config)
    build(named(8))
    assert cache.keep(config) == cache.path
    assert named(8).path.read_bytes() == b"learnt;learnt;"
    with pytest.raises(UsageError):
        named(1)


def test_a_file_without_a_record_that_appears_meanwhile_leaves_none(named):
    cache, config = named(8), make_config()
    cache.attach(config)
    cache.path.write_bytes(b"by trtexec;")
    assert cache.keep(config) == cache.path
    assert not record_of(cache).exists()
