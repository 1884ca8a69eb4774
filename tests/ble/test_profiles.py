"""The profiles' own examples, as `litfass profile test` runs them, and the settings by example."""

import pathlib

import pytest

from drivers.ble import BLE, BleDeviceSettings, BleSettings
from drivers.ble.advert import read_advert, read_hex
from gateway.driver import DeviceError
from gateway.profile import Example, Profile
from gateway.settings import Lines, Path, Report, read_table
from tests.ble.world import profile

DECODERS = {decoder.name: decoder for decoder in BLE.decoders}
PROFILES = [profile("bthome-v2"), profile("ruuvitag-rawv2")]


@pytest.mark.parametrize(
    ("kind", "example"),
    [(kind, example) for kind in PROFILES for example in kind.examples],
    ids=lambda value: value.name,
)
def test_examples(kind: Profile, example: Example) -> None:
    run_example = DECODERS[kind.decoder].run_example
    if example.error:
        with pytest.raises(DeviceError, match=example.error):
            run_example(kind, example.options)
        return
    readings = kind.to_readings(
        "d", run_example(kind, example.options), phenomenon_time_ms=0, received_time_ms=0, rssi_dbm=-60
    )
    assert [{"property": r.observed_property, "value": r.value} for r in readings] == list(example.expect)


@pytest.mark.parametrize(
    ("digits", "message"),
    [
        ("0201061BFF", "advert of 5 octets, its structure at 3 ends at 31"),
        ("020", "is no advert in hexadecimal"),
        ("0x02 01 06 05 16 D2 FC 40", "its structure at 3 ends at 9"),
    ],
)
def test_adverts_that_are_none(digits: str, message: str) -> None:
    with pytest.raises(DeviceError, match=message):
        read_advert(read_hex(digits), "A4:C1:38:12:34:56")


def test_an_advert_in_hexadecimal_is_taken_apart() -> None:
    advert = read_advert(read_hex("0x020106 04094a6f65 0516d2fc4001 05ff99040503 00 ff"), "A4:C1:38:12:34:56")
    assert advert.local_name == "Joe"
    assert advert.service_data == {"0000fcd2-0000-1000-8000-00805f9b34fb": b"\x40\x01"}
    assert advert.manufacturer_data == {0x0499: b"\x05\x03"}


class NoLines(Lines):
    def line(self, path: Path) -> int:
        return 1


@pytest.mark.parametrize(
    ("kind", "table", "found"),
    [
        (BleSettings, {"adapter": "bluetooth0"}, 'adapter = "bluetooth0"; expected an adapter such as "hci0"'),
        (BleSettings, {"scan": "pasive"}, 'did you mean "passive"?'),
        (BleSettings, {"silence": "5"}, 'silence = "5"; expected a time span'),
        (BleSettings, {"adaptor": "hci0"}, 'unknown key "adaptor"; did you mean "adapter"?'),
        (BleDeviceSettings, {}, '"address" is missing; expected a Bluetooth address such as "A4:C1:38:12:34:56"'),
        (BleDeviceSettings, {"address": "A4:C1:38:12:34"}, 'address = "A4:C1:38:12:34"; expected a Bluetooth address'),
        (
            BleDeviceSettings,
            {"address": "A4:C1:38:12:34:56", "bindkey": "plain:0011"},
            "32 hexadecimal digits behind plain:…",
        ),
    ],
)
def test_settings_that_are_wrong_say_what_would_be_right(
    kind: type[BleSettings | BleDeviceSettings], table: dict[str, object], found: str, tmp_path: pathlib.Path
) -> None:
    report = Report(str(tmp_path / "settings.toml"), NoLines())
    assert read_table(kind, table, report) is None
    assert found in str(report.errors[0])


def test_settings_need_nothing_but_an_address(tmp_path: pathlib.Path) -> None:
    report = Report(str(tmp_path / "settings.toml"), NoLines())
    settings = read_table(BleSettings, {}, report)
    assert settings == BleSettings(adapter="hci0", scan="auto", silence=300.0)
    assert read_table(BleDeviceSettings, {"address": "a4-c1-38-12-34-56"}, report)
