"""The command line: one module a command, imported only when it is called.

A command module has a docstring (its first line is the summary), ``EXAMPLES`` (shown by ``--help``),
``add_arguments(parser)`` and ``run(args) -> exit code``. Commands of other packages come by the entry point group
``litfass.commands``, each naming such a module.
"""

import argparse
import ast
import importlib
import importlib.util
import pathlib
import sys
from collections.abc import Sequence
from typing import NoReturn, Protocol

from gateway import __version__
from gateway.entry_points import entry_points

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NOT_RUNNING = 3

COMMANDS = ("run", "check", "status", "devices", "settings", "profile", "ring", "bench", "systemd")
"""The core's own commands, in the order a newcomer meets them; each is a module of this package."""

_EPILOG = """\
start here:
  litfass demo                            a whole virtual street, no hardware, no settings
  litfass check --config litfass.toml     every mistake in your settings, with its line
  litfass run --config litfass.toml       the gateway, until Ctrl-C or SIGTERM

`litfass COMMAND --help` shows examples. Documentation: docs/ of the source, or `make docs`."""


class Command(Protocol):
    """A command module."""

    EXAMPLES: str

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Declare what the command takes."""
        ...

    @staticmethod
    def run(args: argparse.Namespace) -> int:
        """Do it and return the exit code."""
        ...


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors say how to get help."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, f"{self.prog}: {message}\nTry: {self.prog} --help\n")


def _command_modules() -> dict[str, str]:
    """Return the module of each command by its name, without importing any."""
    modules = {name: f"gateway.cli.{name}" for name in COMMANDS}
    modules.update({entry.name: entry.value for entry in entry_points("litfass.commands").values()})
    return modules


def _summary(module: str) -> str:
    """Return the first line of a module's docstring, read from its source so that nothing is imported."""
    try:
        spec = importlib.util.find_spec(module)
        source = pathlib.Path(spec.origin).read_text(encoding="utf-8") if spec and spec.origin else ""
        return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0].rstrip(".")
    except (ImportError, OSError, SyntaxError):
        return "(cannot be loaded)"


def _build_parser(wanted: str | None, modules: dict[str, str]) -> argparse.ArgumentParser:
    """Return the parser; only the wanted command's module is imported."""
    parser = _Parser(
        prog="litfass",
        description="Litfass: edge gateway for municipal sensors.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"litfass {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", parser_class=_Parser)
    for name, module in modules.items():
        if wanted in modules and name != wanted:
            commands.add_parser(name)
            continue
        summary = _summary(module)
        if name != wanted:
            commands.add_parser(name, help=summary)
            continue
        command: Command = importlib.import_module(module)  # type: ignore[assignment]  # modules as protocols
        sub = commands.add_parser(
            name,
            help=summary,
            description=f"{summary}.",
            epilog=f"examples:\n{command.EXAMPLES}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(sub)
        sub.set_defaults(run=command.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``litfass ARGUMENTS`` and return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    wanted = next((word for word in words if not word.startswith("-")), None)
    parser = _build_parser(wanted, _command_modules())
    args = parser.parse_args(words)
    if not args.command:
        parser.print_help()
        return EXIT_OK
    try:
        return int(args.run(args))
    except BrokenPipeError:  # the reader of our output went away: `litfass devices | head`
        sys.stderr.close()
        return EXIT_OK
    except KeyboardInterrupt:
        return 130
