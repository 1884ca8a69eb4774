"""The gateway's settings: one TOML file in, typed settings out, or every mistake at once with its line."""

import hashlib
import os
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.driver import Device, DriverType
from gateway.entry_points import EntryPoint, entry_points
from gateway.errors import ConfigErrors
from gateway.files import config_folder
from gateway.profile import Profile, load_profile
from gateway.properties import Properties, standard_properties
from gateway.settings import (
    Path,
    Report,
    boolean,
    choice,
    duration,
    file_path,
    found_text,
    integer,
    list_of,
    number,
    read_table,
    setting,
    size,
    split_table,
    suggestion,
    table,
    table_of,
    text,
)
from gateway.toml_lines import read_toml
from gateway.uplinks import UPLINK_TYPES, UplinkType, load_uplink_type

DRIVERS_MAX = 64  # each is a task and a port; a box has a handful
DEVICES_MAX = 1000  # what drivers remember of each, some 100 octets, fits the ring's memory table
UPLINKS_MAX = 16  # each is a connection and a cursor in the ring
RING_SIZE_MIN = 1 << 20  # octets; below this the journal alone would fill the file
RING_SIZE_MAX = 1 << 40
DOCUMENTATION_PEN = 32473  # RFC 5612: IANA enterprise number for examples
DEFAULT_STATE_DIR = "/var/lib/litfass"

