"""Options, parameter types and output shared by the commands."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gspn2_deploy import progress
from gspn2_deploy.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

_Function = TypeVar("_Function", bound=Callable[..., Any])

JSON_KEY = "gspn2_deploy.json"
_STDOUT_KEY = "gspn2_deploy.stdout"
_LOG = logging.getLogger(__name__)


class SizeType(click.ParamType):  # type: ignore[type-arg]
    """An image size: ``HEIGHTxWIDTH``, or one number for a square. Pixels."""

    name = "HxW"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Parse into (height, width)."""
        if isinstance(value, (tuple, list)) and len(value) == 2:
            value = f"{value[0]}x{value[1]}"
        parts = str(value).lower().split("x")
        if len(parts) == 1:
            parts *= 2
        if len(parts) != 2 or not all(part.strip().isdigit() and int(part) for part in parts):
            self.fail(f"got {value!r}, expected HEIGHTxWIDTH in pixels, as in 224x320", param, ctx)
        return int(parts[0]), int(parts[1])


SIZE = SizeType()


class ModelArgType(click.ParamType):  # type: ignore[type-arg]
    """One ``NAME=VALUE`` pair; the value is read as YAML (numbers, booleans, lists, text)."""

    name = "NAME=VALUE"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, Any]:
        """Parse into (name, value)."""
        import yaml

        if isinstance(value, tuple):
            return value
        key, separator, text = str(value).partition("=")
        if not separator or not key.isidentifier():
            self.fail(f"got {value!r}, expected NAME=VALUE, as in num_classes=10", param, ctx)
        try:
            return key, yaml.safe_load(text)
        except yaml.YAMLError as error:
            self.fail(f"the value of {key!r} cannot be read: {error}", param, ctx)


@dataclass(frozen=True)
class ModelSource:
    """Which PyTorch model a command works on.

    Args:
        model: A registered name or ``package.module:factory``; None to rebuild from a checkpoint
            that says what it holds.
        checkpoint: Weights to load, ``.safetensors`` or a torch file.
        arguments: Overrides of the model's configuration.
    """

    model: str | None
    checkpoint: Path | None
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def given(self) -> bool:
        """Whether anything names a model."""
        return self.model is not None or self.checkpoint is not None

    def load(self) -> nn.Module:
        """Build the model with its weights, in eval mode, on the CPU.

        Raises:
            UsageError: Neither a model nor a checkpoint is given.
            UnknownModelError: No model of that name.
            ModelFactoryError: The user's factory failed.
            CheckpointError: The checkpoint cannot be used.
        """
        if not self.given:
            raise UsageError(
                "no model was given",
                expected="--model NAME, --model package.module:factory, or --checkpoint FILE",
                hint="gspn2-deploy models lists the names",
            )
        if self.model is None and self.arguments:
            raise UsageError(
                "--model-arg needs --model",
                got=", ".join(self.arguments),
                hint="without --model the checkpoint's own configuration is used",
            )
        with progress.step("Loading PyTorch"):
            import torch  # noqa: F401
        if self.model is not None and ":" in self.model:
            return self._load()  # the user's code: what it prints must not meet a live line
        with progress.step("Loading the model"):
            model = self._load()
        if self.checkpoint is None:
            _LOG.warning("no --checkpoint: the weights of %s are random", self.model)
        return model

    def _load(self) -> nn.Module:
        from gspn2_deploy.models import create_model, load_checkpoint, model_from_checkpoint

        if self.model is not None:
            model = create_model(self.model, **self.arguments)
            if self.checkpoint is not None:
                load_checkpoint(model, self.checkpoint)
            return model.eval()
        assert self.checkpoint is not None
        return model_from_checkpoint(self.checkpoint).eval()


def model_options(function: _Function) -> _Function:
    """Add ``--model``, ``--checkpoint`` and ``--model-arg``; the command gets ``source``."""

    @functools.wraps(function)
    def collect(
        *args: Any,
        model: str | None,
        checkpoint: Path | None,
        model_arg: tuple[tuple[str, Any], ...],
        **kwargs: Any,
    ) -> Any:
        source = ModelSource(model, checkpoint, dict(model_arg))
        # A model is the user's code. What it prints is no result: only emit reaches stdout.
        click.get_current_context().meta[_STDOUT_KEY] = sys.stdout
        with contextlib.redirect_stdout(sys.stderr):
            return function(*args, source=source, **kwargs)

    options = (
        click.option(
            "--model",
            metavar="NAME",
            help="A registered model, or package.module:factory (runs that code).",
        ),
        click.option(
            "--checkpoint",
            metavar="FILE",
            type=click.Path(path_type=Path),
            help="Trained weights: .safetensors, or a torch file (loaded with weights_only).",
        ),
        click.option(
            "--model-arg",
            type=ModelArgType(),
            multiple=True,
            help="Override of the model's configuration, repeatable: --model-arg num_classes=10.",
        ),
    )
    decorated: Any = collect
    for option in reversed(options):
        decorated = option(decorated)
    result: _Function = decorated
    return result


def _note_json(ctx: click.Context, _: click.Parameter, value: bool) -> bool:
    ctx.meta[JSON_KEY] = value  # errors are then printed as JSON too
    return value


json_option = click.option(
    "--json",
    "as_json",
    is_flag=True,
    is_eager=True,
    callback=_note_json,
    help="Print the result as JSON on stdout.",
)


def keep_apart(
    outputs: Iterable[tuple[str, Path | None]], inputs: Iterable[tuple[str, Path | None]]
) -> None:
    """Refuse an output that would replace an input or another output.

    Args:
        outputs: Files that the command writes, each with its option's name; None where not given.
        inputs: Files that it reads, likewise.

    Raises:
        UsageError: Two of them are one file.
    """
    taken = {path.resolve(): option for option, path in inputs if path is not None}
    for option, path in outputs:
        if path is None:
            continue
        if (other := taken.setdefault(path.resolve(), option)) != option:
            raise UsageError(
                f"{option} would replace the file of {other}",
                got=path,
                hint="choose another name",
            )


def emit(result: Mapping[str, Any], text: str, *, as_json: bool) -> None:
    """Print a command's result on stdout, as JSON or as text; errors then go to stderr only."""
    context = click.get_current_context(silent=True)
    click.echo(
        json.dumps(result, indent=2, default=str) if as_json else text,
        file=context.meta.get(_STDOUT_KEY) if context else None,
    )
    if context:
        context.meta[JSON_KEY] = False
