"""Register maps: which registers a profile's fields stand in, how they become values, and how few requests read them.

[[field]]
from = "water_level"          # any name; unique in the profile
property = "water_level"
function = 3                  # 1 coils, 2 discrete inputs, 3 holding registers, 4 input registers
register = 0x0002             # address on the wire, from 0: a document's 40003 or 30003 is 2
type = "float32"
order = "ABCD"                # order of the octets of a value of 32 bits; A is the highest
factor = 10.197               # the profile's own: bar into metres of water
"""

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from drivers.serial.modbus import BITS_MAX, REGISTERS_MAX, Function, Request
from gateway.driver import (
    Decoder,
    DeviceError,
    FrameError,
    FrameReason,
    choice,
    integer,
    list_of,
    one_of_integers,
    setting,
    text,
)
from gateway.profile import Field, Measurement, Profile
from gateway.reading import Reason, Value

_NUMBER_FORMATS = {
    "int16": ">h",
    "uint16": ">H",
    "int32": ">i",
    "uint32": ">I",
    "int64": ">q",
    "uint64": ">Q",
    "float32": ">f",
    "float64": ">d",
}
_LENGTH_MAX = 125  # registers of one text
_FLOAT32_DIGITS = range(6, 10)  # decimal digits among which every binary32 finds its shortest text (IEEE 754, 5.12.2)


class MapError(ValueError):
    """A register map that contradicts itself: ``key`` of field ``source``."""

    def __init__(self, source: str, key: str, found: str, expected: str) -> None:
        self.source, self.key, self.found, self.expected = source, key, found, expected
        super().__init__(f'field "{source}": {key} = {found}; expected {expected}')


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterField:
    """The keys of a ``[[field]]`` that say where a value stands and how it is written."""

    register: int = setting(integer(0, 65535), help="address of the first register or bit, counted from 0")
    function: int = setting(
        one_of_integers(1, 2, 3, 4), default=3, help="1 coils, 2 discrete inputs, 3 holding, 4 input registers"
    )
    type: str = setting(
        choice(*_NUMBER_FORMATS, "bcd", "bool", "string"), default="uint16", help="how the value is written"
    )
    order: str = setting(
        choice("ABCD", "CDAB", "BADC", "DCBA"),
        default="ABCD",
        help="octet order: ABCD as the standard has it, CDAB words swapped, BADC octets swapped, DCBA both",
    )
    length: int | None = setting(
        integer(1, _LENGTH_MAX), default=None, help="registers of a string (needed) or bcd (1 if not given)"
    )
    bit: int | None = setting(integer(0, 15), default=None, help='bit of a register of type "bool", 0 is the lowest')
    invalid: tuple[int, ...] = setting(
        list_of(integer(-(1 << 63), (1 << 64) - 1), 16),
        default=[],
        help="raw values by which the device says: no value",
    )
    request: int | None = setting(
        integer(1, 99), default=None, help="fields with the same number are read in one request, gaps included"
    )

    @property
    def count(self) -> int:
        """How many registers (or bits) it covers."""
        if self.type in _NUMBER_FORMATS:
            return struct.calcsize(_NUMBER_FORMATS[self.type]) // 2
        return self.length or 1


@dataclass(frozen=True, slots=True)
class Block:
    """What one request reads: neighbouring registers and the fields in them."""

    function: Function
    address: int
    count: int
    fields: tuple[Field, ...]

    def request(self, unit: int) -> Request:
        """Return the question to ``unit`` that brings it."""
        return Request(unit, self.function, self.address, self.count)

    def decode(self, values: Sequence[int]) -> list[Measurement]:
        """Return one measurement for each field.

        Args:
            values: The ``count`` registers, or bits as 0 and 1, of an answer.
        """
        assert len(values) == self.count
        found = []
        for field in self.fields:
            start = field.options.register - self.address
            found.append(decode_field(field.source, field.options, values[start : start + field.options.count]))
        return found

    def missing(self, reason: Reason) -> list[Measurement]:
        """Return the measurements of an answer that did not come."""
        return [Measurement(field.source, None, reasons=reason) for field in self.fields]


def plan(profile: Profile) -> tuple[Block, ...]:
    """Return the requests that read a device, as few as are safe.

    Registers that touch or overlap share a request. Gaps are not read over unless the profile says so with ``request``,
    because many devices answer an unknown register with an exception for all of them.

    Raises:
        MapError: The profile's register map contradicts itself.
    """
    names: set[str] = set()
    for field in profile.fields:
        _check(field)
        if field.source in names:
            raise MapError(field.source, "from", f'"{field.source}"', "a name that no other field has")
        names.add(field.source)
    named: dict[int, list[Field]] = {}
    for field in profile.fields:
        if field.options.request is not None:
            named.setdefault(field.options.request, []).append(field)
    groups = list(named.values())
    groups += _neighbours([field for field in profile.fields if field.options.request is None])
    return tuple(_block(group) for group in groups)


def decode_field(source: str, options: RegisterField, values: Sequence[int]) -> Measurement:
    """Return what one field's registers say. A value the device marks as invalid, or that is none, is missing."""
    assert len(values) == options.count
    value: Value
    if Function(options.function).is_bits:
        return Measurement(source, bool(values[0]))
    if options.type == "bool":
        return Measurement(source, bool(values[0] >> (options.bit or 0) & 1))
    octets = _in_order(values, options.order)
    if options.type == "string":
        return Measurement(source, octets.split(b"\0")[0].decode("ascii", "replace").strip())
    raw = int.from_bytes(octets, "big")
    if options.type == "bcd":
        digits = octets.hex()
        value = int(digits) if digits.isdecimal() else None
    else:
        value = struct.unpack(_NUMBER_FORMATS[options.type], octets)[0]
    if value is None or raw in options.invalid or value in options.invalid:
        return Measurement(source, None, reasons=Reason.DEVICE_FAULT)
    if options.type == "float32":
        assert isinstance(value, float)
        value = _shortest(value, octets)
    return Measurement(source, value)


