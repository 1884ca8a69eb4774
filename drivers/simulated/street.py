"""The virtual street: which sensors stand where, and the gateway's settings that fit them.

All keys and addresses are drawn anew for each street: nothing in this file opens anything in the real world.
"""

import asyncio
import contextlib
import pathlib
import secrets
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from drivers.simulated.adverts import (
    BleSensor,
    Payload,
    SimulatedRadio,
    bthome_encrypted,
    bthome_objects,
    bthome_plain,
    ruuvi,
)
from drivers.simulated.cable import Cable
from drivers.simulated.forwarder import LoraSensor, PacketForwarder, open_forwarder, run_lora_sensor
from drivers.simulated.meter import SimulatedMeter
from drivers.simulated.node import Node, NodeKeys, running_node
from drivers.simulated.values import Wander

GATEWAY_ID = "litfass-demo"
GATEWAY_EUI = bytes.fromhex("0016c001ff10a2b3")  # of the packet forwarder
HOST = "127.0.0.1"
NODE_ID = "schulhof-klima"
NODE_VALUES_PER_FRAME = 4
NODE_EVERY_S = 1.5
METER_EVERY_S = 2.0
LORA_EVERY_S = 2.0
DRAIN_LIMIT_S = 5.0  # the frames under way when the street goes quiet

# What a city writes for a device type it knows: the channels of its payload get their real names.
PEGEL_PROFILE = """\
title = "Water gauge of the demo street"
maker = "Litfass"
source = "drivers/simulated/street.py"
decoder = "cayenne-lpp"

[[field]]
from = "analog_input@1"
property = "water_level"
decimals = 2

[[field]]
from = "temperature@2"
property = "water_temperature"
decimals = 1
"""
CLIMATE_PROFILE = """\
title = "Street climate of the demo street"
maker = "Litfass"
source = "drivers/simulated/street.py"
decoder = "cayenne-lpp"

[[field]]
from = "temperature@1"
property = "air_temperature"
decimals = 1

[[field]]
from = "humidity@2"
property = "relative_humidity"
decimals = 1

[[field]]
from = "barometer@3"
property = "atmospheric_pressure"
decimals = 1

[[field]]
from = "illuminance@4"
property = "illuminance"
decimals = 0
"""


@dataclass(frozen=True, slots=True)
class Resident:
    """One device as the audience meets it.

    Attributes:
        device_id: What the city calls it.
        driver: Name of the driver type that reads it.
        story: What it is and how it is emulated.
    """

    device_id: str
    driver: str
    story: str


def _pegel() -> Callable[[], bytes]:
    level_m, temperature_cel = Wander(1.84, 0.03, 0.9, 3.4), Wander(11.2, 0.1, 3, 22)
    return lambda: struct.pack(
        ">BBhBBh", 1, 2, round(level_m.next() * 100), 2, 103, round(temperature_cel.next() * 10)
    )  # Cayenne LPP: analog input on channel 1, temperature on channel 2


def _climate() -> Callable[[], bytes]:
    temperature_cel, humidity_percent = Wander(14.3, 0.2, -5, 30), Wander(63, 1, 30, 95)
    pressure_hpa, illuminance_lx = Wander(1013.2, 0.3, 985, 1035), Wander(8200, 300, 0, 60000)
    return lambda: struct.pack(
        ">BBhBBBBBHBBH",
        *(1, 103, round(temperature_cel.next() * 10)),
        *(2, 104, round(humidity_percent.next() * 2)),
        *(3, 115, round(pressure_hpa.next() * 10)),
        *(4, 101, round(illuminance_lx.next())),
    )


def _classroom(address: str, bindkey: bytes) -> Callable[[int], Payload]:
    temperature_cel, humidity_percent = Wander(21.4, 0.1, 18, 26), Wander(46, 0.5, 25, 70)
    co2_ppm = Wander(780, 30, 420, 1900)

    def advertise(number: int) -> Payload:
        objects = bthome_objects(
            (0x02, round(temperature_cel.next() * 100), 2),
            (0x03, round(humidity_percent.next() * 100), 2),
            (0x12, round(co2_ppm.next()), 2),
        )
        return bthome_encrypted(objects, address, bindkey, number + 1)

    return advertise


