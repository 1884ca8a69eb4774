"""An energy meter that is not there: pymodbus's server answers with an SDM630's registers over a cable of ptys.

    async with SimulatedMeter(folder) as meter:
        ...                    # meter.port is what [[driver]] port takes; unit 1, 9600 8N1, profile eastron-sdm630

Its values follow a small household: mains voltage that wanders, loads that come and go slowly, energy that only rises.
"""

import math
import pathlib
import struct
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from pymodbus.constants import ExcCodes
from pymodbus.pdu import ModbusPDU
from pymodbus.server import ModbusSerialServer
from pymodbus.simulator import DataType, SimData, SimDevice

from drivers.simulated.cable import Cable
from gateway.driver import Clock, SystemClock

_REGISTER_COUNT = 80  # input registers 30001 to 30080
_ENERGY_START_KWH = 1234.0


class SimulatedMeter:
    """A three-phase meter on a cable of its own.

    Attributes:
        cable: The cable; use `pull` and `plug` of the meter to move it.
        request_count: Requests it has answered.
    """

    def __init__(self, folder: pathlib.Path, *, unit: int = 1, name: str = "rs485", clock: Clock | None = None) -> None:
        """Make a meter that is not connected yet.

        Args:
            folder: Where the two ends of the cable get their links.
            unit: Its Modbus unit id; it is silent to all others.
            name: First part of the links' names.
            clock: Moves its values.
        """
        self.cable = Cable(folder, name)
        self.request_count = 0
        self._unit = unit
        self._elapsed_s: Callable[[], float] = (clock or SystemClock()).elapsed_s
        self._start_s = self._elapsed_s()
        self._server: ModbusSerialServer | None = None

    @property
    def port(self) -> str:
        """Path for the gateway's driver."""
        return str(self.cable.gateway_port)

    async def __aenter__(self) -> Self:
        await self.plug()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.pull()

    async def plug(self) -> None:
        """Put the cable in; both ends are new terminals below the old links."""
        self.cable.plug()
        registers = SimData(0, count=_REGISTER_COUNT, values=0, datatype=DataType.REGISTERS)
        device = SimDevice(self._unit, [registers], action=self._refresh)
        self._server = ModbusSerialServer(
            device,
            port=str(self.cable.sensor_port),
            baudrate=9600,
            trace_pdu=self._hear_own_unit,  # type: ignore[arg-type]  # None is taken for "no request"
        )
        await self._server.serve_forever(background=True)

    async def pull(self) -> None:
        """Pull the cable. May be called twice."""
        server, self._server = self._server, None
        if server is not None:
            await server.shutdown()  # type: ignore[no-untyped-call]  # pymodbus leaves it untyped
        self.cable.pull()

    def _hear_own_unit(self, is_sending: bool, pdu: ModbusPDU) -> ModbusPDU | None:
        """Drop requests to other units: pymodbus would answer them with an exception, a meter does not."""
        return pdu if is_sending or pdu.dev_id == self._unit else None

    async def _refresh(self, *asked: Any) -> ExcCodes | None:
        """Write this moment's values into the registers just before they are read (pymodbus ``SimAction``)."""
        registers, written = asked[4:6]
        if written is not None:
            return ExcCodes.ILLEGAL_FUNCTION  # a meter's readings cannot be written
        self.request_count += 1
        for register, value in self.values(self._elapsed_s() - self._start_s).items():
            registers[register : register + 2] = struct.unpack(">HH", struct.pack(">f", value))
        return None

    @staticmethod
    def values(elapsed_s: float) -> dict[int, float]:
        """Return what the meter shows ``elapsed_s`` seconds after it was switched on, by register address."""
        found: dict[int, float] = {}
        total_w = 0.0
        for phase in range(3):
            volts = 230.0 + 1.5 * math.sin(elapsed_s / 37 + 2.1 * phase)
            amperes = 2.4 - 0.5 * phase + 0.6 * math.sin(elapsed_s / 23 + 1.3 * phase)
            watts = volts * amperes * 0.95
            total_w += watts
            found[2 * phase], found[6 + 2 * phase], found[12 + 2 * phase] = volts, amperes, watts
        found[0x34], found[0x38], found[0x3C] = total_w, total_w / 0.95, total_w * math.tan(math.acos(0.95))
        found[0x3E], found[0x46] = 0.95, 50.0 + 0.02 * math.sin(elapsed_s / 11)
        found[0x48], found[0x4A] = _ENERGY_START_KWH + 1.25 * elapsed_s / 3600, 0.0
        return found
