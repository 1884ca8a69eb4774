"""A sensor node: measure, encode, encrypt, send, wait. Boards start this file by themselves.

    micropython main.py [node.json]

    {
      "port": "/dev/ttyUSB0",                            serial line to the gateway
      "dev_addr": "01ab23cd",                            32 bits, as in the gateway's settings
      "nwk_skey": "32e8…", "app_skey": "fe39…",          session keys, 16 octets each
      "f_port": 1,                                       tells the gateway that the payload is Cayenne LPP
      "every_ms": 60000,                                 how often it sends
      "counter": "f_cnt",                                file that keeps the frame counter
      "frames": 0                                        stop after so many (0: never)
    }

Every frame leaves a line on the console: ``sent f_cnt=17 f_port=1 size=28``.
"""

import json
import sys
import time

from counter import FrameCounter
from line import encode_frame
from lorawan import Session, encode_uplink
from lpp import Payload
from port import Port
from sensors import Sensors


class Settings:
    """What ``node.json`` says; a key it does not know, or one that is missing, is a TypeError that names it."""

    def __init__(
        self,
        *,
        port: str,
        dev_addr: str,
        nwk_skey: str,
        app_skey: str,
        f_port: int = 1,
        every_ms: int = 60000,
        counter: str = "f_cnt",
        frames: int = 0,
    ) -> None:
        self.port = port
        self.session = Session(int(dev_addr, 16), bytes.fromhex(nwk_skey), bytes.fromhex(app_skey))
        self.f_port = f_port
        self.every_ms = every_ms
        self.counter = counter
        self.frames = frames


def run(settings: Settings) -> None:
    """Send until ``frames`` are sent; for ever if that is 0."""
    counter = FrameCounter(settings.counter)
    sensors = Sensors()
    port = Port(settings.port)
    frames_left = settings.frames
    due_ms = time.ticks_ms()
    while True:
        payload = Payload()
        sensors.measure(payload)
        f_cnt = counter.next()
        phy_payload = encode_uplink(settings.session, f_cnt, settings.f_port, bytes(payload.octets))
        port.write(encode_frame(phy_payload))
        print(f"sent f_cnt={f_cnt} f_port={settings.f_port} size={len(phy_payload)}")  # noqa: T201  the console
        if frames_left == 1:
            return
        frames_left -= 1 if frames_left else 0
        due_ms = time.ticks_add(due_ms, settings.every_ms)  # from due to due: what a frame takes does not add up
        wait_ms = time.ticks_diff(due_ms, time.ticks_ms())
        if wait_ms > 0:
            time.sleep_ms(wait_ms)
        else:
            due_ms = time.ticks_ms()  # it took too long: go on from here, no burst to catch up


def main() -> None:
    """Read the settings and run."""
    path = sys.argv[1] if len(sys.argv) > 1 else "node.json"
    with open(path) as file:
        settings = Settings(**json.load(file))
    run(settings)


if __name__ == "__main__":
    main()
