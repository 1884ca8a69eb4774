"""Profiles for tests: shipped ones by name, others from a text."""

import pathlib

from drivers.serial.registers import MODBUS
from gateway.files import config_folder
from gateway.profile import Profile, load_profile
from gateway.properties import standard_properties

__all__ = ["device_types", "profile_of", "shipped"]


def device_types() -> list[str]:
    folder = config_folder() / "devices"
    return sorted(path.stem for path in folder.glob("*.toml") if 'decoder = "modbus"' in path.read_text())


def shipped(name: str) -> Profile:
    return load_profile(config_folder() / "devices" / f"{name}.toml", {"modbus": MODBUS}, standard_properties())


def profile_of(folder: pathlib.Path, fields: str, name: str = "meter") -> Profile:
    path = folder / f"{name}.toml"
    path.write_text(f'title = "t"\nmaker = "m"\nsource = "s"\ndecoder = "modbus"\n{fields}')
    return load_profile(path, {"modbus": MODBUS}, standard_properties())
