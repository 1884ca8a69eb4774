"""The settings of DESIGN.md, section 3, on what a desk has: ptys, loopback, a mock bluetoothd."""

import json
import pathlib
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from drivers.ble.bthome import SERVICE_UUID
from drivers.simulated.meter import SimulatedMeter
from tests.ble import bluez
from tests.ble.world import encrypted
from tests.integration.bench import GATEWAY_ID, URN, Settings, numbers_of
from tests.integration.test_start import litfass
from tests.support.city import City, resolve
from tests.support.loop import LoopThread
from tests.support.mosquitto import Mosquitto
from tests.support.process import GatewayProcess
from tests.support.sensors import Forwarder, NumberedSensor

pytestmark = pytest.mark.skipif(bool(bluez.missing()), reason=bluez.missing())

ADDRESS = "A4:C1:38:12:34:56"
BINDKEY = bytes.fromhex("0f1e2d3c4b5a69788796a5b4c3d2e1f0")
PASSER_BY = "C0:FF:EE:00:00:01"

CONFIG = """\
[gateway]
id = "{id}"                           # [a-z0-9-]{{3,63}}; MQTT client id and topic level
location = {{ latitude = 48.1374, longitude = 11.5755, altitude = 520.0 }}   # WGS 84, metres
state_dir = "state"                   # relative paths are relative to this file

[ring]
size = "64MiB"
sync = "100ms"

[[driver]]
name = "lora"
type = "lorawan-udp"                  # Semtech UDP packet forwarder, decoded here with own keys
listen = "127.0.0.1:{udp_port}"

[[driver]]
name = "bluetooth"
type = "ble"
adapter = "hci0"

[[driver]]
name = "rs485"
type = "modbus-rtu"
port = "{serial_port}"
baudrate = 9600

[[device]]
id = "isar-pegel-3"
driver = "lora"
profile = "cayenne-lpp"
dev_eui = "{dev_eui}"
activation = "abp"                    # or "otaa" with join_eui and app_key
dev_addr = "{dev_addr:08X}"
nwk_skey = "file:keys/isar-pegel-3.nwk"
app_skey = "file:keys/isar-pegel-3.app"

[[device]]
id = "schule-luft-2"
driver = "bluetooth"
profile = "bthome-v2"
address = "{address}"
bindkey = "credential:schule-luft-2"

[[device]]
id = "pumpwerk-zaehler"
driver = "rs485"
profile = "eastron-sdm630"
unit = 1                              # Modbus unit id
every = "1s"

[[aggregate]]
property = "sound_pressure_level"     # and/or device = "…"; "*" for all
window = "5min"
functions = ["auto", "max", "count"]
send_raw = false

[[alarm]]
property = "water_level"
above = 3.2
clear_below = 3.0

[[uplink]]
name = "city"
type = "mqtt"
url = "{url}"
ca = "{ca}"
cert = "{cert}"
key = "credential:gateway-key"
format = "senml+json"
order = "live-first"                  # or fifo
"""


@dataclass
class Town:
    """One gateway with all it hears, running."""

    folder: pathlib.Path
    config: pathlib.Path
    gateway: GatewayProcess
    city: City
    broker: Mosquitto
    loop: LoopThread
    radio: bluez.Bench
    pegel: NumberedSensor
    udp_port: int
    secrets: list[str]

    def advertise(self, counter: int, centidegrees: int) -> None:
        """Let the classroom's sensor be heard once."""
        objects = b"\x02" + centidegrees.to_bytes(2, "little", signed=True)
        data = {SERVICE_UUID: encrypted(counter, objects, BINDKEY, ADDRESS)}
        self.loop.call(self.radio.hear(ADDRESS, service_data=data))

    def values(self, device_id: str, name: str) -> list[float]:
        """All values of one series that the city has."""
        wanted = f"{URN}:{device_id}:{name}"
        return [record["v"] for record in self.city.by_identity().values() if record["name"] == wanted]


