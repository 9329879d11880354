"""Models by name, and users' models by ``package.module:factory``."""

from __future__ import annotations

import difflib
import importlib
import logging
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import torch
from torch import nn

from gspn2_deploy.errors import ModelFactoryError, UnknownModelError
from gspn2_deploy.models.wrappers import unwrap

_LOG = logging.getLogger(__name__)
_SUGGESTION_CUTOFF = 0.4

Factory = TypeVar("Factory", bound=Callable[..., nn.Module])
_MODELS: dict[str, Callable[..., nn.Module]] = {}


def register_model(factory: Factory) -> Factory:
    """Register a factory under its function's name. Usable as a decorator.

    Args:
        factory: Takes overrides as keyword arguments and returns a module.

    Raises:
        ValueError: The name is taken.
    """
    name = getattr(factory, "__name__", type(factory).__name__)
    if name in _MODELS:
        raise ValueError(f"a model named {name!r} is registered already")
    _MODELS[name] = factory
    return factory


def list_models() -> list[str]:
    """Return the registered names, sorted."""
    return sorted(_MODELS)


def create_model(name: str, **overrides: Any) -> nn.Module:
    """Create a model, untrained, on the CPU, in float32.

    Args:
        name: A registered name, or ``package.module:factory`` for a user's own model. The latter
            imports that module, also from the working directory, and calls the factory: **it
            runs the user's code**, and says so in the log. Of what it returns the model inside
            ``torch.compile``, ``DataParallel`` and ``DistributedDataParallel`` is taken.
        overrides: Fields of ``ModelConfig`` to change, or the factory's keyword arguments.

    Returns:
        The module, in training mode, as PyTorch makes them.

    Raises:
        UnknownModelError: No model of that name.
        ModelFactoryError: The factory is missing, raised, or returned something else.
        UsageError: An override that the model does not know or that does not fit.
    """
    if ":" in name:
        return _from_factory(name, overrides)
    if name not in _MODELS:
        close = difflib.get_close_matches(
            name.lower(), list_models(), cutoff=_SUGGESTION_CUTOFF, n=3
        )
        raise UnknownModelError(
            "unknown model",
            got=repr(name),
            expected=f"one of {', '.join(list_models())}, or package.module:factory",
            hint=f"did you mean {' or '.join(close)}?" if close else None,
        )
    return _MODELS[name](**overrides)


def _from_factory(target: str, overrides: dict[str, Any]) -> nn.Module:
    module_name, _, attribute = target.partition(":")
    if not module_name or not attribute:
        raise ModelFactoryError(
            "not a model factory", got=repr(target), expected="package.module:factory"
        )
    _LOG.warning("running your code: %s is imported and called", target)
    with _working_directory_importable():
        factory = _attribute(_import(module_name, target), attribute, target)
        try:
            model = factory(**overrides)
        except (Exception, SystemExit) as error:
            hint = "call it in a Python shell to see the whole traceback"
            if isinstance(error, TypeError) and len(traceback.extract_tb(error.__traceback__)) == 1:
                hint = "give the arguments that it takes: --model-arg NAME=VALUE"  # never entered
            raise ModelFactoryError(
                f"the model factory {target} raised {_describe(error)}",
                got=f"arguments {overrides}" if overrides else "no arguments",
                hint=hint,
            ) from error
    if isinstance(model, nn.Module):
        model = unwrap(model)
    if not isinstance(model, nn.Module) or isinstance(model, torch.jit.ScriptModule):
        raise ModelFactoryError(
            f"the model factory {target} did not return a model",
            got=type(model).__qualname__,
            expected="a torch.nn.Module, and not one that TorchScript made of it",
        )
    return model


def _import(module_name: str, target: str) -> ModuleType:
    try:
        return importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        absent = error.name if isinstance(error, ModuleNotFoundError) else None
        # The module itself (or a package above it) is missing, not something that it imports.
        if absent is not None and f"{module_name}.".startswith(f"{absent}."):
            raise ModelFactoryError(
                f"no module named {absent} (model factory {target})",
                got=f"not installed, and not found from {Path.cwd()}",
                hint="run from the folder that holds it, or install its package",
            ) from error
        raise ModelFactoryError(
            f"importing {module_name} raised {_describe(error)}",
            hint=f"make `python -c 'import {module_name}'` work first",
        ) from error


def _attribute(module: ModuleType, attribute: str, target: str) -> Callable[..., Any]:
    factory = module
    for part in attribute.split("."):
        if not hasattr(factory, part):
            names = [name for name in dir(factory) if callable(getattr(factory, name))]
            close = difflib.get_close_matches(part, names, n=3)
            raise ModelFactoryError(
                f"{module.__name__} has no {attribute!r}",
                got=target,
                expected="the name of a function or class in that module",
                hint=f"did you mean {' or '.join(close)}?" if close else None,
            )
        factory = getattr(factory, part)
    if not callable(factory):
        raise ModelFactoryError(
            f"{target} is not callable",
            got=type(factory).__qualname__,
            expected="a function or class that returns a torch.nn.Module",
        )
    return factory


def _describe(error: BaseException) -> str:
    """The exception's type and text, and the line that raised it."""
    frames = traceback.extract_tb(error.__traceback__)[1:]  # the first one is ours
    place = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{place}"


@contextmanager
def _working_directory_importable() -> Iterator[None]:
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(folder)
