"""Modbus RTU frames, seen from the client: requests out, answers in. Bytes only, nothing here waits.

    request   | unit | function | address (2) | count (2)  | CRC (2) |             8 octets
    answer    | unit | function | n | n octets             | CRC (2) |         5 + n octets
    exception | unit | function + 0x80 | code              | CRC (2) |             5 octets

(MODBUS over Serial Line V1.02, 2.5.1; MODBUS Application Protocol V1.1b3, 6.1 to 6.4 and 7.) A frame carries no number
that ties an answer to its request. So an answer counts only if unit, function and length are those asked for, and the
driver never leaves two requests that could be confused open at the same time (see schedule.py).

Only functions 1 to 4 can be built here: this package cannot write to a device.
"""

from dataclasses import dataclass
from enum import IntEnum

from pymodbus.framer import FramerRTU
from pymodbus.pdu import DecodePDU, ExceptionResponse, ModbusPDU
from pymodbus.pdu.bit_message import ReadCoilsRequest, ReadDiscreteInputsRequest
from pymodbus.pdu.register_message import ReadHoldingRegistersRequest, ReadInputRegistersRequest

from gateway.driver import DeviceError, FrameError, FrameReason, NoReplyError

REGISTERS_MAX = 125  # in one request (Application Protocol, 6.3): the answer's length must fit in one octet
BITS_MAX = 2000  # likewise (6.1)
FRAME_SIZE_MAX = 256  # octets (Serial Line, 2.5.1.1)
REQUEST_SIZE = 8
EXCEPTION_SIZE = 5
BUFFER_SIZE_MAX = 2 * FRAME_SIZE_MAX  # one late answer before ours; whatever is older is dropped

_FRAMER = FramerRTU(DecodePDU(is_server=False))


class Function(IntEnum):
    """What can be read (Application Protocol, 6.1 to 6.4)."""

    COILS = 1
    DISCRETE_INPUTS = 2
    HOLDING_REGISTERS = 3
    INPUT_REGISTERS = 4

    @property
    def is_bits(self) -> bool:
        """Tell whether it reads single bits instead of 16-bit registers."""
        return self in (Function.COILS, Function.DISCRETE_INPUTS)


_REQUEST_TYPES: dict[Function, type[ModbusPDU]] = {
    Function.COILS: ReadCoilsRequest,
    Function.DISCRETE_INPUTS: ReadDiscreteInputsRequest,
    Function.HOLDING_REGISTERS: ReadHoldingRegistersRequest,
    Function.INPUT_REGISTERS: ReadInputRegistersRequest,
}

_EXCEPTION_TEXTS = {  # Application Protocol, 7
    1: "it does not know this function",
    2: "it has no such registers: is the profile the right one?",
    3: "it refuses this count of registers",
    4: "it failed",
    5: "it needs longer",
    6: "it is busy",
    8: "its memory has a parity error",
    10: "the path through its gateway is not available",
    11: "the device behind its gateway does not answer",
}


class ExceptionReplyError(DeviceError):
    """The device answered that it will not. ``code`` is one of Application Protocol, 7."""

    def __init__(self, device_id: str, code: int, request: "Request") -> None:
        self.code = code
        text = _EXCEPTION_TEXTS.get(code, "a code of its own")
        super().__init__(device_id, f"exception {code} to {request}: {text}")


@dataclass(frozen=True, slots=True)
class Request:
    """One question to one unit: ``count`` registers or bits from ``address`` (as on the wire, from 0)."""

    unit: int
    function: Function
    address: int
    count: int

    def __post_init__(self) -> None:
        assert 1 <= self.unit <= 247, self.unit
        assert 1 <= self.count <= (BITS_MAX if self.function.is_bits else REGISTERS_MAX), self.count
        assert self.address + self.count <= 65536, self.address

    def __str__(self) -> str:
        return f"function {self.function.value}, {self.count} from address {self.address}"

    @property
    def data_size(self) -> int:
        """Octets of data in its answer."""
        return (self.count + 7) // 8 if self.function.is_bits else 2 * self.count

    @property
    def answer_size(self) -> int:
        """Octets of its answer, frame and all."""
        return EXCEPTION_SIZE + self.data_size

    def encode(self) -> bytes:
        """Return the frame to send."""
        pdu = _REQUEST_TYPES[self.function](dev_id=self.unit, address=self.address, count=self.count)
        frame = _FRAMER.buildFrame(pdu)
        assert len(frame) == REQUEST_SIZE
        return frame


