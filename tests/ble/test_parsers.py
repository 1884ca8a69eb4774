"""The stand-ins for habluetooth change nothing but the memory: each side in a process of its own."""

import json
import pathlib
import subprocess
import sys
from typing import Any

import pytest

from drivers.ble._parsers import STANDS_IN_FOR

ROOT = pathlib.Path(__file__).parents[2]
HEAVY = (*STANDS_IN_FOR, "bleak_retry_connector", "bluetooth_adapters", "bluetooth_auto_recovery")

SCRIPT = """
import json, pathlib, sys
from drivers.ble import _parsers
if sys.argv[1] == "real":
    import home_assistant_bluetooth
    from habluetooth import BluetoothServiceInfoBleak
vectors = pathlib.Path("tests/vectors/ble")
bthome = [json.loads((vectors / name).read_text()) for name in ("bthome_objects.json", "bthome_adverts.json")]
ruuvi = json.loads((vectors / "ruuvi_rawv2.json").read_text())

def info(address, manufacturer_data, service_data):
    common = dict(name="x", address=address, rssi=-60, manufacturer_data=manufacturer_data, service_data=service_data)
    if sys.argv[1] == "real":
        return BluetoothServiceInfoBleak(**common, service_uuids=[], source="local", device=None, advertisement=None,
                                         connectable=False, time=0.0, tx_power=None)
    return _parsers.ServiceInfo(**common)

def parse(parser, *advert):
    try:
        update = parser.update(info(*advert))
    except Exception as error:  # the same error on both sides, please
        return repr(error)
    values = {**update.entity_values, **update.binary_entity_values, **update.events}
    return [update.title, sorted(map(repr, values.items())), sorted(map(repr, update.entity_descriptions.items()))]

results = []
for case in bthome[0]["cases"] + bthome[1]["cases"]:
    key = bytes.fromhex(case["bindkey"]) if "bindkey" in case else None
    data = {"0000fcd2-0000-1000-8000-00805f9b34fb": bytes.fromhex(case["service_data"])}
    results.append(parse(_parsers.bthome_parser()(bindkey=key), case.get("address", "A4:C1:38:12:34:56"), {}, data))
for case in ruuvi["cases"]:
    results.append(parse(_parsers.ruuvi_parser()(), ruuvi["address"], {0x0499: bytes.fromhex(case["payload"])}, {}))
print(json.dumps({"results": results, "modules": sorted(sys.modules)}))
"""


def run(side: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, side], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.mark.slow
def test_parsers_give_the_same_with_the_real_habluetooth() -> None:
    real, stand_in = run("real"), run("stand-in")
    assert set(HEAVY) <= set(real["modules"])
    assert not set(HEAVY) & set(stand_in["modules"]), "the stand-ins let the Bluetooth stack in"
    assert stand_in["results"] == real["results"]
    assert len(real["results"]) > 100


@pytest.mark.slow
def test_the_real_module_is_found_after_the_parsers_are_loaded() -> None:
    script = "from drivers.ble import _parsers as p; p.bthome_parser(); import habluetooth; print(habluetooth.__file__)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "habluetooth" in done.stdout


def test_the_driver_type_costs_no_library_before_it_runs() -> None:
    script = "import sys, drivers.ble; print([m for m in ('bleak', 'bthome_ble', 'cryptography') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
