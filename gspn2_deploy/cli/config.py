"""Configuration files that mirror the command line.

A file holds one section per command; each key is an option's long name without its dashes in front
(``image-size`` or ``image_size``). What is given on the command line wins. Example::

    export:
      model: tiny
      precision: fp16
    build:
      profile: ["images=1x3x224x224:8x3x224x224:64x3x224x224"]
"""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from gspn2_deploy.cli.common import SIZE, ModelArgType
from gspn2_deploy.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def _parse_yaml(text: str) -> Any:
    import yaml

    return yaml.safe_load(text) or {}


_PARSERS: dict[str, Callable[[str], Any]] = {
    ".yaml": _parse_yaml,
    ".yml": _parse_yaml,
    ".toml": tomllib.loads,
}


def load_config(path: Path, group: click.Group, ctx: click.Context) -> dict[str, dict[str, Any]]:
    """Read a configuration file into click's ``default_map``.

    Args:
        path: A ``.yaml``, ``.yml`` or ``.toml`` file.
        group: The group whose commands the sections name.
        ctx: The group's context.

    Returns:
        Option values by command name and parameter name.

    Raises:
        UsageError: The file is missing or malformed, or names an unknown command or option.
    """
    sections = _read(path)
    default_map: dict[str, dict[str, Any]] = {}
    for name, options in sections.items():
        command = group.get_command(ctx, name)
        if command is None:
            raise _unknown(path, "command", str(name), group.list_commands(ctx))
        if not isinstance(options, dict):
            raise UsageError(
                f"{path}: the section {name!r} must hold options",
                got=type(options).__name__,
                expected="a mapping from option to value",
            )
        default_map[name] = _section(path, name, command, options)
    return default_map


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"cannot read the configuration file {path}",
            got=error.strerror,
            expected="a .yaml, .yml or .toml file with one section per command",
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not text (UTF-8)", got=error) from error
    if path.suffix not in _PARSERS:
        raise UsageError(
            "unknown kind of configuration file", got=path.name, expected=", ".join(_PARSERS)
        )
    try:
        content = _PARSERS[path.suffix](text)
    except Exception as error:  # each parser has its own error type
        raise UsageError(f"{path} cannot be parsed", got=error) from error
    if not isinstance(content, dict):
        raise UsageError(
            f"{path} must hold one section per command",
            got=type(content).__name__,
            expected="a mapping from command to options",
        )
    return content


def _section(
    path: Path, section: str, command: click.Command, options: dict[str, Any]
) -> dict[str, Any]:
    # An option goes by its long name: `--image-size` is `image-size` here.
    parameters: dict[str, click.Parameter] = {}
    for parameter in command.params:
        for flag in (*parameter.opts, *parameter.secondary_opts):
            if flag.startswith("--"):
                parameters[flag[2:].replace("-", "_")] = parameter
        if isinstance(parameter, click.Argument) and parameter.name:
            parameters[parameter.name] = parameter
    values: dict[str, Any] = {}
    for key, value in options.items():
        known = parameters.get(str(key).replace("-", "_"))
        if known is None or known.name is None:
            raise _unknown(path, f"option of {section!r}", str(key), parameters)
        flag = f"--{str(key).replace('_', '-')}"
        try:
            taken = _value(known, value)
        except ValueError as error:
            raise UsageError(
                f"{path}: {section} cannot take this {key}", got=repr(value), expected=error
            ) from None
        values[known.name] = not taken if flag in known.secondary_opts else taken
    return values


def _value(parameter: click.Parameter, value: Any) -> Any:
    """What click is given in place of what the command line would say.

    Raises:
        ValueError: The value is of the wrong kind; the text says what would be right.
    """
    if getattr(parameter, "is_flag", False):
        if not isinstance(value, bool):
            raise ValueError("true or false")
        return value
    if not parameter.multiple:
        return _single(parameter, value)
    if isinstance(value, dict):  # model-arg: {num_classes: 10} equals --model-arg num_classes=10
        # Text stays text: model-arg reads what follows the = as YAML, which JSON is part of.
        exact = isinstance(parameter.type, ModelArgType)
        return [
            f"{key}={item if isinstance(item, str) and not exact else json.dumps(item)}"
            for key, item in value.items()
        ]
    return [_single(parameter, item) for item in (value if isinstance(value, list) else [value])]


def _single(parameter: click.Parameter, value: Any) -> Any:
    if isinstance(value, list) and parameter.type is SIZE:
        return value  # [height, width]
    if value is None or isinstance(value, (list, dict)):
        raise ValueError("one value" if not parameter.multiple else "one value or a list of them")
    return str(value)  # as on the command line: each option's own type reads it


def _unknown(path: Path, what: str, name: str, known: Iterable[str]) -> UsageError:
    names = sorted(item.replace("_", "-") for item in known)
    close = difflib.get_close_matches(name.replace("_", "-"), names, n=1)
    return UsageError(
        f"{path} names an unknown {what}",
        got=name,
        expected=", ".join(names),
        hint=f"did you mean {close[0]!r}?" if close else None,
    )
