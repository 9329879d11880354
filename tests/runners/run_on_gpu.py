"""Run a plan on this machine's GPU in every way that the Python runner offers.

    PYTHONPATH=. python tests/runners/run_on_gpu.py PLAN GOLDEN

GOLDEN holds the samples of the ONNX file that PLAN was built from. Prints a line for each step, and
exits with 1 when one failed. Needs TensorRT, pycuda, NumPy and the plugin (GSPN2_TENSORRT_PLUGIN);
neither PyTorch nor pytest. Where PyTorch with CUDA is installed too, both share one context.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np

from gspn2_deploy.errors import DtypeError, ShapeError
from gspn2_deploy.golden import GoldenSamples
from gspn2_deploy.runners.base import Arrays
from gspn2_deploy.runners.plan_errors import AlteredPlanError, DeviceBufferError, NoGpuError
from gspn2_deploy.runners.tensorrt_runner import TensorRTRunner
from gspn2_deploy.validate.compare import compare_outputs
from gspn2_deploy.validate.samples import profile_samples
from gspn2_deploy.validate.tolerances import model_tolerance


class Check:
    """The steps, over one plan and its golden samples."""

    def __init__(self, plan: Path, golden: Path) -> None:
        self.plan = plan
        self.golden = GoldenSamples.load(golden)
        self.tolerance = model_tolerance(self.golden.precision)

    def golden_samples(self) -> str:
        """The recorded outputs come out, plainly and by graph replay."""
        count = 0
        for graph in (False, True):
            with TensorRTRunner(self.plan, graph=graph) as runner:
                for sample in self.golden.samples:
                    if runner.can_run(sample.inputs):
                        self._same(sample.outputs, runner.infer(sample.inputs))
                        count += 1
        expect(count > 0, "no golden sample fits a profile")
        return f"{count} samples"

    def shapes_of_the_profiles(self) -> str:
        """A graph gives what plain runs give, bit for bit, whatever shapes came before."""
        with TensorRTRunner(self.plan) as plain:
            samples = list(profile_samples(plain.input_specs, plain.profiles, count=2))
            answers = [plain.infer(sample.inputs) for sample in samples]
        with TensorRTRunner(self.plan, graph=True) as replayed:
            for _ in range(2):
                for sample, answer in zip(samples, answers, strict=True):
                    again = replayed.infer(sample.inputs)
                    for name, value in answer.items():
                        expect(np.array_equal(again[name], value), f"{sample.name}: {name} differs")
        return ", ".join(dict.fromkeys(sample.name.split()[0] for sample in samples))

    def callers_memory_and_stream(self) -> str:
        """It works in the caller's GPU memory on the caller's stream, and says what it cannot."""
        with TensorRTRunner(self.plan) as runner, runner.current():
            cuda = runner.cuda
            inputs = self._fitting(runner)
            expected = runner.infer(inputs)
            stream = cuda.Stream()
            arrays = {name: DeviceArray(cuda, value) for name, value in inputs.items()}
            results = {
                name: DeviceArray(cuda, np.zeros_like(value)) for name, value in expected.items()
            }
            runner.enqueue({**arrays, **results}, stream.handle)
            stream.synchronize()
            for name, value in expected.items():
                expect(np.array_equal(results[name].numpy(), value), f"{name} differs")
            first = next(iter(arrays))
            buffers = {**arrays, **results, first: inputs[first]}
            refused(DeviceBufferError, lambda: runner.enqueue(buffers, stream.handle))
            arrays[first].free()
            refused(DeviceBufferError, lambda: runner.enqueue({**arrays, **results}, stream.handle))
            for array in (*list(arrays.values())[1:], *results.values()):
                array.free()
        return "same bits; host and freed memory are refused"

    def layers(self) -> str:
        """TensorRT tells what ran: every propagation in the plugin."""
        with TensorRTRunner(self.plan) as runner:
            inputs = self._fitting(runner)
            before = runner.infer(inputs)
            layers = runner.profile(inputs, runs=3)
            wanted = sum(runner.manifest.propagations.values())
            ran = [item for item in layers if item.milliseconds is not None]
            plugins = [item for item in ran if item.is_propagation]
            expect(len(plugins) == wanted, f"{len(plugins)} of {wanted} plugin layers ran")
            after = runner.infer(inputs)
            expect(all(np.array_equal(before[name], after[name]) for name in before), "differs")
        types = ", ".join(sorted({str(item.dtype) for item in plugins}))
        return f"{len(plugins)} plugin layers in {types}, {len(layers)} layers"

    def wrong_use(self) -> str:
        """What cannot be run is refused by type, and the runner works on afterwards."""
        with TensorRTRunner(self.plan) as runner:
            inputs = self._fitting(runner)
            name, value = next(iter(inputs.items()))
            most = max(profile[name].max[0] for profile in runner.profiles)
            wide = np.zeros((most + 1, *value.shape[1:]), value.dtype)
            refused(ShapeError, lambda: runner.infer({**inputs, name: wide}))
            refused(DtypeError, lambda: runner.infer({**inputs, name: value.astype(np.float64)}))
            runner.infer(inputs)
        refused(NoGpuError, lambda: TensorRTRunner(self.plan, device=99).__enter__())
        copy = self.plan.with_name("altered.plan")
        try:
            copy.write_bytes(self.plan.read_bytes()[:-1])
            beside = self.plan.with_name(f"{self.plan.name}.json")
            copy.with_name(f"{copy.name}.json").write_bytes(beside.read_bytes())
            refused(AlteredPlanError, lambda: TensorRTRunner(copy).__enter__())
        finally:
            copy.unlink(missing_ok=True)
            copy.with_name(f"{copy.name}.json").unlink(missing_ok=True)
        return "shape, dtype, GPU, truncated plan"

    def nothing_is_left(self) -> str:
        """Memory and contexts are given back, also where two runners are open at once."""
        with TensorRTRunner(self.plan) as runner:
            free = runner.free_before_load
        with TensorRTRunner(self.plan, name="a") as first:
            inputs = self._fitting(first)
            with TensorRTRunner(self.plan, name="b") as second:
                self._same(first.infer(inputs), second.infer(inputs))
            first.infer(inputs)
        with TensorRTRunner(self.plan) as runner:
            lost = free - runner.free_before_load
        expect(lost < 64 << 20, f"{lost} bytes of GPU memory are gone")
        return f"{max(lost, 0) >> 20} MiB less free than before"

    def beside_pytorch(self) -> str:
        """PyTorch and the runner share the device's primary context, streams and memory."""
        try:
            import torch
        except ImportError:
            return "skipped, as PyTorch is not installed"
        if not torch.cuda.is_available():
            return "skipped, as PyTorch sees no GPU"
        with TensorRTRunner(self.plan) as runner:
            inputs = self._fitting(runner)
            expected = runner.infer(inputs)
            tensors = {name: torch.from_numpy(value).cuda() for name, value in inputs.items()}
            results = {
                name: torch.empty(value.shape, device="cuda") for name, value in expected.items()
            }
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            runner.enqueue({**tensors, **results}, stream.cuda_stream)
            stream.synchronize()
            for name, value in expected.items():
                expect(np.array_equal(results[name].cpu().numpy(), value), f"{name} differs")
        expect(bool((torch.ones(8, device="cuda") * 2 == 2).all()), "PyTorch's context is gone")
        return "same bits on a stream of PyTorch's"

    def _fitting(self, runner: TensorRTRunner) -> Arrays:
        found = [item.inputs for item in self.golden.samples if runner.can_run(item.inputs)]
        expect(bool(found), "no golden sample fits a profile")
        return found[0]

    def _same(self, expected: Arrays, actual: Arrays) -> None:
        for result in compare_outputs(expected, actual, self.tolerance):
            expect(result.passed, f"{result.name}: {'; '.join(result.failures)}")