def _check(field: Field) -> None:
    options: RegisterField = field.options
    is_bits = Function(options.function).is_bits
    if is_bits and options.type != "bool":
        raise MapError(field.source, "type", f'"{options.type}"', f'"bool": function {options.function} reads bits')
    if options.type == "bool" and not is_bits and options.bit is None:
        raise MapError(field.source, "bit", "nothing", "the bit of the register, 0 to 15")
    if options.bit is not None and (is_bits or options.type != "bool"):
        raise MapError(field.source, "bit", str(options.bit), 'it only with type "bool" in a register')
    if options.type == "string" and options.length is None:
        raise MapError(field.source, "length", "nothing", "the number of registers of the text")
    if options.length is not None and options.type not in ("string", "bcd"):
        raise MapError(field.source, "length", str(options.length), 'it only with type "string" or "bcd"')
    if options.register + options.count > 65536:
        raise MapError(field.source, "register", str(options.register), f"room for {options.count} registers")


def _neighbours(fields: Sequence[Field]) -> list[list[Field]]:
    """Return the fields in groups whose registers touch and fit in one request."""
    groups: list[list[Field]] = []
    end = -1
    for field in sorted(fields, key=lambda field: (field.options.function, field.options.register)):
        options: RegisterField = field.options
        if (
            groups
            and groups[-1][0].options.function == options.function
            and options.register <= end
            and options.register + options.count - groups[-1][0].options.register <= _count_max(options.function)
        ):
            groups[-1].append(field)
            end = max(end, options.register + options.count)
        else:
            groups.append([field])
            end = options.register + options.count
    return groups


def _block(group: Sequence[Field]) -> Block:
    first = group[0]
    functions = {field.options.function for field in group}
    if len(functions) > 1:
        raise MapError(first.source, "request", str(first.options.request), "one function for all fields of a request")
    address = min(field.options.register for field in group)
    count = max(field.options.register + field.options.count for field in group) - address
    if count > _count_max(first.options.function):
        found = f"{first.options.request}, which spans {count}"
        raise MapError(first.source, "request", found, f"at most {_count_max(first.options.function)} in one request")
    return Block(Function(first.options.function), address, count, tuple(group))


def _count_max(function: int) -> int:
    return BITS_MAX if Function(function).is_bits else REGISTERS_MAX


def _in_order(registers: Sequence[int], order: str) -> bytes:
    """Return the registers' octets with the highest first."""
    words = registers if order in ("ABCD", "BADC") else registers[::-1]
    return b"".join(word.to_bytes(2, "big" if order in ("ABCD", "CDAB") else "little") for word in words)


def _shortest(value: float, octets: bytes) -> float:
    """Return the shortest decimal that is the same binary32, so that a meter's 230.2 does not become 230.19999695."""
    if not math.isfinite(value):
        return value
    for digits in _FLOAT32_DIGITS:
        short = float(f"{value:.{digits}g}")
        if struct.pack(">f", short) == octets:
            return short
    return value


# ---- examples inside profiles ----------------------------------------------------------------------------------------

_WORDS = text(
    r"\s*(0x[0-9A-Fa-f]{1,4}|\d{1,5})\s*:(\s*[0-9A-Fa-f]{4})+\s*", '"address: hex words" such as "0: 4366 3333"'
)
_BITS = text(r"\s*(0x[0-9A-Fa-f]{1,4}|\d{1,5})\s*:(\s*[01])+\s*", '"address: bits" such as "0: 1 0 0 1"')


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterExample:
    """What the device's memory holds in an ``[[example]]``: ``"address: content"``, addresses from 0."""

    coils: tuple[str, ...] = setting(list_of(_BITS), default=[], help="function 1")
    discrete: tuple[str, ...] = setting(list_of(_BITS), default=[], help="function 2")
    holding: tuple[str, ...] = setting(list_of(_WORDS), default=[], help="function 3")
    input: tuple[str, ...] = setting(list_of(_WORDS), default=[], help="function 4")

    def memory(self) -> dict[tuple[int, int], int]:
        """Return register or bit by (function, address)."""
        cells: dict[tuple[int, int], int] = {}
        for function, rows in enumerate((self.coils, self.discrete, self.holding, self.input), start=1):
            for row in rows:
                start, _, content = row.partition(":")
                digits = "".join(content.split())
                step = 1 if Function(function).is_bits else 4
                for index in range(len(digits) // step):
                    cells[function, int(start, 0) + index] = int(digits[index * step : (index + 1) * step], 16)
        return cells


def _run_example(profile: Profile, options: RegisterExample) -> list[Measurement]:
    try:
        blocks = plan(profile)
    except MapError as error:
        raise DeviceError("", str(error)) from error
    memory: Mapping[tuple[int, int], int] = options.memory()
    found = []
    for block in blocks:
        for field in block.fields:
            where = range(field.options.register, field.options.register + field.options.count)
            values = [memory.get((block.function, address)) for address in where]
            known = [value for value in values if value is not None]
            if len(known) == len(values):
                found.append(decode_field(field.source, field.options, known))
            elif known:
                raise FrameError(
                    "", FrameReason.MALFORMED, f'{len(known)} registers of "{field.source}", expected {len(values)}'
                )
    return found


MODBUS = Decoder("modbus", RegisterField, RegisterExample, _run_example)