def _window() -> Callable[[int], Payload]:
    illuminance_lx = Wander(310, 15, 5, 900)
    return lambda number: bthome_plain(
        bthome_objects(
            (0x00, number % 256, 1),  # packet id: tells a new measurement from a repeat
            (0x01, 97, 1),
            (0x05, round(illuminance_lx.next() * 100), 3),
            (0x2D, number // 8 % 2, 1),  # the window: opened and shut now and then
        )
    )


def _archive(address: str) -> Callable[[int], Payload]:
    temperature_cel, humidity_percent = Wander(16.8, 0.05, 14, 20), Wander(51, 0.3, 35, 65)
    pressure_pa = Wander(101_320, 15, 98_500, 103_500)
    return lambda number: ruuvi(
        address,
        number,
        temperature_cel=temperature_cel.next(),
        humidity_percent=humidity_percent.next(),
        pressure_pa=pressure_pa.next(),
    )


@dataclass
class Street:
    """All emulated sensors of one demo.

    Attributes:
        folder: Where settings, cables and the node's files are kept.
        with_node: A MicroPython is there to run the sensor node.
        radio: Where BLE adverts come from; hand ``radio.scanner`` to `drivers.ble.ble_type`.
        udp_port: Where the ``lorawan-udp`` driver listens.
        faults: What went wrong with the emulation itself.
    """

    folder: pathlib.Path
    with_node: bool
    radio: SimulatedRadio = field(default_factory=SimulatedRadio)
    udp_port: int = 0
    lora: tuple[LoraSensor, ...] = ()
    ble: tuple[BleSensor, ...] = ()
    faults: list[str] = field(default_factory=list)
    forwarder: PacketForwarder | None = None
    _node_keys: NodeKeys = field(
        default_factory=lambda: NodeKeys("260000a3", secrets.token_hex(16), secrets.token_hex(16))
    )
    _node: Node | None = None
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _background: list[asyncio.Task[None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.meter = SimulatedMeter(self.folder)
        self._node_cable = Cable(self.folder, "node")
        self.udp_port = self.udp_port or _free_udp_port()
        self.lora = (
            _lora_sensor("isar-pegel-3", "demo-pegel", 0x260000A1, _pegel(), values_per_frame=2),
            _lora_sensor("marienplatz-klima", "demo-klima", 0x260000A2, _climate(), values_per_frame=4),
        )
        classroom, window, archive = "A4:C1:38:5D:10:21", "38:1F:8D:92:0B:7C", "CB:B8:33:4C:88:4F"
        bindkey = secrets.token_bytes(16)
        self.ble = (
            BleSensor("schule-luft-2", "bthome-v2", classroom, 1.5, _classroom(classroom, bindkey), 3, bindkey),
            BleSensor("kita-fenster-1", "bthome-v2", window, 2.0, _window(), 3),
            BleSensor("archiv-keller", "ruuvitag-rawv2", archive, 2.0, _archive(archive), 8),
        )

    @property
    def residents(self) -> tuple[Resident, ...]:
        """The devices in the order they are shown."""
        node = Resident(
            "schulhof-klima", "lorawan-serial", "sensor node: MicroPython, LoRaWAN frames over a serial line"
        )
        return (
            Resident("isar-pegel-3", "lorawan-udp", "water gauge: encrypted LoRaWAN frames, a packet forwarder, UDP"),
            Resident("marienplatz-klima", "lorawan-udp", "street climate, heard by the same packet forwarder"),
            Resident("schule-luft-2", "ble", "classroom air: encrypted BTHome adverts (no radio is used)"),
            Resident("kita-fenster-1", "ble", "window contact: plain BTHome adverts (no radio is used)"),
            Resident("archiv-keller", "ble", "RuuviTag in the archive: format 5 adverts (no radio is used)"),
            Resident("pumpwerk-zaehler", "modbus-rtu", "energy meter: Modbus RTU slave on a pseudo-terminal"),
            *((node,) if self.with_node else ()),
        )

    def taken_counts(self) -> Mapping[str, int]:
        """Return how many readings each sensor knows the gateway has taken over, where the sensor can know."""
        counts = {sensor.device_id: sensor.taken_count for sensor in self.lora}
        counts |= {sensor.device_id: sensor.taken_count for sensor in self.ble}
        if self._node is not None:
            counts[NODE_ID] = len(self._node.f_cnts) * NODE_VALUES_PER_FRAME
        return counts

    def write_settings(self, broker_port: int) -> pathlib.Path:
        """Write the gateway's settings and the two profiles of this street; return the settings file."""
        profiles = self.folder / "profiles"
        profiles.mkdir()
        (profiles / "demo-pegel.toml").write_text(PEGEL_PROFILE)
        (profiles / "demo-klima.toml").write_text(CLIMATE_PROFILE)
        path = self.folder / "litfass.toml"
        path.write_text(self._settings(broker_port))
        return path

    @contextlib.asynccontextmanager
    async def standing(self) -> AsyncIterator[None]:
        """Lay the cables and open the forwarder's socket; everything is taken away on the way out."""
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self.meter)
            if self.with_node:
                await stack.enter_async_context(self._node_cable)
            self.forwarder = await stack.enter_async_context(open_forwarder(GATEWAY_EUI, HOST, self.udp_port))
            try:
                yield
            finally:
                await _cancel([*self._tasks, *self._background])

    def wake(self, node_is_heard: Callable[[], Awaitable[None]]) -> None:
        """Let the sensors begin; the node, whose line acknowledges nothing, when ``node_is_heard`` returns."""
        forwarder, stopping = self.forwarder, self._stopping
        assert forwarder
        self._start(forwarder.keep_alive(), "keep-alive", is_background=True)
        self._start(self.radio.run_passer_by(stopping), "passer-by")
        for sensor in self.lora:
            self._start(run_lora_sensor(sensor, forwarder, stopping), sensor.device_id)
        for beacon in self.ble:
            self._start(self.radio.run_sensor(beacon, stopping), beacon.device_id)
        if self.with_node:
            self._start(self._run_node(node_is_heard), NODE_ID)

    async def quiet(self) -> None:
        """Let the sensors finish what they are sending, and end them."""
        self._stopping.set()
        _, late = await asyncio.wait(self._tasks, timeout=DRAIN_LIMIT_S)
        self.faults += [f"{task.get_name()} does not come to an end: nobody takes its frame" for task in late]
        await _cancel([*late, *self._background])

    def _start(self, work: Coroutine[None, None, None], name: str, *, is_background: bool = False) -> None:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._note_fault)
        (self._background if is_background else self._tasks).append(task)

    def _note_fault(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self.faults.append(f"{task.get_name()}: {task.exception()}")

    async def _run_node(self, node_is_heard: Callable[[], Awaitable[None]]) -> None:
        heard = asyncio.ensure_future(node_is_heard())
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({heard, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if self._stopping.is_set():
                return
            port = self._node_cable.sensor_port
            async with running_node(self.folder, port, self._node_keys, every_s=NODE_EVERY_S) as node:
                self._node = node
                listening = asyncio.ensure_future(node.run())
                try:
                    await asyncio.wait({listening, stopping}, return_when=asyncio.FIRST_COMPLETED)
                    await node.stop()
                    await listening  # what it had told before it ended
                finally:
                    await _cancel([listening])
        finally:
            await _cancel([heard, stopping])

    def _settings(self, broker_port: int) -> str:
        parts = [
            f"""\
[gateway]
id = "{GATEWAY_ID}"
location = {{ latitude = 48.1374, longitude = 11.5755, altitude = 520.0 }}
state_dir = "state"
profile_dirs = ["profiles"]
control_socket = "control.sock"

[ring]
size = "8MiB"
sync = "200ms"

[[driver]]
name = "lora"
type = "lorawan-udp"
listen = "{HOST}:{self.udp_port}"

[[driver]]
name = "bluetooth"
type = "ble"

[[driver]]
name = "rs485"
type = "modbus-rtu"
port = "{self.meter.port}"
baudrate = 9600

[[device]]
id = "pumpwerk-zaehler"
driver = "rs485"
profile = "eastron-sdm630"
unit = 1
every = "{METER_EVERY_S}s"

[[uplink]]
name = "city"
type = "mqtt"
url = "mqtt://{HOST}:{broker_port}"
"""
        ]
        for sensor in self.lora:
            keys = NodeKeys(f"{sensor.dev_addr:08x}", sensor.nwk_skey.hex(), sensor.app_skey.hex())
            parts.append(_lorawan_device(sensor.device_id, "lora", sensor.profile, sensor.dev_eui, keys))
        parts += [_ble_device(beacon) for beacon in self.ble]
        if self.with_node:
            parts.append(
                f"""
[[driver]]
name = "yard"
type = "lorawan-serial"
port = "{self._node_cable.gateway_port}"
"""
            )
            parts.append(_lorawan_device(NODE_ID, "yard", "demo-klima", "70b3d57ed00000a3", self._node_keys))
        return "".join(parts)


def _lorawan_device(device_id: str, driver: str, profile: str, dev_eui: str, keys: NodeKeys) -> str:
    return f"""
[[device]]
id = "{device_id}"
driver = "{driver}"
profile = "{profile}"
dev_eui = "{dev_eui}"
activation = "abp"
dev_addr = "{keys.dev_addr}"
nwk_skey = "plain:{keys.nwk_skey}"
app_skey = "plain:{keys.app_skey}"
"""


def _ble_device(beacon: BleSensor) -> str:
    text = f"""
[[device]]
id = "{beacon.device_id}"
driver = "bluetooth"
profile = "{beacon.profile}"
address = "{beacon.address}"
every = "{beacon.every_s}s"
"""
    return text + f'bindkey = "plain:{beacon.bindkey.hex()}"\n' if beacon.bindkey else text


async def _cancel(tasks: Sequence[asyncio.Future[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _lora_sensor(
    device_id: str, profile: str, dev_addr: int, measure: Callable[[], bytes], *, values_per_frame: int
) -> LoraSensor:
    dev_eui = f"70b3d57ed0{dev_addr & 0xFFFFFF:06x}"
    keys = secrets.token_bytes(16), secrets.token_bytes(16)
    return LoraSensor(device_id, profile, dev_eui, dev_addr, *keys, LORA_EVERY_S, measure, values_per_frame)


def _free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