class AnswerFinder:
    """Finds the answer to one request among what is heard after it.

    Attributes:
        echo_count: Own requests heard back: the adapter hears itself.
        late_count: Sound frames that answer somebody else's question, such as a late answer of another unit.
    """

    def __init__(self, request: Request, device_id: str = "") -> None:
        self.echo_count = 0
        self.late_count = 0
        self._request = request
        self._device_id = device_id
        self._sent = request.encode()
        self._heard = bytearray()
        self._stranger = ""

    @property
    def is_full(self) -> bool:
        """Tell whether as much was heard as an answer has, so that more is not worth waiting for."""
        return len(self._heard) >= self._request.answer_size

    def feed(self, octets: bytes) -> list[int] | None:
        """Take what was heard; return the registers (or bits as 0 and 1) once the answer is complete.

        Raises:
            ExceptionReplyError: The device refuses.
        """
        self._heard += octets
        del self._heard[:-BUFFER_SIZE_MAX]
        self._drop_strangers()
        for offset in range(len(self._heard) - EXCEPTION_SIZE + 1):
            if self._sent.startswith(self._heard[offset:]):
                return None  # it may become the own request heard back: the rest will tell
            values = self._answer_at(offset)
            if values is not None:
                return values
        return None

    def fault(self, waited_s: float) -> DeviceError:
        """Return what is wrong when no answer came in time."""
        request, heard = self._request, bytes(self._heard)
        if self._stranger:
            text = f"answer of {self._stranger} instead of unit {request.unit}, {request}"
            return FrameError(self._device_id, FrameReason.TYPE, text)
        if not heard and self.echo_count:
            text = f"heard only the own request within {waited_s:.3g} s: the adapter echoes, the device is silent"
            return FrameError(self._device_id, FrameReason.TYPE, text)
        if not heard:
            return NoReplyError(self._device_id, round(waited_s, 3))
        if heard[:2] == self._sent[:2] and len(heard) < request.answer_size:
            text = f"answer ends after {len(heard)} octets, expected {request.answer_size}"
            return FrameError(self._device_id, FrameReason.MALFORMED, text, frame=heard, offset=len(heard))
        text = f"{len(heard)} octets without a sound frame (wrong baud rate or parity, noise, two devices at once)"
        return FrameError(self._device_id, FrameReason.CHECKSUM, text, frame=heard)

    def _answer_at(self, offset: int) -> list[int] | None:
        request = self._request
        head = self._heard[offset : offset + 3]
        if head == bytes((request.unit, request.function, request.data_size)):
            pdu = _decode(self._heard[offset : offset + request.answer_size])
            if pdu is None or len(self._heard) < offset + request.answer_size:
                return None
            values = pdu.bits if request.function.is_bits else pdu.registers
            return [int(value) for value in values[: request.count]]
        if head[:2] == bytes((request.unit, request.function | 0x80)):
            pdu = _decode(self._heard[offset : offset + EXCEPTION_SIZE])
            if isinstance(pdu, ExceptionResponse):
                raise ExceptionReplyError(self._device_id, pdu.exception_code, request)
        return None

    def _drop_strangers(self) -> None:
        """Take away what is not the answer: the own request and all before it, sound answers to other questions."""
        while self._heard:
            echo_at = self._heard.find(self._sent)
            if echo_at >= 0:
                del self._heard[: echo_at + REQUEST_SIZE]
                self.echo_count += 1
                continue
            size = _frame_size(self._heard)
            if not size or len(self._heard) < size or _decode(self._heard[:size]) is None:
                return
            if self._is_wanted(size):
                return
            unit, function = self._heard[0], self._heard[1]
            self._stranger = f"unit {unit}, function {function & 0x7F}, {size} octets"
            self.late_count += 1
            del self._heard[:size]

    def _is_wanted(self, size: int) -> bool:
        request = self._request
        if self._heard[0] != request.unit or self._heard[1] & 0x7F != request.function:
            return False
        return bool(self._heard[1] & 0x80) or size == request.answer_size


def _frame_size(heard: bytearray) -> int:
    """Return how long the answer at the front claims to be; 0 if it is none of ours or too short to tell."""
    if len(heard) < 3 or heard[1] & 0x7F not in _REQUEST_TYPES:
        return 0
    return EXCEPTION_SIZE if heard[1] & 0x80 else EXCEPTION_SIZE + heard[2]


def _decode(frame: bytearray) -> ModbusPDU | None:
    """Return what an answer says, None if its CRC is wrong."""
    octets = bytes(frame)
    if len(octets) < EXCEPTION_SIZE or not FramerRTU.check_CRC(octets[:-2], int.from_bytes(octets[-2:], "big")):
        return None
    return _FRAMER.decoder.decode(octets[1:-2])
