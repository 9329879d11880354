"""GSPN-2 image classifiers: blocks, stages, the model, and its entry points."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from gspn2_deploy.errors import ShapeError
from gspn2_deploy.models.config import ModelConfig, check_fields
from gspn2_deploy.models.layers import LPU, MLP, LayerNorm2d
from gspn2_deploy.models.mixer import Gspn2Mixer
from gspn2_deploy.models.registry import register_model

_INIT_STD = 0.02


class Gspn2Block(nn.Module):
    """LPU, mixer, LPU, MLP; mixer and MLP with a norm before and a residual around them.

    Args:
        config: The model's configuration.
        stage: Index of the stage.
    """

    def __init__(self, config: ModelConfig, stage: int) -> None:
        super().__init__()
        channels = config.widths[stage]
        self.lpu1 = LPU(channels)
        self.norm1 = LayerNorm2d(channels)
        self.mixer = Gspn2Mixer(
            channels,
            round(config.expansion * channels),
            c_proxy=config.c_proxy,
            shared_affinity=config.shared_affinity,
            skip_gate=config.skip_gate,
            normalize=config.normalize,
            chunk=config.chunks[stage],
            kernel_size=config.kernel_size,
            grn=config.grn,
        )
        self.lpu2 = LPU(channels)
        self.norm2 = LayerNorm2d(channels)
        self.mlp = MLP(channels, round(config.mlp_ratio * channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W) with C the stage's width."""
        x = self.lpu1(x)
        x = x + self.mixer(self.norm1(x))
        x = self.lpu2(x)
        y: Tensor = x + self.mlp(self.norm2(x))
        return y


class Stem(nn.Sequential):
    """Two 3x3 convolutions, each with a norm, a GELU between them.

    Args:
        in_channels: Channels of the images.
        channels: C, the first stage's width.
        stride: 4 (both convolutions halve the map), 2 (the first one does) or 1.

    Shapes:
        (N, in_channels, H, W) -> (N, C, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        hidden = max(channels // 2, 1)
        super().__init__(
            nn.Conv2d(in_channels, hidden, 3, stride=2 if stride > 1 else 1, padding=1),
            LayerNorm2d(hidden),
            nn.GELU(),
            nn.Conv2d(hidden, channels, 3, stride=2 if stride > 2 else 1, padding=1),
            LayerNorm2d(channels),
        )


class Downsample(nn.Sequential):
    """A 3x3 convolution with stride 2 and a norm.

    Args:
        in_channels: Channels of the stage before.
        channels: C, channels of the stage that it opens.

    Shapes:
        (N, in_channels, H, W) -> (N, C, ceil(H / 2), ceil(W / 2)).
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, channels, 3, stride=2, padding=1), LayerNorm2d(channels)
        )


class Stage(nn.Module):
    """Blocks on one map size, after a downsampling in every stage but the first.

    Args:
        config: The model's configuration.
        stage: Index of the stage.
    """

    def __init__(self, config: ModelConfig, stage: int) -> None:
        super().__init__()
        self.downsample: nn.Module = (
            Downsample(config.widths[stage - 1], config.widths[stage]) if stage else nn.Identity()
        )
        self.blocks = nn.Sequential(
            *(Gspn2Block(config, stage) for _ in range(config.depths[stage]))
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_before, H, W) -> (N, C, ceil(H / 2), ceil(W / 2)); the first keeps H and W."""
        y: Tensor = self.blocks(self.downsample(x))
        return y


class Gspn2(nn.Module):
    """A GSPN-2 image classifier.

    Modules keep their dotted names, such as ``stages.2.blocks.3.mixer``: users name blocks by
    them. Initialisation draws from PyTorch's global generator only.

    Args:
        config: The configuration; it stays readable as ``model.config``.

    Source: GSPN-2 (arXiv 2512.07884), implementation details; the stage layout of GSPN
    (arXiv 2501.12381).
    """

    output_names = ("logits",)  # of an exported file

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = Stem(config.in_channels, config.widths[0], config.stem_stride)
        self.stages = nn.Sequential(*(Stage(config, index) for index in range(len(config.widths))))
        self.norm = LayerNorm2d(config.widths[-1])
        self.head = nn.Linear(config.widths[-1], config.num_classes)
        self.apply(_initialise)

    @property
    def default_size(self) -> tuple[int, int]:
        """Image height and width, in pixels, that the model was made for."""
        return self.config.image_size

    @property
    def min_size(self) -> int:
        """The smallest image height and width, in pixels: two positions in the last stage.

        An exported graph with a free height and width holds from two positions up too.
        """
        return self.config.stride + 1

    def forward(self, images: Tensor) -> Tensor:
        """Classify.

        Args:
            images: (N, in_channels, H, W), of the parameters' dtype: float32, float16 or bfloat16.
                H and W are free from ``min_size`` up, odd sizes and non-square images included.

        Returns:
            The logits, (N, num_classes), of the same dtype.

        Raises:
            ShapeError: Images of another rank or channel count, or below the smallest size.
        """
        if not torch.compiler.is_compiling():  # an exported graph carries no such guards
            self._check(images)
        x = self.stages(self.stem(images))
        x = self.norm(x).mean((2, 3))  # (N, C, H, W) -> (N, C)
        logits: Tensor = self.head(x)
        return logits

    def _check(self, images: Tensor) -> None:
        least = self.min_size
        expected = f"(N, {self.config.in_channels}, H, W) with H and W of at least {least}"
        if images.dim() != 4 or images.shape[1] != self.config.in_channels:
            raise ShapeError(
                f"{self.config.name}: images of the wrong shape",
                got=tuple(images.shape),
                expected=expected,
            )
        if min(images.shape[2:]) < least:
            raise ShapeError(
                f"{self.config.name}: the images are too small",
                got=tuple(images.shape),
                expected=expected,
                hint="enlarge or pad the images, or create the model with a smaller stem_stride",
            )


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.trunc_normal_(module.weight, std=_INIT_STD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, Gspn2Mixer):
        module.open_gates()  # apply() visits children first: the biases were zeroed before


def _build(config: ModelConfig, overrides: dict[str, Any]) -> Gspn2:
    check_fields(overrides)
    return Gspn2(dataclasses.replace(config, **overrides))


# Depths and widths are ours, found from GSPN-1's by matching the paper's parameters and MACs; the
# paper gives no others. Widths are multiples of 8, which half-precision matrix units want.


@register_model
def tiny(**overrides: Any) -> Gspn2:
    """GSPN-2-T: 24 M parameters, 4.2 G MACs at 224 px."""
    return _build(ModelConfig("tiny", (80, 160, 320, 640), (2, 3, 9, 2)), overrides)


@register_model
def small(**overrides: Any) -> Gspn2:
    """GSPN-2-S: 50 M parameters, 9.2 G MACs at 224 px."""
    return _build(ModelConfig("small", (104, 208, 416, 832), (3, 3, 14, 2)), overrides)


@register_model
def base(**overrides: Any) -> Gspn2:
    """GSPN-2-B: 89 M parameters, 14.2 G MACs at 224 px."""
    return _build(ModelConfig("base", (120, 240, 480, 960), (4, 4, 14, 4)), overrides)


@register_model
def nano(**overrides: Any) -> Gspn2:
    """A test model with every kind of layer, well under a million parameters, 64 px."""
    config = ModelConfig(
        "nano", (16, 32, 64, 96), (1, 1, 2, 1), num_classes=10, image_size=(64, 64)
    )
    return _build(config, overrides)
