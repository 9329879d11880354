"""Facts about the machine, from a stand-in for nvidia-smi and from what is not there."""

import os
import stat

import numpy as np
import pytest

from gspn2_deploy.bench import machine
from gspn2_deploy.bench.machine import Device, cpu_device, gpu_device, gpu_state, software
from gspn2_deploy.bench.memory import HostPeak
from gspn2_deploy.errors import PlatformError
from gspn2_deploy.runners.plan_errors import NoGpuError

FACTS = "NVIDIA H200, 9.0, 580.159.04, GPU-123, 143771, 1980, 3201"
STATE = "345, 3201, 30, 75.21"


@pytest.fixture
def smi(tmp_path, monkeypatch):
    """Put a program in nvidia-smi's place; returns where its arguments are written."""

    def install(facts=FACTS, state=STATE, code=0):
        path, log = tmp_path / "nvidia-smi", tmp_path / "log"
        path.write_text(
            f'#!/bin/sh\necho "$@" >> {log}\n'
            f'case "$1" in *clocks.sm*) echo "{state}";; *) echo "{facts}";; esac\nexit {code}\n'
        )
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        return log

    return install


def test_a_gpu_says_what_it_is(smi):
    log = smi()
    device = gpu_device("0000:01:00.0")
    assert device.name == "NVIDIA H200"
    assert (device.compute_capability, device.driver) == ("9.0", "580.159.04")
    assert str(device) == "NVIDIA H200 (driver 580.159.04)"
    assert "-i 0000:01:00.0" in log.read_text()
    assert Device.from_dict(device.as_dict()) == device


def test_the_first_visible_gpu_is_asked_for(smi, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    log = smi()
    gpu_device()
    assert "-i 3" in log.read_text()


def test_clocks_are_numbers(smi):
    smi()
    assert gpu_state() == {
        "sm_mhz": 345,
        "memory_mhz": 3201,
        "temperature_c": 30,
        "power_w": pytest.approx(75.21),
    }
    smi(state="345, [N/A], 30, [N/A]")
    assert gpu_state()["power_w"] is None


@pytest.mark.parametrize("answer", [{"code": 6}, {"state": "a, b"}, {"state": ""}], ids=str)
def test_a_driver_that_does_not_answer_is_no_failure(smi, answer):
    smi(**answer)
    assert gpu_state() is None


def test_without_nvidia_smi_the_driver_is_asked(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")

    class Gpu:
        name, compute_capability = "A GPU", "8.9"

    monkeypatch.setattr(machine, "current_gpu", Gpu)
    assert gpu_device() == Device("gpu", "A GPU", compute_capability="8.9")
    assert gpu_state() is None

    def none():
        raise PlatformError("none can be used here")

    monkeypatch.setattr(machine, "current_gpu", none)
    with pytest.raises(NoGpuError, match="none can be used"):
        gpu_device()


def test_devices_are_told_apart():
    here = cpu_device()
    assert here.cores >= 1
    assert here.identity == cpu_device().identity
    one = Device("gpu", "H200", compute_capability="9.0", driver="1", uuid="a")
    assert one.identity == Device("gpu", "H200", None, "9.0", "1", "b").identity  # a twin
    assert one.identity != Device("gpu", "H200", None, "9.0", "2", "a").identity


def test_versions_are_read_without_loading_anything():
    assert software()["onnxruntime"]
    assert software()["torch"]


def test_the_peak_is_taken_anew():
    before = HostPeak()
    block = np.ones(8_000_000)
    del block
    taken = before.taken()
    if taken is None:
        pytest.skip("this system does not reset the peak")
    assert taken.bytes > 50_000_000
    assert HostPeak().taken().bytes < 50_000_000


def test_a_system_that_does_not_tell_memory(monkeypatch, tmp_path):
    monkeypatch.setattr("gspn2_deploy.bench.memory._STATUS", tmp_path / "absent")
    assert HostPeak().taken() is None
    monkeypatch.setattr("gspn2_deploy.bench.memory._CLEAR", tmp_path)
    assert HostPeak().taken() is None
