"""Print or install the systemd unit of this installation."""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys

from gateway.cli import EXIT_FAILED, EXIT_OK

EXAMPLES = """\
  litfass systemd                             print the unit, with the path of this installation
  sudo litfass systemd --install              write it, make /etc/litfass, then: systemctl enable --now litfass

Check it before you trust it:
  litfass systemd > litfass.service && systemd-analyze security --offline=true litfass.service"""

UNIT_PATH = pathlib.Path("/etc/systemd/system/litfass.service")
CONFIG_FOLDER = pathlib.Path("/etc/litfass")
_PACKAGED_COMMAND = "/opt/litfass/bin/litfass"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--install", action="store_true", help="put it in place (needs root)")


def run(args: argparse.Namespace) -> int:
    unit = unit_text()
    if not args.install:
        print(unit, end="")
        return EXIT_OK
    try:
        _install(unit)
    except OSError as error:
        print(f"litfass systemd: {error.strerror}: {error.filename}; --install needs root: use sudo", file=sys.stderr)
        return EXIT_FAILED
    return EXIT_OK


def unit_text() -> str:
    """Return the unit with the command of this installation in ExecStart."""
    from gateway.files import config_folder

    unit = (config_folder() / "systemd" / "litfass.service").read_text(encoding="utf-8")
    return unit.replace(_PACKAGED_COMMAND, str(_own_command()))


def _own_command() -> pathlib.Path:
    beside_python = pathlib.Path(sys.executable).parent / "litfass"
    return beside_python if beside_python.exists() else pathlib.Path(shutil.which("litfass") or _PACKAGED_COMMAND)


def _install(unit: str) -> None:
    from gateway.files import config_folder

    CONFIG_FOLDER.mkdir(mode=0o755, exist_ok=True)
    (CONFIG_FOLDER / "credentials").mkdir(mode=0o700, exist_ok=True)
    settings = CONFIG_FOLDER / "litfass.toml"
    if not settings.exists():
        shutil.copy(config_folder() / "litfass.example.toml", settings)
        settings.chmod(0o644)
        print(f"{settings}: an example; edit it, then: litfass check")
    UNIT_PATH.write_text(unit, encoding="utf-8")
    UNIT_PATH.chmod(0o644)
    print(f"{UNIT_PATH}: written")
    systemctl = shutil.which("systemctl")
    if systemctl and os.path.isdir("/run/systemd/system"):
        subprocess.run([systemctl, "daemon-reload"], check=False)  # noqa: S603  # our own words only
    print("Start it with: systemctl enable --now litfass")
