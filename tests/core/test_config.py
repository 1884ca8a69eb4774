"""Settings: what a technician types wrong is named with its line, all at once."""

import pathlib
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from gateway.config import Config, load_config
from gateway.driver import (
    Decoder,
    Device,
    Driver,
    DriverParts,
    DriverType,
    NoSettings,
    Problem,
    Secret,
    integer,
    secret,
    setting,
)
from gateway.errors import ConfigErrors


@dataclass(frozen=True, slots=True, kw_only=True)
class _BusSettings:
    speed: int = setting(integer(1, 100), default=5, help="speed")


@dataclass(frozen=True, slots=True, kw_only=True)
class _DeviceSettings:
    unit: int = setting(integer(1, 247), help="address on the bus")
    key: Secret | None = setting(secret(16), default=None, help="device key")


def _never_built(parts: DriverParts) -> Driver:
    raise AssertionError(f"{parts.name} is not run here")


def _same_unit_twice(settings: Any, devices: Any) -> list[Problem]:
    del settings
    seen: dict[int, Device] = {}
    problems = []
    for device in devices:
        if device.settings.unit in seen:
            problems.append(Problem(device.device_id, "unit", f"unit {device.settings.unit} twice", "expected another"))
        seen[device.settings.unit] = device
    return problems


BUS = DriverType(
    summary="a bus for these tests",
    settings=_BusSettings,
    device_settings=_DeviceSettings,
    decoders=(Decoder("plain", NoSettings, NoSettings, lambda _profile, _options: []),),
    build=_never_built,
    check=_same_unit_twice,
)

PROFILE = """\
title = "A thermometer"
maker = "Test"
source = "these tests"
decoder = "plain"
every = "10s"

[[field]]
from = "t"
property = "temperature"
"""

GOOD = """\
[gateway]
id = "gw-1"
state_dir = "state"
profile_dirs = ["."]
organization = 4711

[[driver]]
name = "bus"
type = "test-bus"

[[device]]
id = "cellar"
driver = "bus"
profile = "thermometer"
unit = 7
calibration = { temperature = { offset = -0.5 } }

[[uplink]]
name = "city"
type = "mqtt"
url = "mqtt://127.0.0.1:1883"
"""


def load(folder: pathlib.Path, text: str, profile: str = PROFILE) -> Config:
    (folder / "thermometer.toml").write_text(profile)
    path = folder / "litfass.toml"
    path.write_text(text)
    return load_config(path, {"test-bus": BUS})


def errors_of(folder: pathlib.Path, text: str, profile: str = PROFILE) -> list[tuple[int, str]]:
    with pytest.raises(ConfigErrors) as raised:
        load(folder, text, profile)
    return [(error.line, str(error).split(": ", 1)[1]) for error in raised.value.errors]


def test_good_settings_become_typed(tmp_path: pathlib.Path) -> None:
    config = load(tmp_path, GOOD)
    assert config.gateway.id == "gw-1"
    assert config.gateway.state_dir == tmp_path / "state"
    assert config.ring.size == 64 << 20
    assert config.ring.sync == 1.0
    (driver,) = config.drivers
    (device,) = driver.devices
    assert (device.device_id, device.settings.unit, device.every_s) == ("cellar", 7, 10.0)
    assert config.devices["cellar"].calibration["temperature"].offset == -0.5
    assert config.uplinks[0].settings.url.address.port == 1883
    assert config.warnings == ()


def test_five_mistakes_are_all_named_with_their_lines(tmp_path: pathlib.Path) -> None:
    text = """\
[gateway]
id = "GW 1"
profile_dirs = ["."]

[ring]
sice = "64MiB"
sync = "1 fortnight"

[[driver]]
name = "bus"
type = "test-buss"

[[uplink]]
name = "city"
type = "mqtt"
url = "mqtt://broker.city.example"
"""
    assert errors_of(tmp_path, text) == [
        (2, "id = \"GW 1\"; expected 3 to 63 characters of a-z, 0-9 and '-'"),
        (6, 'unknown key "sice"; did you mean "size"?'),
        (7, 'sync = "1 fortnight"; expected a time span from 0.05 to 60 s such as "500ms", "10s", "5min", "1h", "2d"'),
        (11, 'unknown driver type "test-buss"; did you mean "test-bus"?'),
        (16, 'url = "mqtt://broker.city.example"; expected "mqtts://…": readings leave this machine over TLS only'),
    ]


