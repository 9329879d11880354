"""Timing on the GPU: medians of CUDA graph replays over rotating, cold inputs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

COLD_BYTES = 512 * 2**20  # one round of inputs exceeds every L2 cache by far
REPLAYS = 15
MAX_SETS = 64


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one call: the median over replays, and their extremes."""

    median: float
    low: float
    high: float
    calls: int  # timed calls in all

    def record(self) -> dict[str, float | int]:
        """The fields of a JSON row."""
        return {
            "ms": round(self.median, 6),
            "ms_min": round(self.low, 6),
            "ms_max": round(self.high, 6),
            "calls": self.calls,
        }


def sets_needed(bytes_per_set: int) -> int:
    """How many sets of inputs one must rotate through so that each is out of the cache again."""
    return min(MAX_SETS, max(2, math.ceil(COLD_BYTES / bytes_per_set)))


def time_graph(calls: Sequence[Callable[[], object]], replays: int = REPLAYS) -> Timing:
    """Time `calls`, one after the other in one CUDA graph; each replay gives time / len(calls).

    Args:
        calls: The same work on different buffers; at least two rounds run before timing.
        replays: How many replays are timed.
    """
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        calls[0]()  # module load, function attributes
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in calls:
            call()
    return _time(graph.replay, len(calls), replays)


def time_stream(call: Callable[[], object], replays: int = REPLAYS) -> Timing:
    """Time plain launches of one call, as an application without CUDA graphs sees them."""
    return _time(call, 1, replays)


def _time(run: Callable[[], object], calls: int, replays: int) -> Timing:
    for _ in range(2):
        run()
    torch.cuda.synchronize()
    samples = []
    for _ in range(replays):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        stop.record()
        stop.synchronize()
        samples.append(start.elapsed_time(stop) / calls)
    return Timing(statistics.median(samples), min(samples), max(samples), calls * replays)


def copy_bandwidth() -> float:
    """Bytes read plus bytes written per second of a device-to-device copy of 4 GiB."""
    source = torch.empty(2**30, device="cuda").normal_()
    target = torch.empty_like(source)
    timing = time_stream(lambda: target.copy_(source))
    return 2 * source.numel() * source.element_size() / (timing.median * 1e-3)
