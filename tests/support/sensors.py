"""Emulated sensors for tests of a whole gateway: LoRaWAN ones that know which of their frames it has acknowledged."""

import base64
import itertools
import json
import pathlib
import secrets
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from typing import Self

from drivers.lorawan.mac import encode_uplink
from tests.support.process import readable

FORWARDER_EUI = bytes.fromhex("0016c001ff10a2b3")
RESEND_S = 0.1  # a PUSH_ACK takes some milliseconds; later than this the gateway is gone
_PUSH_ACK = 1
_DISTANCE = 130  # Cayenne LPP: four octets, 0.001 m


@dataclass
class NumberedSensor:
    """A LoRaWAN device whose n-th frame says n (as a distance of n mm), so that each frame can be counted.

    Attributes:
        frames_each: How many frames go into one datagram.
        sent: Frames made so far; the next one has this number as counter and value.
        acknowledged: Numbers of the frames that the gateway has acknowledged: it must not lose them any more.
    """

    device_id: str
    dev_addr: int
    frames_each: int = 1
    nwk_skey: bytes = field(default_factory=lambda: secrets.token_bytes(16))
    app_skey: bytes = field(default_factory=lambda: secrets.token_bytes(16))
    sent: int = 0
    acknowledged: set[int] = field(default_factory=set)

    @property
    def dev_eui(self) -> str:
        return f"70b3d57ed0{self.dev_addr & 0xFFFFFF:06x}"

    def next_frame(self) -> bytes:
        """Return the next PHYPayload."""
        number = self.sent
        self.sent += 1
        return encode_uplink(
            nwk_skey=self.nwk_skey,
            app_skey=self.app_skey,
            dev_addr=self.dev_addr,
            f_cnt=number,
            f_port=1,
            payload=struct.pack(">BBI", 1, _DISTANCE, number),
        )

    def settings(self, key_folder: pathlib.Path | None = None) -> str:
        """Return its ``[[device]]`` table; with ``key_folder`` its keys lie in files there."""
        nwk_skey, app_skey = f"plain:{self.nwk_skey.hex()}", f"plain:{self.app_skey.hex()}"
        if key_folder is not None:
            key_folder.mkdir(exist_ok=True)
            for name, key in (("nwk", self.nwk_skey), ("app", self.app_skey)):
                path = key_folder / f"{self.device_id}.{name}"
                path.write_text(key.hex())
                path.chmod(0o600)
            nwk_skey, app_skey = (f"file:{key_folder / self.device_id}.{name}" for name in ("nwk", "app"))
        return f"""
[[device]]
id = "{self.device_id}"
driver = "lora"
profile = "cayenne-lpp"
dev_eui = "{self.dev_eui}"
activation = "abp"
dev_addr = "{self.dev_addr:08x}"
nwk_skey = "{nwk_skey}"
app_skey = "{app_skey}"
"""


@dataclass
class _Outstanding:
    datagram: bytes
    numbers: range
    sent_s: float


class Forwarder:
    """A packet forwarder (Semtech UDP protocol) in a thread: sends as fast as ``pause_s`` allows, resends what is not
    acknowledged. Each sensor has one datagram on its way, so its frames arrive in order, as LoRaWAN wants them.
    """

    def __init__(self, port: int, *sensors: NumberedSensor, pause_s: float = 0.01) -> None:
        self.sensors = sensors
        self.pause_s = pause_s
        self._server = ("127.0.0.1", port)
        self._silent: set[str] = set()
        self._tokens = itertools.count()
        self._stopping = threading.Event()
        self._is_draining = False
        self._fault: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="forwarder")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def silence(self, device_id: str) -> None:
        """Let this sensor say nothing more."""
        self._silent.add(device_id)

    def speak(self, device_id: str) -> None:
        """Let it go on."""
        self._silent.discard(device_id)

    def finish(self, limit_s: float = 30.0) -> None:
        """Make no new frames, and return once all that are on their way are acknowledged."""
        self._is_draining = True
        self._thread.join(limit_s)
        if self._fault is not None:
            raise self._fault
        assert not self._thread.is_alive(), f"the gateway acknowledges nothing for {limit_s:g} s"

    def await_acknowledged(self, more: int, limit_s: float = 30.0) -> None:
        """Return once the gateway has acknowledged so many frames more."""
        goal = self.acknowledged_count + more
        deadline = time.monotonic() + limit_s
        while self.acknowledged_count < goal:
            assert self._thread.is_alive(), f"the forwarder ended: {self._fault!r}"
            assert time.monotonic() < deadline, f"the gateway acknowledges nothing: {self.acknowledged_count} of {goal}"
            time.sleep(0.01)  # another thread counts; bounded by the deadline

    @property
    def acknowledged_count(self) -> int:
        return sum(len(sensor.acknowledged) for sensor in self.sensors)

    @property
    def sent_count(self) -> int:
        return sum(sensor.sent for sensor in self.sensors)

    def _run(self) -> None:
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
                link.bind(("127.0.0.1", 0))
                self._send_and_listen(link)
        except BaseException as fault:  # told by whoever waits
            self._fault = fault
            raise

    def _send_and_listen(self, link: socket.socket) -> None:
        waiting: dict[bytes, tuple[NumberedSensor, _Outstanding]] = {}
        due_s = dict.fromkeys((sensor.device_id for sensor in self.sensors), 0.0)
        while not self._stopping.is_set():
            now_s = time.monotonic()
            busy = {sensor.device_id for sensor, _ in waiting.values()}
            for sensor in self.sensors:
                free = sensor.device_id not in busy | self._silent and not self._is_draining
                if free and now_s >= due_s[sensor.device_id]:
                    token = (next(self._tokens) & 0xFFFF).to_bytes(2, "big")
                    outstanding = _make(sensor, token, now_s)
                    waiting[token] = (sensor, outstanding)
                    link.sendto(outstanding.datagram, self._server)
            for _, outstanding in waiting.values():
                if now_s - outstanding.sent_s >= RESEND_S:
                    outstanding.sent_s = now_s
                    link.sendto(outstanding.datagram, self._server)
            if self._is_draining and not waiting:
                return
            if not readable(link, min(0.01, self.pause_s)):
                continue
            answer = link.recv(64)
            if len(answer) == 4 and answer[3] == _PUSH_ACK and answer[1:3] in waiting:
                sensor, outstanding = waiting.pop(answer[1:3])
                sensor.acknowledged.update(outstanding.numbers)
                due_s[sensor.device_id] = time.monotonic() + self.pause_s


def _make(sensor: NumberedSensor, token: bytes, now_s: float) -> _Outstanding:
    numbers = range(sensor.sent, sensor.sent + sensor.frames_each)
    packets = []
    for _ in numbers:
        frame = sensor.next_frame()
        packets.append(
            {
                "tmst": int(now_s * 1e6) & 0xFFFFFFFF, "freq": 868.1, "chan": 0, "rfch": 0, "stat": 1, "modu": "LORA",
                "datr": "SF7BW125", "codr": "4/5", "rssi": -97, "lsnr": 5.2, "size": len(frame),
                "data": base64.b64encode(frame).decode(),
            }
        )  # fmt: skip
    body = json.dumps({"rxpk": packets}).encode()
    return _Outstanding(b"\x02" + token + b"\x00" + FORWARDER_EUI + body, numbers, now_s)
