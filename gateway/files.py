"""Where the data files are that travel with the code: ``config/`` of a checkout, the same inside an installed wheel."""

import pathlib

_PACKAGE = pathlib.Path(__file__).parent


def config_folder() -> pathlib.Path:
    """Return the folder of properties.toml, devices/ and systemd/."""
    inside_wheel = _PACKAGE / "_config"
    return inside_wheel if inside_wheel.is_dir() else _PACKAGE.parent / "config"
