"""The unit as it is shipped: systemd reads every line of it, and what it grants is as good as nothing."""

import pathlib
import shutil
import subprocess

import pytest

from tests.integration.test_start import litfass

EXPOSURE_MAX = 15  # tenths: 1.5

pytestmark = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd: sh tools/debian.sh test")


@pytest.fixture
def unit(tmp_path: pathlib.Path) -> pathlib.Path:
    printed = litfass("systemd")
    assert (printed.returncode, printed.stderr) == (0, "")
    path = tmp_path / "litfass.service"
    path.write_text(printed.stdout)
    return path


def analyze(*words: str | pathlib.Path) -> "subprocess.CompletedProcess[str]":
    command = ["systemd-analyze", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_verify_has_nothing_to_say(unit: pathlib.Path) -> None:
    found = analyze("verify", unit)  # it exits with 0 even where it knows a key not
    assert (found.stdout, found.stderr, found.returncode) == ("", "", 0)


def test_verify_would_see_a_typing_error(unit: pathlib.Path) -> None:
    unit.write_text(unit.read_text().replace("ProtectHome=", "ProtectHouse="))
    assert "ProtectHouse" in analyze("verify", unit).stderr


def test_the_exposure_is_at_most_1_5(unit: pathlib.Path) -> None:
    found = analyze("security", "--offline=true", f"--threshold={EXPOSURE_MAX}", unit)
    assert found.returncode == 0, found.stdout[-500:]


def test_the_unit_starts_this_installation_and_knows_the_contract(unit: pathlib.Path) -> None:
    keys = dict(line.split("=", 1) for line in unit.read_text().splitlines() if "=" in line and line[0] != "#")
    command = keys["ExecStart"].split()
    assert pathlib.Path(command[0]).exists()
    assert command[1:] == ["run", "--config", "/etc/litfass/litfass.toml"]
    assert keys["Type"] == "notify"
    assert keys["Restart"] == "always"
    assert keys["RestartPreventExitStatus"] == "2"
    assert int(keys["TimeoutStopSec"]) > 10
    assert keys["StateDirectory"] == "litfass"
