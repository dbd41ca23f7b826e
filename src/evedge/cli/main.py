"""The `evedge` command: `evedge --config FILE` runs the gateway, `evedge COMMAND` does one thing.

Commands live one to a file and are imported when they are asked for, so `--help` and the gateway start fast.
No traceback reaches a user: what evedge raises on purpose is one line, and so is anything else.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import click
from click.exceptions import NoArgsIsHelpError

from evedge import __version__
from evedge.core.errors import EvedgeError, UsageError

COMMANDS = {
    "check": "validate the configuration and every profile it names",
    "demo": "everything on this machine: simulated recharge points, gateway, Kafka",
    "hash-password": "print a password's hash for [[mqtt.users]]",
    "journal": "what waits on disk, and what could not be delivered",
    "plan": "print what a configuration would do, refuse what a device cannot keep",
    "probe": "read a device once and print a table",
    "profiles": "list, explain and validate register maps",
    "send": "the cloud side: put a command on Kafka and follow its results",
    "simulate": "recharge points as real Modbus TCP servers",
    "status": "ask the running gateway",
    "tail": "the cloud side: print records as they arrive on Kafka",
    "topics": "list the Kafka topics the configuration needs, create the missing ones",
}
"""Every command and its line of help. `evedge.cli.<name with underscores>` holds it as `command`."""


class LazyGroup(click.Group):
    """A group that imports a command's module only when that command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 -- click names them
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"evedge.cli.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # `evedge tail | head`: the reader has had enough; click would call it a failure
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(0)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name]) for name in self.list_commands(ctx)])


@click.command(cls=LazyGroup, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="Run the gateway with this file.")
@click.version_option(__version__, prog_name="evedge")
@click.pass_context
def main(ctx: click.Context, config: Path | None) -> None:
    """The edge gateway for sites that recharge electric vehicles.

    `evedge --config FILE` runs it in the foreground until SIGTERM or SIGINT.
    """
    if os.environ.get("NO_COLOR"):  # no-color.org
        ctx.color = False
    if ctx.invoked_subcommand is not None:
        if config is not None:
            raise UsageError(f"--config stands after the command: evedge {ctx.invoked_subcommand} --config {config}")
        _quiet_logs()
        return
    if config is None:
        click.echo(ctx.get_help())
        ctx.exit(2)
    from evedge.cli.gateway import run_gateway  # noqa: PLC0415 -- only here is the whole gateway needed

    ctx.exit(run_gateway(config))


def _quiet_logs() -> None:
    """A command prints its answer; of what happens inside only trouble is worth a line, and not on standard output."""
    from evedge import logs  # noqa: PLC0415 -- `--help` needs none

    logs.configure("error", "console")


def _open_what_is_closed() -> None:
    """A standard stream that the caller closed swallows all; else the next file that is opened would be written to."""
    while (opened := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(opened)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115, PTH123 -- open to the end


def _say_usage(error: click.ClickException) -> None:
    """One line that says what is wrong, and one that says where to look."""
    context: click.Context | None = getattr(error, "ctx", None)
    text = error.format_message()
    if isinstance(error, NoArgsIsHelpError) and context is not None and isinstance(context.command, click.Group):
        text = f"{context.command_path} needs a command: {', '.join(context.command.list_commands(context))}"
    click.echo(f"evedge: {text}", err=True)
    if context is not None:
        click.echo(f"Try '{context.command_path} --help' for help.", err=True)


def run() -> None:
    """Entry point. Exit status: 0 done, 1 it ran and failed, 2 wrong usage or configuration."""
    _open_what_is_closed()
    try:
        status = main.main(prog_name="evedge", standalone_mode=False)
    except click.ClickException as error:
        _say_usage(error)
        status = error.exit_code
    except click.Abort:
        status = 1
    except UsageError as error:
        click.echo(f"evedge: {error}", err=True)
        status = 2
    except EvedgeError as error:
        click.echo(f"evedge: {error}", err=True)
        status = 1
    except KeyboardInterrupt:
        status = 130
    except OSError as error:  # all that a command opens has its own words; what is left is its own output
        click.echo(f"evedge: cannot go on: {error.strerror or error}", err=True)
        status = 1
    except Exception as error:  # the last border: a user gets a line, a developer asks for more
        if os.environ.get("EVEDGE_TRACEBACK"):
            raise
        click.echo(
            f"evedge: unexpected {type(error).__name__}: {error} (a defect; EVEDGE_TRACEBACK=1 shows where)", err=True
        )
        status = 1
    sys.exit(status if isinstance(status, int) else 0)