@pytest.mark.parametrize(
    ("wrong", "right", "line", "message"),
    [
        ("unit = 7", "unit = 700", 15, "unit = 700; expected a whole number from 1 to 247"),
        ("unit = 7\n", "", 11, '"unit" is missing; expected a whole number from 1 to 247 (address on the bus)'),
        ('driver = "bus"', 'driver = "buss"', 13, 'unknown driver "buss"; did you mean "bus"?'),
        ('"thermometer"', '"thermometre"', 14, 'unknown profile "thermometre"; did you mean "thermometer"?'),
        ("{ temperature =", "{ temprature =", 16, "profile thermometer yields no \"temprature\"; did you mean"),
        ("offset = -0.5", "ofset = -0.5", 16, 'unknown key "ofset"; did you mean "offset"?'),
        ("[[driver]]", "[driver]", 7, "driver is no array of tables; expected [[driver]] with two brackets"),
        ("[[uplink]]", "[[uplinks]]", 18, 'unknown table "uplinks"; did you mean "uplink"?'),
        ('id = "cellar"', 'id = "cellar', 12, 'no valid TOML: Illegal character'),
        ("unit = 7", 'unit = 7\nkey = "00"', 16, 'key = …; expected "file:PATH", "credential:NAME", "env:NAME"'),
        ("unit = 7", 'unit = 7\nkey = "plain:0011"', 16, "expected 32 hexadecimal digits behind plain:…"),
        ("unit = 7", 'unit = 7\nkey = "env:LITFASS_TEST_NONE"', 16, "variable LITFASS_TEST_NONE to be set"),
    ],
)  # fmt: skip
def test_each_mistake_is_named_where_it_stands(
    tmp_path: pathlib.Path, wrong: str, right: str, line: int, message: str
) -> None:
    assert wrong in GOOD
    found = errors_of(tmp_path, GOOD.replace(wrong, right, 1))
    assert [error for error in found if error[0] == line and message in error[1]], found


def test_mistakes_inside_a_profile_name_the_profile(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ConfigErrors) as raised:
        load(tmp_path, GOOD, PROFILE.replace('"temperature"', '"temprature"'))
    (error,) = raised.value.errors
    assert (pathlib.Path(error.file).name, error.line) == ("thermometer.toml", 9)
    assert error.expected == 'did you mean "temperature"?'


def test_settings_and_devices_are_seen_together(tmp_path: pathlib.Path) -> None:
    second = '\n[[device]]\nid = "attic"\ndriver = "bus"\nprofile = "thermometer"\nunit = 7\n'
    assert errors_of(tmp_path, GOOD + second) == [(27, "unit 7 twice; expected another")]


def test_a_secret_others_can_read_is_refused(tmp_path: pathlib.Path) -> None:
    key = tmp_path / "cellar.key"
    key.write_text("000102030405060708090a0b0c0d0e0f\n")
    key.chmod(0o644)
    text = GOOD.replace("unit = 7", 'unit = 7\nkey = "file:cellar.key"')
    ((line, message),) = errors_of(tmp_path, text)
    assert line == 16
    assert f"chmod 600 {key}" in message
    key.chmod(0o600)
    device = load(tmp_path, text).drivers[0].devices[0]
    assert device.settings.key.reveal() == bytes(range(16))
    assert "0102" not in repr(device)


def test_a_credential_of_systemd_is_found_alone_and_in_a_folder(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    text = GOOD.replace("unit = 7", 'unit = 7\nkey = "credential:cellar"')
    for name in ("cellar", "litfass_cellar"):
        (credentials / name).write_text("000102030405060708090a0b0c0d0e0f")
        assert load(tmp_path, text).drivers[0].devices[0].settings.key.reveal() == bytes(range(16))
        (credentials / name).unlink()


def test_what_a_later_version_does_is_said_not_swallowed(tmp_path: pathlib.Path) -> None:
    text = GOOD + '\n[[alarm]]\nproperty = "temperature"\nabove = 30\n'
    assert load(tmp_path, text).warnings == (
        f"{tmp_path / 'litfass.toml'}:23: [[alarm]] is checked, but this version does not carry it out yet",
    )


@pytest.mark.parametrize(
    "text",
    [b"\xff\xfe", b"a = [" + b"[" * 5000, b"x" * 10, b"", b"[gateway]\nid = 1e999\n", b'["\\u0000"]\nx=1\n'],
)
def test_f79_hostile_settings_are_refused_politely(tmp_path: pathlib.Path, text: bytes) -> None:
    path = tmp_path / "litfass.toml"
    path.write_bytes(text)
    with pytest.raises(ConfigErrors):
        load_config(path)


def test_f79_a_huge_file_is_refused(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "litfass.toml"
    path.write_bytes(b"#" * (5 << 20))
    with pytest.raises(ConfigErrors, match="more than 4194304 octets"):
        load_config(path)


def test_a_missing_file_says_so(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ConfigErrors, match="No such file"):
        load_config(tmp_path / "none.toml")


def test_the_page_of_settings_is_true() -> None:
    page = pathlib.Path(__file__).parents[2] / "docs" / "settings.md"
    command = [sys.executable, "-m", "gateway", "settings", "--markdown"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert page.read_text() == printed, "litfass settings --markdown > docs/settings.md"


def test_the_example_of_the_settings_is_good() -> None:
    example = pathlib.Path(__file__).parents[2] / "config" / "litfass.example.toml"
    assert [driver.type_name for driver in load_config(example).drivers] == ["lorawan-udp"]
