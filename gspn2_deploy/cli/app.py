"""The root command: global options, lazy commands, errors to exit codes."""

from __future__ import annotations

import difflib
import importlib
import json
import logging
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from gspn2_deploy import __version__, progress
from gspn2_deploy.cli import EXIT_INTERRUPTED
from gspn2_deploy.cli.common import JSON_KEY
from gspn2_deploy.cli.config import load_config
from gspn2_deploy.errors import Gspn2Error, InputError

# Each module of that name beside this one holds a click command called `command`.
COMMANDS = (
    *("export", "validate", "build", "bench", "bundle", "verify"),
    *("inspect", "models", "info"),
)

EXIT_UNEXPECTED = 3
_CONFIG_KEY = "gspn2_deploy.config"  # the path that --config gave

EPILOG = """\b
Exit codes
  0  success, or validation passed
  1  validation failed
  2  wrong usage or input: options, model, checkpoint, ONNX or golden file
  3  this machine cannot do it: missing package, full disk, TensorRT refused
  130  interrupted (143: terminated)

\b
Shell completion
  bash  eval "$(_GSPN2_DEPLOY_COMPLETE=bash_source gspn2-deploy)"
  zsh   eval "$(_GSPN2_DEPLOY_COMPLETE=zsh_source gspn2-deploy)"
  fish  _GSPN2_DEPLOY_COMPLETE=fish_source gspn2-deploy | source
"""


class LazyGroup(click.Group):
    """A group that imports a command's module only when that command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands, in the order of the work."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"gspn2_deploy.cli.{cmd_name}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the arguments name, or say which ones are alike."""
        name = args[0] if args else ""
        # For errors in the options themselves, which end before --json is read.
        ctx.meta[JSON_KEY] = "--json" in args
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        if close and name not in COMMANDS:
            ctx.fail(f"No such command {name!r}. Did you mean {close[0]!r}?")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command and turn what it raises into a message and an exit code."""
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except click.ClickException as error:  # click itself prints it on stderr
            if isinstance(error, click.BadParameter):
                _name_config(error)
            text = error.format_message()
            _report_json(ctx, type(error).__name__, text, exit_code=error.exit_code)
            raise
        except KeyboardInterrupt:
            click.echo("Interrupted; nothing was left half written.", err=True)
            raise click.exceptions.Exit(EXIT_INTERRUPTED) from None
        except Gspn2Error as error:
            if ctx.params.get("debug"):
                raise
            _report(ctx, error)
            raise click.exceptions.Exit(error.exit_code) from None
        except Exception as error:
            if ctx.params.get("debug"):
                raise
            problem = f"Unexpected error: {type(error).__name__}: {error}"
            fix = "run again as `gspn2-deploy --debug …` and report the traceback"
            click.echo(f"{problem}\n  fix:      {fix}", err=True)
            _report_json(ctx, type(error).__name__, problem, fix=fix, exit_code=EXIT_UNEXPECTED)
            raise click.exceptions.Exit(EXIT_UNEXPECTED) from None


def _name_config(error: click.BadParameter) -> None:
    """Say which file a bad value stands in, where it does not stand on the command line."""
    ctx, parameter = error.ctx, error.param
    if ctx is None or parameter is None or parameter.name is None:
        return
    if ctx.get_parameter_source(parameter.name) is ParameterSource.DEFAULT_MAP:
        error.param_hint = f"{parameter.get_error_hint(ctx)} in {ctx.meta[_CONFIG_KEY]}"


def _configured(ctx: click.Context) -> list[str]:
    """The parameters that the configuration file gives to the command that was asked for."""
    name = ctx.invoked_subcommand or ""
    given = (ctx.default_map or {}).get(name, {})
    command = ctx.command.get_command(ctx, name) if isinstance(ctx.command, LazyGroup) else None
    if command is None:
        return []
    return [item.opts[0] for item in command.params if item.name in given]


def _report(ctx: click.Context, error: Gspn2Error) -> None:
    click.echo(f"Error: {error}", err=True)
    if flags := _configured(ctx) if isinstance(error, InputError) else []:
        # One of them may be what is wrong.
        click.echo(f"  config:   {ctx.meta[_CONFIG_KEY]} gives {', '.join(flags)}", err=True)
    _report_json(
        ctx,
        type(error).__name__,
        error.problem,
        got=None if error.got is None else str(error.got),
        expected=None if error.expected is None else str(error.expected),
        fix=error.hint,
        exit_code=error.exit_code,
    )


def _report_json(
    ctx: click.Context,
    kind: str,
    problem: str,
    *,
    got: str | None = None,
    expected: str | None = None,
    fix: str | None = None,
    exit_code: int,
) -> None:
    """Print an error on stdout, where the command was asked for JSON and has printed none."""
    if not ctx.meta.get(JSON_KEY):
        return
    facts = {"type": kind, "problem": problem, "got": got, "expected": expected, "fix": fix}
    click.echo(json.dumps({"error": {**facts, "exit_code": exit_code}}, indent=2))


@click.group(cls=LazyGroup, epilog=EPILOG, context_settings={"max_content_width": 100})
@click.version_option(__version__, prog_name="gspn2-deploy")
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A YAML or TOML file with one section per command that mirrors its options.",
)
@click.option("--debug", is_flag=True, help="Show tracebacks and every log line.")
@click.option("-v", "--verbose", is_flag=True, help="Show log lines on stderr.")
@click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
@click.pass_context
def app(ctx: click.Context, config: Path | None, debug: bool, verbose: bool, quiet: bool) -> None:
    """Deploy GSPN-2 vision models.

    Exports a PyTorch model to ONNX with one custom op per propagation, proves that it computes
    what PyTorch computes, and builds an engine from it.
    """
    if config is not None:
        ctx.default_map = load_config(config, app, ctx)
        ctx.meta[_CONFIG_KEY] = config
    progress.set_quiet(quiet)
    level = logging.DEBUG if debug else logging.INFO if verbose else logging.WARNING
    names = " %(name)s" if debug else ""
    logging.basicConfig(format=f"%(levelname)s{names}: %(message)s")  # to stderr
    logging.getLogger("gspn2_deploy").setLevel(level)
