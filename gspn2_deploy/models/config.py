"""The configuration of a GSPN-2 model: frozen, checked, and serialisable to JSON."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from gspn2_deploy.errors import UsageError
from gspn2_deploy.spec import DEFAULT_NORMALIZE, Normalize

STEM_STRIDES = (1, 2, 4)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Everything that decides a model's architecture.

    The defaults are those of the ImageNet models. A stage halves the map of the stage before it;
    the stem divides the image by ``stem_stride``.

    Args:
        name: The name that the model is registered under; it travels in checkpoints.
        widths: Channels of each stage.
        depths: Blocks of each stage.
        chunks: Scan steps per segment of each stage, 0 for the whole line.
        in_channels: Channels of the images.
        num_classes: Logits per image.
        image_size: Default image height and width, in pixels.
        stem_stride: Pixels per position of the first stage's map: 1, 2 or 4.
        c_proxy: Channels of the proxy space that is propagated in.
        shared_affinity: One tridiagonal map per direction for all proxy channels (G = 1) instead
            of one per channel (G = c_proxy).
        skip_gate: Whether the propagation has the skip gate d.
        normalize: How affinities become weights, a value of ``spec.Normalize``.
        expansion: Inner channels of a mixer, as a multiple of the stage's width.
        kernel_size: Kernel of the mixer's depthwise convolution, odd, in positions.
        mlp_ratio: Hidden channels of a feed-forward network, as a multiple of the width.
        grn: Whether a global response normalisation follows the norm after the scan.

    Raises:
        UsageError: Values that do not fit together.

    Source: GSPN-2 (arXiv 2512.07884), implementation details, for c_proxy and the shared
    affinity; GSPN (arXiv 2501.12381) for the rest, which GSPN-2 leaves open.
    """

    name: str
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    chunks: tuple[int, ...] = (2, 2, 0, 0)
    in_channels: int = 3
    num_classes: int = 1000
    image_size: tuple[int, int] = (224, 224)
    stem_stride: int = 4
    c_proxy: int = 2
    shared_affinity: bool = True
    skip_gate: bool = True
    normalize: str = DEFAULT_NORMALIZE
    expansion: float = 1.5
    kernel_size: int = 7
    mlp_ratio: float = 4.0
    grn: bool = True

    def __post_init__(self) -> None:
        for field in ("widths", "depths", "chunks", "image_size"):
            object.__setattr__(self, field, _integers(field, getattr(self, field)))
        for field in ("in_channels", "num_classes", "stem_stride", "c_proxy", "kernel_size"):
            _integers(field, [getattr(self, field)])
        for field in ("expansion", "mlp_ratio"):
            _check_type(field, getattr(self, field), (int, float), "a number")
        for field in ("shared_affinity", "skip_gate", "grn"):
            _check_type(field, getattr(self, field), (bool,), "true or false")
        if not 1 <= len(self.widths) == len(self.depths) == len(self.chunks):
            raise UsageError(
                "widths, depths and chunks must name the same stages",
                got=f"{len(self.widths)}, {len(self.depths)} and {len(self.chunks)} values",
                expected="one value per stage each",
            )
        _at_least(1, widths=self.widths, depths=self.depths, image_size=self.image_size)
        _at_least(0, chunks=self.chunks)
        _at_least(
            1,
            in_channels=(self.in_channels,),
            num_classes=(self.num_classes,),
            c_proxy=(self.c_proxy,),
        )
        if len(self.image_size) != 2:
            raise UsageError("image_size is not a height and a width", got=self.image_size)
        if self.stem_stride not in STEM_STRIDES:
            raise UsageError("unknown stem_stride", got=self.stem_stride, expected=STEM_STRIDES)
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise UsageError(
                "kernel_size must be odd", got=self.kernel_size, expected="1, 3, 5, 7, ..."
            )
        if not (self.expansion > 0 and self.mlp_ratio > 0):
            raise UsageError(
                "expansion and mlp_ratio must be positive",
                got=f"{self.expansion} and {self.mlp_ratio}",
            )
        modes = [mode.value for mode in Normalize]
        if self.normalize not in modes:
            raise UsageError("unknown normalize", got=self.normalize, expected=", ".join(modes))

    @property
    def stride(self) -> int:
        """Pixels per position of the last stage's map."""
        return self.stem_stride << (len(self.widths) - 1)

    def to_json(self) -> str:
        """Return the configuration as one line of JSON."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ModelConfig:
        """Rebuild a configuration.

        Raises:
            UsageError: The text is not JSON, or names fields that this version does not know.
        """
        try:
            fields = json.loads(text)
        except ValueError as error:
            raise UsageError("the model configuration is not JSON", got=str(error)) from error
        if not isinstance(fields, dict):
            raise UsageError("the model configuration is not a JSON object", got=text[:80])
        check_fields(fields)
        try:
            return cls(**fields)
        except TypeError as error:
            raise UsageError("the model configuration is incomplete", got=str(error)) from error


def check_fields(fields: dict[str, Any]) -> None:
    """Raise UsageError when a name is not a field of ModelConfig."""
    known = [field.name for field in dataclasses.fields(ModelConfig)]
    unknown = sorted(set(fields) - set(known))
    if unknown:
        raise UsageError(
            "unknown model option" + ("s" if len(unknown) > 1 else ""),
            got=", ".join(unknown),
            expected="some of " + ", ".join(known),
        )


def _integers(field: str, value: Any) -> tuple[int, ...]:
    _check_type(field, value, (list, tuple), "a list of whole numbers")
    for item in value:
        _check_type(field, item, (int,), "a whole number")
    return tuple(value)


def _check_type(field: str, value: Any, types: tuple[type, ...], expected: str) -> None:
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        raise UsageError(f"{field} is of the wrong kind", got=repr(value), expected=expected)


def _at_least(minimum: int, **fields: tuple[int, ...]) -> None:
    for field, values in fields.items():
        if any(value < minimum for value in values):
            raise UsageError(
                f"{field} is out of range", got=values, expected=f"{minimum} or more each"
            )
