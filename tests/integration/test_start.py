"""What a gateway starts with, and what it refuses to start with."""

import contextlib
import json
import pathlib
import socket
import stat
import subprocess
import sys

from tests.integration.bench import Settings, sensors
from tests.support.city import City
from tests.support.mosquitto import Mosquitto, free_port
from tests.support.process import GatewayProcess
from tests.support.sensors import Forwarder

COMMAND_LIMIT_S = 30.0


def litfass(*words: str | pathlib.Path) -> "subprocess.CompletedProcess[str]":
    """Run one command to its end."""
    command = [sys.executable, "-m", "gateway", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_LIMIT_S, check=False)


def test_p7_starts_with_no_broker_no_port_no_adapter(settings: Settings) -> None:
    street = sensors(1)
    settings.lora(*street).add(
        f"""
[[driver]]
name = "rs485"
type = "modbus-rtu"
port = "{settings.folder}/no-such-port"

[[driver]]
name = "bluetooth"
type = "ble"

[[device]]
id = "zaehler"
driver = "rs485"
profile = "eastron-sdm630"
unit = 1

[[device]]
id = "luft"
driver = "bluetooth"
profile = "bthome-v2"
address = "A4:C1:38:12:34:56"

[[uplink]]
name = "city"
type = "mqtt"
url = "mqtt://127.0.0.1:{free_port()}"
"""
    )
    nobody = {"DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={settings.folder}/no-such-bus"}
    gateway = GatewayProcess(settings.write(), environment=nobody)
    with gateway, Forwarder(settings.udp_port, *street) as forwarder:
        forwarder.await_acknowledged(10)  # what works, works
        status = gateway.until_status(
            lambda s: (
                all(s["drivers"][name]["state"] == "down" for name in ("rs485", "bluetooth"))
                and s["uplinks"]["city"]["state"] == "down"
                and s["uplinks"]["city"]["backlog_records"] >= 10
            ),
            "it does not say what is missing",
        )
        assert status["drivers"]["lora"]["state"] == "up"
        assert "is not there" in status["drivers"]["rs485"]["detail"]
        for code in ("part.down", "uplink.down"):
            assert gateway.logged(code), f"{code} is not in the log"
        assert gateway.terminate() == 0


def test_the_state_folder_is_made_and_closed_to_others(settings: Settings) -> None:
    path = settings.write()
    path.write_text(path.read_text().replace('"state"', '"var/lib/litfass"'))
    with GatewayProcess(path) as gateway:
        folder = settings.folder / "var/lib/litfass"
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / "control.sock").stat().st_mode) & 0o007 == 0
        assert gateway.status()["gateway"] == settings.gateway_id


def test_f16_a_second_gateway_on_the_same_ring_is_turned_away(settings: Settings) -> None:
    path = settings.write()
    with GatewayProcess(path) as first:
        second = litfass("run", "--config", path)
        assert second.returncode == 1
        last = json.loads(second.stderr.splitlines()[-1])
        assert last["level"] == "critical"
        assert "ring.lfr" in last["message"]
        assert "another process" in last["message"]
        assert "Traceback" not in second.stderr
        assert first.status()["gateway"] == settings.gateway_id, "the first one goes on, its control socket too"


def test_f16_the_ring_is_free_again_at_once_after_a_kill(settings: Settings) -> None:
    gateway = GatewayProcess(settings.write())
    epochs = []
    for _ in range(3):
        with gateway:
            epochs.append(gateway.status()["ring"]["epoch"])
    assert epochs == sorted(set(epochs)), "each start is an epoch of its own"


def test_every_mistake_is_told_and_nothing_started(settings: Settings) -> None:
    path = settings.folder / "litfass.toml"
    path.write_text(
        """\
[gateway]
id = "GW 1"
state_dir = "state"

[ring]
size = "64 parsecs"
snyc = "1s"

[[driver]]
name = "lora"
type = "lorawan-upd"

[[device]]
id = "pegel"
driver = "lara"
profile = "cayenne-lpp"
"""
    )
    ended = litfass("run", "--config", path)
    assert ended.returncode == 2
    lines = ended.stderr.splitlines()
    for line, words in {
        2: '"GW 1"', 6: "64 parsecs", 7: '"snyc"', 11: "lorawan-upd", 15: '"lara"',
    }.items():  # fmt: skip
        assert any(f"litfass.toml:{line}:" in text and words in text for text in lines), (line, words, lines)
    assert "did you mean" in ended.stderr
    assert not (settings.folder / "state").exists()
    assert litfass("check", "--config", path).returncode == 2


def test_a_missing_settings_file_is_told_in_one_line(tmp_path: pathlib.Path) -> None:
    ended = litfass("run", "--config", tmp_path / "nowhere.toml")
    assert ended.returncode == 2
    assert "nowhere.toml" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_p7_a_control_socket_that_cannot_be_made_stops_nothing(settings: Settings, broker: Mosquitto) -> None:
    street = sensors(1)
    path = settings.lora(*street).uplink(broker).write()
    path.write_text(path.read_text().replace("state_dir", f'control_socket = "{"x" * 120}"\nstate_dir'))
    with City(broker) as city, GatewayProcess(path) as gateway, Forwarder(settings.udp_port, *street) as forwarder:
        forwarder.await_acknowledged(5)
        city.wait_for(lambda: len(city.identities) >= 5)
        assert gateway.logged("control.failed")


def test_p7_a_port_held_by_another_program_is_named_and_taken_once_free(settings: Settings) -> None:
    street = sensors(1)
    with contextlib.ExitStack() as stack:
        other = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        other.bind(("127.0.0.1", settings.udp_port))
        gateway = stack.enter_context(GatewayProcess(settings.lora(*street).write()))
        status = gateway.until_status(lambda s: s["drivers"]["lora"]["state"] == "down", "it does not notice")
        assert "another program listens there" in status["drivers"]["lora"]["detail"]
        other.close()
        stack.enter_context(Forwarder(settings.udp_port, *street)).await_acknowledged(1)
