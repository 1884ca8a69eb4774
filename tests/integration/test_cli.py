"""The command line as a newcomer meets it: every command teaches by example, and `--help` loads nothing heavy."""

import subprocess
import sys

import pytest

from gateway.cli import COMMANDS
from tests.integration.test_start import litfass

HEAVY = {"asyncio", "aiomqtt", "paho", "bleak", "rich", "cryptography", "pymodbus", "serial", "amqtt", "ssl", "tomllib"}
LIST_MODULES = """
import sys
from gateway.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert not end.code, end.code
print("modules", *sys.modules)
"""


def modules_of(*words: str) -> set[str]:
    """Return the top-level modules that a command line loads."""
    command = [sys.executable, "-c", LIST_MODULES, *words]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    return {name.partition(".")[0] for name in ended.stdout.splitlines()[-1].split()[1:]}


@pytest.mark.parametrize("command", [*COMMANDS, "demo"])
def test_every_command_teaches_with_an_example(command: str) -> None:
    shown = litfass(command, "--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    examples = shown.stdout.partition("examples:\n")[2]
    assert f"litfass {command}" in examples


def test_help_names_every_command_in_one_line() -> None:
    shown = litfass("--help")
    assert shown.returncode == 0
    for command in [*COMMANDS, "demo"]:
        assert f"\n    {command} " in shown.stdout
    assert "start here:" in shown.stdout


def test_without_a_command_it_shows_the_help() -> None:
    assert litfass().stdout == litfass("--help").stdout


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["status", "--help"]])
def test_help_loads_nothing_heavy(words: list[str]) -> None:
    assert modules_of(*words) & HEAVY == set()


def test_a_wrong_word_is_answered_with_the_way_to_help() -> None:
    ended = litfass("rnu")
    assert ended.returncode == 2
    assert "litfass --help" in ended.stderr
