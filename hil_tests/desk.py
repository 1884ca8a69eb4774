"""The drivers of the desk bench: ptys, a local Mosquitto, the gateway as a process."""

import contextlib
import pathlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from drivers.simulated.meter import SimulatedMeter
from hil_tests.protocols import Broker, Cable, Sensor
from tests.integration.bench import ACL, Settings, judge, until_all_arrived
from tests.support.city import City
from tests.support.loop import LoopThread
from tests.support.mosquitto import Mosquitto, Pki
from tests.support.process import GatewayProcess
from tests.support.sensors import Forwarder, NumberedSensor

FRAME_PAUSE_S = 0.02  # between the frames of one sensor: fifty a second, a busy street


@dataclass(frozen=True)
class DeskGateway:
    """`litfass run` as a process."""

    process: GatewayProcess

    def power_on(self) -> None:
        self.process.start()

    def power_off(self) -> None:
        self.process.kill()

    def status(self) -> dict[str, Any]:
        return self.process.status()

    def devices(self) -> dict[str, dict[str, Any]]:
        return self.process.devices()

    def wait_until(self, condition: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        return self.process.until_status(condition, what)


@dataclass(frozen=True)
class DeskBroker:
    """Mosquitto on this machine."""

    mosquitto: Mosquitto
    subscriber: City

    def stop(self) -> None:
        self.subscriber.forget_subscription()
        self.mosquitto.stop()

    def start(self) -> None:
        self.mosquitto.start()
        self.subscriber.await_subscribed()


@dataclass(frozen=True)
class DeskCable:
    """A pair of ptys with a meter at its end."""

    meter: SimulatedMeter
    loop: LoopThread

    def pull(self) -> None:
        self.loop.call(self.meter.pull())

    def plug(self) -> None:
        self.loop.call(self.meter.plug())


@dataclass(frozen=True)
class DeskSensor:
    """A LoRaWAN device behind an emulated packet forwarder."""

    device_id: str
    forwarder: Forwarder

    def silence(self) -> None:
        self.forwarder.silence(self.device_id)

    def speak(self) -> None:
        self.forwarder.speak(self.device_id)

    def await_acknowledged(self, more: int) -> None:
        self.forwarder.await_acknowledged(more)


@dataclass(frozen=True)
class DeskCity:
    """A subscriber that keeps what arrived."""

    subscriber: City
    process: GatewayProcess
    forwarder: Forwarder
    sensors: list[NumberedSensor]

    def count(self, device_id: str) -> int:
        names = [record["name"] for record in self.subscriber.by_identity().values()]
        return sum(f":{device_id}:" in name and not name.endswith("/status") for name in names)

    def await_more(self, device_id: str, more: int = 3) -> None:
        goal = self.count(device_id) + more
        self.subscriber.wait_for(lambda: self.count(device_id) >= goal)

    def settle(self) -> None:
        self.forwarder.finish()
        self.process.until_status(lambda s: bool(s["ring"]["unsynced_readings"] == 0), "the ring is not synced")
        until_all_arrived(self.process, self.subscriber)

    def complaint(self) -> str:
        verdict = judge(self.subscriber, self.sensors)
        return "" if verdict.is_good else str(verdict)


KEYS: Mapping[str, Mapping[str, str | None]] = {
    "gateway": {"driver": "process"},
    "broker": {"driver": "mosquitto"},
    "cables": {"driver": "pty", "meter": None, "every": None},
    "sensors": {"driver": "lora-udp", "dev_addr": None},
}
"""The keys of each table; where a value stands, it is the only one a desk can do."""


def check(description: Mapping[str, Any]) -> None:
    """Fail with every mistake in a description: a key that is not read would be taken for a fact."""
    mistakes = [f"unknown table {name}" for name in description.keys() - KEYS.keys() - {"name", "driver"}]
    for name, keys in KEYS.items():
        table = description.get(name, {})
        for place, row in table.items() if name in ("cables", "sensors") else [("", table)]:
            where = f"{name}.{place}".rstrip(".")
            mistakes += [f"{where}: unknown key {key}" for key in row.keys() - keys.keys()]
            mistakes += [f"{where}: {key} is missing" for key in keys.keys() - row.keys()]
            mistakes += [
                f"{where}: {key} is {row[key]}, a desk does {only}"
                for key, only in keys.items()
                if only is not None and row.get(key, only) != only
            ]
    assert not mistakes, "; ".join(sorted(mistakes))


class Desk:
    """The desk bench, made from its description."""

    def __init__(self, description: Mapping[str, Any], folder: pathlib.Path) -> None:
        check(description)
        self._stack = contextlib.ExitStack()
        self._loop = LoopThread()
        pki = Pki(folder / "pki")
        broker_folder = folder / "broker"
        extra = f"persistence true\npersistence_location {broker_folder}/\nmax_inflight_messages 0\n"
        self._mosquitto = Mosquitto(broker_folder, pki=pki, acl=ACL, extra=extra)
        self._subscriber = City(self._mosquitto)
        lora = [
            NumberedSensor(device_id, int(table["dev_addr"], 16)) for device_id, table in description["sensors"].items()
        ]
        settings = Settings(folder).lora(*lora).uplink(self._mosquitto)
        self._meters: dict[str, SimulatedMeter] = {}
        for name, table in description["cables"].items():
            self._meters[name] = meter = SimulatedMeter(folder, name=name)
            settings.add(
                f'[[driver]]\nname = "{name}"\ntype = "modbus-rtu"\nport = "{meter.port}"\n\n'
                f'[[device]]\nid = "{table["meter"]}"\ndriver = "{name}"\nprofile = "eastron-sdm630"\nunit = 1\n'
                f'every = "{table["every"]}"\n'
            )
        process = GatewayProcess(settings.write())
        self._forwarder = Forwarder(settings.udp_port, *lora, pause_s=FRAME_PAUSE_S)
        self.gateway = DeskGateway(process)
        self.broker: Broker = DeskBroker(self._mosquitto, self._subscriber)
        self.city = DeskCity(self._subscriber, process, self._forwarder, lora)
        self.cables: Mapping[str, Cable] = {name: DeskCable(m, self._loop) for name, m in self._meters.items()}
        self.sensors: Mapping[str, Sensor] = {s.device_id: DeskSensor(s.device_id, self._forwarder) for s in lora}

    def set_up(self) -> None:
        """Start loop, broker, city, meters and sensors."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._loop)
            stack.enter_context(self._mosquitto)
            stack.enter_context(self._subscriber)
            for meter in self._meters.values():
                self._loop.call(meter.plug())
                stack.callback(self._pull, meter)
            stack.callback(self.gateway.power_off)
            stack.enter_context(self._forwarder)
            self._stack = stack.pop_all()

    def _pull(self, meter: SimulatedMeter) -> None:
        self._loop.call(meter.pull())

    def tear_down(self) -> None:
        """End everything, in the opposite order."""
        self._stack.close()
