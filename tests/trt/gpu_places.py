"""The models that ``gpu_day.py`` proves, and where everything lies below its work folder.

Two Pythons take part: the machine's own, with PyTorch, exports and measures PyTorch; the one that
comes with TensorRT 8.6, without PyTorch, builds, validates and measures engines, both by the
command line of gspn2-deploy.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from gpu_day import Command

HEADERS = ("8.6.0", "10.16", "11.1")
SEED = 0
BATCHES = (1, 8, 64)
PRECISIONS = ("fp32", "fp16")
PLUGIN = "libgspn2_tensorrt.so"
LONGEST = 600  # seconds that a step may take which does not resume: a call gives no more


@dataclass(frozen=True)
class Model:
    """A model that is exported, built and proven.

    Args:
        registered: Its registered name; None for the trained digits model.
        size: Height and width of its images; None for its own.
        batches: Of the golden samples; the first, the second and the last are the profile's.
        free: The smallest and the largest image, where height and width are left free; its golden
            samples then have two sizes and export's own batches.
        level: The builder's optimization level in fp16; in fp32 it is 1. Lower ones build faster,
            and run slower.
        estimates: Seconds that a build takes, in fp32 and in fp16.
    """

    registered: str | None
    size: tuple[int, int] | None = None
    batches: tuple[int, ...] = BATCHES
    free: tuple[tuple[int, int], tuple[int, int]] | None = None
    level: int = 1
    estimates: tuple[int, int] = (100, 150)


# The goals for speed are those of tiny in fp16: it is built as a user would. The others prove that
# they are right. Measured are the estimates of tiny alone, 96 to 131 s, of all others in fp16, four
# of them side by side, and of nano and tiny in fp32.
MODELS = {
    "nano": Model(None, batches=(1, 8, 64, 64, 64, 64, 64, 31), estimates=(45, 40)),
    "nano-free": Model(
        "nano",
        size=(64, 64),
        batches=(1, 3, 4),
        free=((33, 40), (128, 160)),
        estimates=(45, 45),
    ),
    "tiny": Model("tiny", level=3, estimates=(80, 130)),
    "tiny-512x768": Model("tiny", size=(512, 768), estimates=(120, 100)),
    "small": Model("small", estimates=(100, 110)),
    "base": Model("base", estimates=(110, 115)),
}
# Of nano, the first propagation on maps of 4x4; the one before it has 8x8.
WRONG_BLOCK, WRONG_SIZE = "stages.1.blocks.0.mixer.prop2d", (4, 4)


@dataclass(frozen=True)
class Places:
    """Where everything lies below the work folder, and the environments of the Pythons."""

    work: Path

    @property
    def source(self) -> Path:
        """The tree: the copy that was taken with the first part, or this one."""
        copied = self.work / "src"
        return copied if copied.is_dir() else Path(__file__).resolve().parents[2]

    def __getattr__(self, name: str) -> Path:
        """Any other folder by its name."""
        if name.startswith("_"):
            raise AttributeError(name)
        return self.work / name

    def model(self, name: str, precision: str, ending: str) -> Path:
        """A file of a model."""
        return self.work / "models" / f"{name}-{precision}{ending}"

    def weights(self, name: str, precision: str) -> Path:
        """What a model is exported from, in each precision by itself: exports run side by side."""
        if MODELS[name].registered is None:
            return self.source / "examples/digits/nano-digits.safetensors"
        return self.model(name, precision, ".safetensors")

    def result(self, name: str) -> Path:
        """A file that a command's JSON goes to."""
        return self.work / "results" / f"{name}.json"

    def torch(self, *arguments: object) -> Command:
        """A command of the Python with PyTorch."""
        env = {
            "PYTHONPATH": os.pathsep.join(map(str, (self.pkg, self.source / "tests"))),
            "GSPN2_KERNELS_LIBRARY": str(self.native / "libgspn2_kernels.so"),
            "OMP_NUM_THREADS": "4",
            "TORCHINDUCTOR_CACHE_DIR": str(self.inductor),
        }
        return Command((sys.executable, *map(str, arguments)), env)

    def without_onnxruntime(self, command: Command) -> Command:
        """The same command where onnxruntime counts as not installed."""
        folder = self.work / "without"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "onnxruntime.py").write_text('raise ImportError("left out")\n')
        path = os.pathsep.join([str(folder), command.env["PYTHONPATH"]])
        return replace(command, env={**command.env, "PYTHONPATH": path})

    def tensorrt(self, *arguments: object, **options: object) -> Command:
        """A command of the Python with TensorRT."""
        kit = self.kit
        path = (kit / "site", self.site, self.pkg, self.source / "tests")
        libraries = [str(kit / "lib"), str(kit / "python/lib")]
        libraries += filter(None, [os.environ.get("LD_LIBRARY_PATH")])
        env = {
            "PYTHONPATH": os.pathsep.join(map(str, path)),
            "LD_LIBRARY_PATH": os.pathsep.join(libraries),
            "GSPN2_TENSORRT_PLUGIN": str(self.native / "tensorrt/8.6" / PLUGIN),
            "GSPN2_CACHE_DIR": str(self.work / "cache"),
        }
        python = kit / "python/bin/python3.11"
        return Command((str(python), *map(str, arguments)), env, **options)  # type: ignore[arg-type]

    def deploy(self, *arguments: object, **options: object) -> Command:
        """gspn2-deploy in the Python with TensorRT."""
        return self.tensorrt("-m", "gspn2_deploy", "-q", *arguments, **options)