class DeviceArray:
    """An array on the GPU that says so as PyTorch's and CuPy's do."""

    def __init__(self, cuda: object, values: np.ndarray) -> None:
        self._cuda, self._like = cuda, values
        self._memory = cuda.mem_alloc(values.nbytes)
        cuda.memcpy_htod(self._memory, np.ascontiguousarray(values))
        self.__cuda_array_interface__ = {
            "shape": values.shape,
            "typestr": values.dtype.str,
            "data": (int(self._memory), False),
            "strides": None,
            "version": 3,
        }

    def numpy(self) -> np.ndarray:
        """Its content."""
        values = np.empty_like(self._like)
        self._cuda.memcpy_dtoh(values, self._memory)
        return values

    def free(self) -> None:
        """Free its memory."""
        self._memory.free()


def expect(holds: bool, otherwise: str) -> None:
    """Fail with a sentence."""
    if not holds:
        raise AssertionError(otherwise)


def refused(kind: type[Exception], call: Callable[[], object]) -> None:
    """Expect an error of exactly one type."""
    try:
        call()
    except kind:
        return
    raise AssertionError(f"nothing was refused; expected {kind.__name__}")


STEPS = ("golden_samples", "shapes_of_the_profiles", "callers_memory_and_stream", "layers")
STEPS += ("wrong_use", "nothing_is_left", "beside_pytorch")


def main(plan: str, golden: str) -> int:
    """Run every step."""
    check, failures = Check(Path(plan), Path(golden)), 0
    for name in STEPS:
        try:
            said = getattr(check, name)()
            line = f"{'skipped' if said.startswith('skipped') else 'ok':<7} {name}: {said}"
        except Exception as error:
            failures += 1
            line = f"FAILED  {name}: {type(error).__name__}: {error}"
            traceback.print_exc()
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