_NAME = text(r"[a-z0-9][a-z0-9.-]{0,62}", "a name of a-z, 0-9, '-' and '.', at most 63 characters")
_DRIVER_ENTRY_POINTS = "litfass.drivers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """A place on earth, WGS 84."""

    latitude: float = setting(number(-90, 90), help="degrees north")
    longitude: float = setting(number(-180, 180), help="degrees east")
    altitude: float | None = setting(number(-1000, 10000), default=None, help="metres above the geoid")


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings:
    """The ``[gateway]`` table."""

    id: str = setting(
        text(r"[a-z0-9-]{3,63}", "3 to 63 characters of a-z, 0-9 and '-'"), help="MQTT client id and topic level"
    )
    location: Location | None = setting(table(Location), default=None, help="where the box stands")
    state_dir: pathlib.Path = setting(file_path(), default=DEFAULT_STATE_DIR, help="where ring and identity are kept")
    profile_dirs: tuple[pathlib.Path, ...] = setting(
        list_of(file_path(), 16), default=[], help="further folders of device profiles, looked into first"
    )
    organization: int = setting(
        integer(1, 2**32 - 1),
        default=DOCUMENTATION_PEN,
        help="IANA Private Enterprise Number of the city, part of each device's URN (RFC 9039)",
    )
    control_socket: pathlib.Path | None = setting(
        file_path(), default=None, help="where `litfass status` asks; default: in RUNTIME_DIRECTORY or state_dir"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RingSettings:
    """The ``[ring]`` table."""

    size: int = setting(size(RING_SIZE_MIN, RING_SIZE_MAX), default="64MiB", help="disk use, fixed at creation")
    sync: float = setting(
        duration(0.05, 60), default="1s", help="what a power cut can take at most; 5s to 10s spare an SD card"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """``value = raw x gain + offset``, in the property's unit."""

    gain: float = setting(number(-1e6, 1e6), default=1, help="multiplies the sensor's value")
    offset: float = setting(number(-1e9, 1e9), default=0, help="added after the gain")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSettings:
    """The keys every ``[[device]]`` may have; the others belong to its driver."""

    id: str = setting(_NAME, help="the name the city gave it")
    driver: str = setting(_NAME, help="name of the [[driver]] that hears it")
    profile: str = setting(
        text(r"[A-Za-z0-9][A-Za-z0-9._-]{0,80}", "the name of a profile"), help="device type: a file in config/devices/"
    )
    every: float | None = setting(duration(0.1), default=None, help="how often it is polled or should report")
    location: Location | None = setting(table(Location), default=None, help="where it stands, if not at the gateway")
    calibration: Mapping[str, Calibration] = setting(
        table_of(table(Calibration), "a table by property"),
        default={},
        help="gain and offset by property: { temperature = { offset = -0.3 } }",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverSettings:
    """The keys every ``[[driver]]`` has; the others belong to its type."""

    name: str = setting(_NAME, help="how devices, log and status call it")
    type: str = setting(_NAME, help="which driver")


@dataclass(frozen=True, slots=True, kw_only=True)
class UplinkSettings:
    """The keys every ``[[uplink]]`` has; the others belong to its type."""

    name: str = setting(_NAME, help="how log and status call it; its place in the ring hangs on it")
    type: str = setting(choice(*UPLINK_TYPES), help="which platform language")


@dataclass(frozen=True, slots=True, kw_only=True)
class AggregateSettings:
    """An ``[[aggregate]]`` table: read and checked; carried out by a later version."""

    property: str = setting(text(), default="*", help='observed property, "*" for all')
    device: str = setting(text(), default="*", help='device id, "*" for all')
    window: float = setting(duration(1), help="length of the window")
    functions: tuple[str, ...] = setting(
        list_of(choice("auto", "min", "max", "mean", "sum", "count", "first", "last", "stddev"), 16),
        default=["auto"],
        help="what is computed",
    )
    send_raw: bool = setting(boolean(), default=True, help="whether the raw values are sent too")


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmSettings:
    """An ``[[alarm]]`` table: read and checked; carried out by a later version."""

    property: str = setting(text(), help="observed property")
    device: str = setting(text(), default="*", help='device id, "*" for all')
    above: float | None = setting(number(), default=None, help="raised above this value")
    below: float | None = setting(number(), default=None, help="raised below this value")
    clear_above: float | None = setting(number(), default=None, help="cleared above this value")
    clear_below: float | None = setting(number(), default=None, help="cleared below this value")


@dataclass(frozen=True, slots=True)
class DriverConfig:
    """One driver with its type's settings and the devices behind it."""

    name: str
    type_name: str
    driver_type: DriverType
    settings: Any
    devices: tuple[Device, ...]


@dataclass(frozen=True, slots=True)
class UplinkConfig:
    """One uplink with its type's settings."""

    name: str
    type_name: str
    uplink_type: UplinkType
    settings: Any


@dataclass(frozen=True, slots=True)
class Config:
    """All settings of one gateway, checked.

    Attributes:
        path: The file they came from.
        digest: SHA-256 of the file, hexadecimal; names the configuration in events.
        gateway: The ``[gateway]`` table.
        ring: The ``[ring]`` table.
        drivers: In the order of the file.
        devices: All devices by id.
        uplinks: In the order of the file.
        properties: The observed properties.
        warnings: What works but should be known, with file and line.
    """

    path: pathlib.Path
    digest: str
    gateway: GatewaySettings
    ring: RingSettings
    drivers: tuple[DriverConfig, ...]
    devices: Mapping[str, DeviceSettings]
    uplinks: tuple[UplinkConfig, ...]
    properties: Properties
    warnings: tuple[str, ...]

    @property
    def ring_path(self) -> pathlib.Path:
        """Where the ring is."""
        return self.gateway.state_dir / "ring.lfr"

    @property
    def control_socket(self) -> pathlib.Path:
        """Where `litfass status` asks."""
        if self.gateway.control_socket:
            return self.gateway.control_socket
        return pathlib.Path(os.environ.get("RUNTIME_DIRECTORY", self.gateway.state_dir)) / "control.sock"


@dataclass
class _Parts:
    """What reading one file gathers on the way."""

    tables: Mapping[str, object]
    report: Report
    properties: Properties
    overrides: Mapping[str, DriverType]
    profiles: dict[tuple[str, str], Profile | None] = field(default_factory=dict)
    profile_errors: list[ConfigErrors] = field(default_factory=list)


def load_config(path: pathlib.Path, driver_types: Mapping[str, DriverType] | None = None) -> Config:
    """Return the settings of one file.

    Args:
        path: The TOML file.
        driver_types: Types that stand in for the installed ones of the same name.

    Raises:
        ConfigErrors: Everything that is wrong in it and in the profiles it names.
    """
    tables, lines = read_toml(path)
    parts = _Parts(tables, Report(str(path), lines), standard_properties(), driver_types or {})
    report = parts.report
    known = ("gateway", "ring", "driver", "device", "aggregate", "alarm", "uplink")
    for key in tables:
        if key not in known:
            report.error((key,), f'unknown table "{key}"', suggestion(key, known))
    gateway = _table(GatewaySettings, "gateway", parts)
    ring = _table(RingSettings, "ring", parts)
    drivers = _read_drivers(parts)
    profile_dirs = [*(gateway.profile_dirs if gateway else ()), config_folder() / "devices"]
    devices, by_driver = _read_devices(parts, drivers, profile_dirs)
    uplinks = _read_uplinks(parts)
    _read_later_parts(parts)
    _check_drivers(parts, drivers, by_driver)
    if gateway and gateway.organization == DOCUMENTATION_PEN:
        report.warn(
            ("gateway", "organization"),
            f"device URNs use the documentation number {DOCUMENTATION_PEN}; set gateway.organization to the city's"
            " IANA Private Enterprise Number before platforms rely on them",
        )
    errors = [*report.errors, *(error for group in parts.profile_errors for error in group.errors)]
    if errors:
        raise ConfigErrors(errors)
    assert gateway is not None
    assert ring is not None
    return Config(
        path=path,
        digest=hashlib.sha256(path.read_bytes()).hexdigest(),
        gateway=gateway,
        ring=ring,
        drivers=tuple(
            DriverConfig(driver.name, driver.type_name, driver.driver_type, driver.settings, tuple(by_driver[name]))
            for name, driver in drivers.items()
            if driver
        ),
        devices=devices,
        uplinks=tuple(uplinks),
        properties=parts.properties,
        warnings=tuple(report.warnings),
    )


def installed_driver_types() -> Mapping[str, EntryPoint]:
    """Return the installed driver types by name; none is imported yet."""
    return entry_points(_DRIVER_ENTRY_POINTS)


def _table(settings_type: type[Any], name: str, parts: _Parts) -> Any:
    found = parts.tables.get(name, {})
    if not isinstance(found, dict):
        parts.report.error((name,), f"{name} = {found_text(found)}", f"expected a [{name}] table")
        return None
    return read_table(settings_type, found, parts.report, (name,))


def _array(name: str, parts: _Parts, count_max: int) -> list[tuple[Path, dict[str, object]]]:
    """Return the elements of ``[[name]]`` with their paths."""
    found = parts.tables.get(name, [])
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        parts.report.error((name,), f"{name} is no array of tables", f"expected [[{name}]] with two brackets")
        return []
    if len(found) > count_max:
        parts.report.error((name,), f"{len(found)} [[{name}]] tables", f"expected at most {count_max}")
        return []
    return [((name, index), row) for index, row in enumerate(found)]


def _common(settings_type: type[Any], row: dict[str, object], report: Report, path: Path) -> tuple[Any, dict[str, Any]]:
    """Return the common settings of a table, and the keys left for its type."""
    own, further = split_table(row, settings_type)
    return read_table(settings_type, own, report, path), further


def _read_drivers(parts: _Parts) -> dict[str, DriverConfig | None]:
    """Return the drivers by name; None where one was named but could not be read."""
    report = parts.report
    drivers: dict[str, DriverConfig | None] = {}
    for path, row in _array("driver", parts, DRIVERS_MAX):
        common, further = _common(DriverSettings, row, report, path)
        if common is None:
            if isinstance(row.get("name"), str):
                drivers[str(row["name"])] = None
            continue
        if common.name in drivers:
            report.error((*path, "name"), f'a second driver "{common.name}"', "expected a name of its own")
        drivers[common.name] = None
        driver_type = _driver_type(common.type, parts, path)
        if driver_type is None:
            continue
        settings = read_table(driver_type.settings, further, report, path, ignore=("name", "type"))
        drivers[common.name] = DriverConfig(common.name, common.type, driver_type, settings, ())
    return drivers


def _driver_type(name: str, parts: _Parts, path: Path) -> DriverType | None:
    if name in parts.overrides:
        return parts.overrides[name]
    installed = installed_driver_types()
    if name not in installed:
        known = [*installed, *parts.overrides]
        parts.report.error((*path, "type"), f'unknown driver type "{name}"', suggestion(name, known))
        return None
    try:
        driver_type = installed[name].load()
    except (ImportError, AttributeError) as error:
        found = f'driver type "{name}" cannot be loaded: {error}'
        parts.report.error((*path, "type"), found, "install what it needs: pip install 'litfass[ble,serial,lorawan]'")
        return None
    assert isinstance(driver_type, DriverType), f"{installed[name].value} is no DriverType"
    return driver_type


def _read_devices(
    parts: _Parts, drivers: Mapping[str, DriverConfig | None], profile_dirs: Sequence[pathlib.Path]
) -> tuple[dict[str, DeviceSettings], dict[str, list[Device]]]:
    """Return all devices by id, and those behind each driver."""
    report = parts.report
    devices: dict[str, DeviceSettings] = {}
    by_driver: dict[str, list[Device]] = {name: [] for name in drivers}
    for path, row in _array("device", parts, DEVICES_MAX):
        common, further = _common(DeviceSettings, row, report, path)
        name = row.get("driver")
        driver = drivers.get(name) if isinstance(name, str) else None
        if common is not None and common.driver not in drivers:
            report.error((*path, "driver"), f'unknown driver "{common.driver}"', suggestion(common.driver, drivers))
        if common is None or driver is None:
            continue
        if common.id in devices:
            report.error((*path, "id"), f'a second device "{common.id}"', "expected an id of its own")
        devices[common.id] = common
        options = read_table(driver.driver_type.device_settings, further, report, path)
        profile = _profile(common.profile, driver, parts, profile_dirs, path)
        if profile is None:
            continue
        _check_calibration(common, profile, report, path)
        if options is not None:
            every_s = common.every if common.every is not None else profile.every_s
            by_driver[common.driver].append(Device(common.id, profile, every_s, options))
    return devices, by_driver


def _profile(
    name: str, driver: DriverConfig, parts: _Parts, folders: Sequence[pathlib.Path], path: Path
) -> Profile | None:
    """Return a profile by name; each is read once for each driver type."""
    key = (name, driver.type_name)
    if key in parts.profiles:
        return parts.profiles[key]
    parts.profiles[key] = None
    file = next((folder / f"{name}.toml" for folder in folders if (folder / f"{name}.toml").is_file()), None)
    if file is None:
        known = sorted({found.stem for folder in folders if folder.is_dir() for found in folder.glob("*.toml")})
        parts.report.error((*path, "profile"), f'unknown profile "{name}"', suggestion(name, known))
        return None
    try:
        decoders = {decoder.name: decoder for decoder in driver.driver_type.decoders}
        parts.profiles[key] = load_profile(file, decoders, parts.properties)
    except ConfigErrors as errors:
        parts.profile_errors.append(errors)
    return parts.profiles[key]


def _check_calibration(device: DeviceSettings, profile: Profile, report: Report, path: Path) -> None:
    yielded = {f.observed_property for f in profile.fields}
    for name in device.calibration:
        if name not in yielded and name.partition("/")[0] not in yielded:
            report.error(
                (*path, "calibration", name), f'profile {profile.name} yields no "{name}"', suggestion(name, yielded)
            )


def _read_uplinks(parts: _Parts) -> list[UplinkConfig]:
    report = parts.report
    uplinks: dict[str, UplinkConfig] = {}
    for path, row in _array("uplink", parts, UPLINKS_MAX):
        common, further = _common(UplinkSettings, row, report, path)
        if common is None:
            continue
        if common.name in uplinks:
            report.error((*path, "name"), f'a second uplink "{common.name}"', "expected a name of its own")
        uplink_type = load_uplink_type(common.type)
        settings = read_table(uplink_type.settings, further, report, path, ignore=("name", "type"))
        if settings is None:
            continue
        for problem in uplink_type.check(settings):
            if problem.is_warning:
                report.warn((*path, problem.key), f"{problem.found}; {problem.expected}")
            else:
                report.error((*path, problem.key), problem.found, problem.expected)
        uplinks[common.name] = UplinkConfig(common.name, common.type, uplink_type, settings)
    return list(uplinks.values())


def _read_later_parts(parts: _Parts) -> None:
    """Check tables whose work a later version does, and say so: silence would look like an alarm that is armed."""
    for name, settings_type in (("aggregate", AggregateSettings), ("alarm", AlarmSettings)):
        for path, row in _array(name, parts, 1000):
            if read_table(settings_type, row, parts.report, path) is not None:
                parts.report.warn(path, f"[[{name}]] is checked, but this version does not carry it out yet")


def _check_drivers(
    parts: _Parts, drivers: Mapping[str, DriverConfig | None], by_driver: Mapping[str, Sequence[Device]]
) -> None:
    """Let each driver look at its settings and devices together."""
    device_places = {str(row.get("id")): path for path, row in _array("device", parts, DEVICES_MAX)}
    driver_places = {str(row.get("name")): path for path, row in _array("driver", parts, DRIVERS_MAX)}
    for driver in drivers.values():
        if driver is None or driver.settings is None:
            continue
        for problem in driver.driver_type.check(driver.settings, by_driver[driver.name]):
            device_id = problem.device_id
            place = driver_places[driver.name] if device_id is None else device_places[device_id]
            if problem.is_warning:
                parts.report.warn((*place, problem.key), f"{problem.found}; {problem.expected}")
            else:
                parts.report.error((*place, problem.key), problem.found, problem.expected)