@pytest.fixture
def town(tmp_path: pathlib.Path, broker: Mosquitto, monkeypatch: pytest.MonkeyPatch) -> Iterator[Town]:
    settings = Settings(tmp_path)
    pegel = NumberedSensor("isar-pegel-3", 0x26011BDA)
    pegel.settings(tmp_path / "keys")
    assert broker.pki
    cert, key = broker.pki.client(GATEWAY_ID)
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "schule-luft-2").write_text(BINDKEY.hex())
    (credentials / "gateway-key").write_bytes(key.read_bytes())
    meter = SimulatedMeter(tmp_path)
    config = tmp_path / "litfass.toml"
    config.write_text(
        CONFIG.format(
            id=GATEWAY_ID, udp_port=settings.udp_port, serial_port=meter.port, dev_eui=pegel.dev_eui,
            dev_addr=pegel.dev_addr, address=ADDRESS, url=broker.url, ca=broker.pki.ca_path, cert=cert,
        )
    )  # fmt: skip
    radio = bluez.Bench(tmp_path, monkeypatch)  # tells the gateway's process by its environment, too
    gateway = GatewayProcess(config, environment={"CREDENTIALS_DIRECTORY": str(credentials)})
    key_lines = key.read_text().splitlines()[1:-1]
    secrets = [pegel.nwk_skey.hex(), pegel.app_skey.hex(), BINDKEY.hex(), *key_lines[1:-1]]
    with LoopThread() as loop, City(broker) as city:
        loop.call(radio.start_bus())
        try:
            loop.call(radio.start_bluetoothd())
            loop.call(radio.add_adapter())
            loop.call(radio.add_device(ADDRESS))
            loop.call(radio.add_device(PASSER_BY))
            loop.call(meter.plug())
            try:
                with gateway:
                    yield Town(tmp_path, config, gateway, city, broker, loop, radio, pegel, settings.udp_port, secrets)
            finally:
                loop.call(meter.pull())
        finally:
            loop.call(radio.kill_bus())


def all_up(town: Town) -> None:
    """Return once every driver and the uplink work."""
    town.gateway.until_status(
        lambda s: (
            all(driver["state"] == "up" for driver in s["drivers"].values()) and s["uplinks"]["city"]["state"] == "up"
        ),
        "not everything comes up",
    )


def hear_all(town: Town, frames: int = 20) -> None:
    """Let every sensor be heard, and wait until the city has it."""
    all_up(town)
    with Forwarder(town.udp_port, town.pegel) as forwarder:
        forwarder.await_acknowledged(frames)
        forwarder.finish()
    for counter in range(1, 4):
        town.advertise(counter, 2000 + counter)
    data = {SERVICE_UUID: b"\x40\x02\xca\x09"}
    town.loop.call(town.radio.hear(PASSER_BY, service_data=data))
    town.city.wait_for(lambda: len(numbers_of(town.city, town.pegel)) >= frames)
    town.city.wait_for(lambda: len(town.values("schule-luft-2", "temperature")) >= 1)
    town.city.wait_for(lambda: len(town.values("pumpwerk-zaehler", "voltage/1")) >= 2)


def test_readings_of_all_three_drivers_arrive_as_senml(town: Town) -> None:
    hear_all(town)
    city = town.city
    assert {pack.topic for pack in city.packs} == {f"litfass/{GATEWAY_ID}/readings"}
    assert {content for pack in city.packs for content in [json.loads(pack.payload)[0]["bn"].rpartition(":")[0]]} <= {
        f"{URN}:{device}" for device in ("isar-pegel-3", "schule-luft-2", "pumpwerk-zaehler")
    }
    assert sorted(numbers_of(city, town.pegel)) == sorted(town.pegel.acknowledged)
    assert 20.03 in town.values("schule-luft-2", "temperature") or 20.01 in town.values("schule-luft-2", "temperature")
    assert all(225 < volts < 235 for volts in town.values("pumpwerk-zaehler", "voltage/1"))
    for pack in city.packs:
        assert pack.count == pack.last - pack.first + 1 == len(resolve(pack.records))
    assert not any(PASSER_BY in pack.payload.decode() for pack in city.packs)


def test_many_readings_travel_in_one_pack(town: Town) -> None:
    all_up(town)
    with Forwarder(town.udp_port, town.pegel, pause_s=0.0) as forwarder:
        forwarder.await_acknowledged(300)
        forwarder.finish()
    town.city.wait_for(lambda: len(numbers_of(town.city, town.pegel)) >= 300)
    lora_packs = [pack for pack in town.city.packs if "isar-pegel-3" in pack.payload.decode()]
    assert max(pack.count for pack in lora_packs) > 10, [pack.count for pack in lora_packs]


def test_what_this_version_does_not_do_is_said(town: Town) -> None:
    warnings = " ".join(line["message"] for line in town.gateway.logged("config.warning"))
    for words in ("[[aggregate]] is checked, but", "[[alarm]] is checked, but", "live-first", "32473"):
        assert words in warnings
    checked = litfass("check", "--config", town.config)
    assert checked.returncode == 2
    assert "CREDENTIALS_DIRECTORY is not set" in checked.stdout, "only systemd hands the credentials over"


