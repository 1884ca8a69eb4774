"""`litfass run` with drivers that misbehave, as a third party's might: `python -m tests.integration.odd_drivers`.

steady     one reading every 50 ms
crashing   a bug after its first reading, again and again
endless    a loop that never gives the event loop back, once the file ``block`` lies beside the settings
deaf       ignores that it is cancelled
"""

import argparse
import asyncio
import contextlib
import functools
import pathlib
import time
from dataclasses import dataclass

from gateway.cli.run import leave, run_service
from gateway.config import load_config
from gateway.driver import Decoder, DriverParts, DriverType, NoSettings, ReadingSink, setting, text
from gateway.log import set_up_logging
from gateway.reading import Reading

EVERY_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class OddSettings:
    block: str = setting(text(), help="an endless driver blocks once this file is there")


@dataclass(slots=True)
class OddDriver:
    parts: DriverParts
    kind: str
    number: int = 0

    async def run(self, sink: ReadingSink) -> None:
        sink.link_up(self.kind)
        while True:
            await self._measure(sink)
            if self.kind == "crashing":
                raise ZeroDivisionError("a bug")
            if self.kind == "endless" and pathlib.Path(self.parts.settings.block).exists():
                while True:
                    time.sleep(1)  # noqa: ASYNC251  # the fault itself
            if self.kind == "deaf":
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(EVERY_S)
            else:
                await asyncio.sleep(EVERY_S)

    async def _measure(self, sink: ReadingSink) -> None:
        now_ms = self.parts.clock.wall_ms()
        for device in self.parts.devices:
            await sink.append([Reading(device.device_id, "count", self.number, "1", now_ms, now_ms)])
        self.number += 1


DRIVER_TYPES = {
    kind: DriverType(
        summary=f"a {kind} driver",
        settings=OddSettings,
        device_settings=NoSettings,
        decoders=(Decoder("odd", NoSettings, NoSettings, lambda _profile, _example: []),),
        build=functools.partial(OddDriver, kind=kind),
    )
    for kind in ("steady", "crashing", "endless", "deaf")
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["run"])
    parser.add_argument("--config", type=pathlib.Path)
    config = load_config(parser.parse_args().config, DRIVER_TYPES)
    set_up_logging()
    leave(run_service(config))


if __name__ == "__main__":
    main()