def test_status_and_devices_say_what_is(town: Town) -> None:
    hear_all(town)
    town.gateway.until_delivered()
    asked = litfass("status", "--config", town.config, "--json")
    assert (asked.returncode, asked.stderr) == (0, "")
    status = json.loads(asked.stdout)
    assert status["gateway"] == GATEWAY_ID
    assert len(status["config"]) == 64
    assert {name: driver["state"] for name, driver in status["drivers"].items()} == {
        "lora": "up", "bluetooth": "up", "rs485": "up",
    }  # fmt: skip
    assert status["drivers"]["lora"]["counters"]["readings"] == len(town.pegel.acknowledged)
    uplink = status["uplinks"]["city"]
    assert (uplink["state"], uplink["url"], uplink["refused"]) == ("up", town.broker.url, 0)
    assert uplink["records_delivered"] >= len(town.pegel.acknowledged)
    assert status["ring"]["state"] == "ok"

    devices = {row["id"]: row for row in json.loads(litfass("devices", "--config", town.config, "--json").stdout)}
    assert list(devices) == ["isar-pegel-3", "schule-luft-2", "pumpwerk-zaehler"]
    (newest,) = devices["isar-pegel-3"]["newest"]
    assert newest["property"] == "distance/1"
    assert newest["value"] == max(town.pegel.acknowledged) / 1000
    assert (newest["unit"], newest["rssi_dbm"], newest["snr_db"]) == ("m", -97, 5.2)
    assert devices["isar-pegel-3"]["rejected"] == 0
    assert len(devices["pumpwerk-zaehler"]["newest"]) > 10

    for command in ("status", "devices"):
        table = litfass(command, "--config", town.config)
        assert table.returncode == 0
        assert "\x1b" not in table.stdout, "no colours in a pipe"
        assert "city" in table.stdout or "isar-pegel-3" in table.stdout
    one = litfass("devices", "--config", town.config, "pumpwerk-zaehler", "--json")
    assert [row["id"] for row in json.loads(one.stdout)] == ["pumpwerk-zaehler"]


def test_i8_no_secret_in_anything_it_says(town: Town) -> None:
    hear_all(town)
    assert town.gateway.terminate() == 0
    town.gateway.start()
    said = [town.gateway.log_text, json.dumps(town.gateway.status()), json.dumps(town.gateway.devices())]
    assert town.gateway.notify
    said += town.gateway.notify.said
    for command in ("status", "devices", "check", "run"):
        ended = litfass(command, "--config", town.config)  # `run`: a second one, turned away
        said += [ended.stdout, ended.stderr]
    said += [pack.payload.decode() for pack in town.city.packs] + [json.dumps(s) for s in town.city.statuses]
    text = "\n".join(said).lower()
    assert GATEWAY_ID in text
    for secret in town.secrets:
        assert secret.lower() not in text
    assert PASSER_BY.lower() not in text, "a passer-by leaves nothing but a count"


def test_p9_a_secret_with_a_mistake_is_not_quoted(town: Town) -> None:
    town.gateway.kill()
    canary = "5ec2e7ca4a2155ec2e7ca4a2155ec2e7ca4a21"  # hexadecimal digits, but too many
    (town.folder / "keys/isar-pegel-3.nwk").write_text(canary)
    broken = town.config.read_text().replace('"credential:schule-luft-2"', f'"{canary}"')  # pasted in, no scheme
    broken = broken.replace('"file:keys/isar-pegel-3.app"', f'"plain:{canary}"')
    broken = broken.replace('"mqtts://', f'"mqtts://gateway:{canary}@')
    town.config.write_text(broken)
    for command in ("check", "run"):
        ended = litfass(command, "--config", town.config)
        assert ended.returncode == 2
        said = ended.stdout + ended.stderr
        for key in ("nwk_skey", "app_skey", "bindkey", "url"):
            assert f"{key} = " in said
        assert canary not in said


def test_the_log_is_json_with_codes(town: Town) -> None:
    hear_all(town)
    assert town.gateway.terminate() == 0
    lines = town.gateway.log  # each line parses
    codes = [line["code"] for line in lines]
    assert {"service.started", "driver.up", "uplink.up", "service.stopped"} <= set(codes)
    for line in lines:
        assert line["time"].endswith("Z")
        assert line["level"] in ("info", "warning", "error", "critical")
        assert line["message"]
    (started,) = town.gateway.logged("service.started")
    assert started["gateway"] == GATEWAY_ID


def test_not_running_is_exit_code_3(town: Town) -> None:
    assert town.gateway.terminate() == 0
    for command in ("status", "devices"):
        ended = litfass(command, "--config", town.config, "--json")
        assert ended.returncode == 3
        assert ended.stdout == ""
        assert "not running" in ended.stderr
