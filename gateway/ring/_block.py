r"""Sealed blocks: some 6,000 to 20,000 rows in one slot of 16 KiB, about one octet each. Pure; never awaits.

    slot    header 128 | body, deflated | zeros to the end of the slot

    header    0  magic            4   "LFB\x01"
              4  crc              4   CRC-32 of octets 8 to 127, seeded by the ring's uuid
              8  generation       8   counts blocks; the highest is the newest
             16  seq_first        8
             24  seq_end          8   number after the last
             32  count            4   rows
             36  epoch_last       4
             40  from_ms          8   oldest phenomenon time inside, UTC
             48  to_ms            8   newest
             56  tail_seq         8   oldest record kept once this block was written: what is below was overwritten
             64  gone_first       8   the block that lay in this slot before: first number,
             72  gone_end         8     number after its last (equal to gone_first: there was none),
             80  gone_from_ms     8     oldest time,
             88  gone_to_ms       8     newest time
             96  series_max       2   highest series number inside
             98  reserved         2
            100  body_size        4   octets deflated
            104  body_crc         4   seeded as above
            108  columns_size     4   octets inflated
            112  order_size       4   octets of the order stream, the last part of the body
            116  zeros           12

The body is two deflate streams, columns and order. Rows are grouped by series; series stand in the order in which they
first appear, unless ascending numbers make the order column needless. Columns, in this order (`_columns` draws one):

    runs       epoch deltas, number deltas, counts, clock numbers          one entry a run
    clocks     boot numbers, UTC minus boot time, known; then boot ids of 16 octets
    series     number, count, kind, decimals, time unit, time group, value group, first time, period, first value
    kinds      of the rows of MIXED series
    times      what the steps in time differ from the period, in time units, by time group
    values     steps of the whole-number values, by value group
    floats     8 planes of IEEE 754 binary64
    texts      sizes, then UTF-8
    contexts   1 = one for all rows, else a column each: quality, reasons, rssi, snr, delay
               (link data in 0.01 dB, NOTHING = none)

A *group* is octets a value times 64 plus the bit length of four times the mean distance from zero: series that jitter
alike share one Huffman table, because the deflate stream is flushed after each larger plane. On 200 mixed channels
that is 12 % smaller than one table for all.

Order: sorting all rows by (time, place of the series) gives the order of arrival again where things are polled in
turn, and then costs nothing. Else the order stream says, row by row of arrival, how far from the front of the
remaining sorted rows the next one is taken; where that goes beyond ``ORDER_REACH_MAX``, it is the plain permutation.
"""

import array
import itertools
import struct
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter, le, sub
from typing import Any

from gateway.reading import Value
from gateway.ring._columns import ColumnError, ColumnReader, encode_column, running_sum, to_planes, width_of
from gateway.ring._layout import SLOT_SIZE
from gateway.ring._rows import (
    KIND_BOOL,
    KIND_FLOAT,
    KIND_HOLE,
    KIND_INT,
    KIND_MISSING,
    KIND_MIXED,
    KIND_SCALED,
    KIND_TEXT,
    POWERS,
    Clock,
    Context,
    LoadedRow,
    Row,
    Run,
    load_value,
)

MAGIC = b"LFB\x01"
HEADER = struct.Struct("<4sIQQQIIqqQQQqqHHIIII12x")
HEADER_SIZE = HEADER.size
BODY_SIZE_MAX = SLOT_SIZE - HEADER_SIZE
BLOCK_ROWS_MAX = 20_000  # decoded it stays below 4 MB; a constant stream would need no bound for its size
INFLATED_SIZE_MAX = 64 * BLOCK_ROWS_MAX + (1 << 20)  # octets; a damaged stream cannot fill the memory

TIME_UNITS_MS = (60_000, 1000, 100, 10, 1)  # the first that divides all times of a series
DECIMALS_TRIED = (0, 1, 2, 3, 4, 5, 6)  # for floats of a series that declares none
FLUSH_SIZE_MIN = 256  # octets of a plane that are worth a Huffman table of their own
NOTHING = -32_768  # in a link column: the radio told none
ORDER_SORTED, ORDER_STEPS, ORDER_PLAIN = 0, 1, 2
ORDER_REACH_MAX = 255
_GROUP_STEP = 64
_MAGNITUDE_MAX = 63


@dataclass(frozen=True, slots=True)
class BlockHeader:
    """What a slot says about itself without being inflated; see the drawing above."""

    generation: int
    seq_first: int
    seq_end: int
    count: int
    epoch_last: int
    from_ms: int
    to_ms: int
    tail_seq: int
    gone_first: int
    gone_end: int
    gone_from_ms: int
    gone_to_ms: int
    series_max: int
    body_size: int = 0
    body_crc: int = 0
    columns_size: int = 0
    order_size: int = 0

    def encode(self, crc_seed: int) -> bytes:
        """Return the 128 octets of the header."""
        octets = HEADER.pack(
            MAGIC, 0, self.generation, self.seq_first, self.seq_end, self.count, self.epoch_last, self.from_ms,
            self.to_ms, self.tail_seq, self.gone_first, self.gone_end, self.gone_from_ms, self.gone_to_ms,
            self.series_max, 0, self.body_size, self.body_crc, self.columns_size, self.order_size,
        )  # fmt: skip
        return MAGIC + struct.pack("<I", zlib.crc32(octets[8:], crc_seed)) + octets[8:]

    @classmethod
    def decode(cls, octets: bytes, crc_seed: int) -> "BlockHeader | None":
        """Return the header, or None where there is none or its checksum is wrong."""
        if len(octets) < HEADER_SIZE or octets[:4] != MAGIC:
            return None
        fields = HEADER.unpack(octets[:HEADER_SIZE])
        if zlib.crc32(octets[8:HEADER_SIZE], crc_seed) != fields[1]:
            return None
        header = cls(*fields[2:15], *fields[16:])
        return header if header.body_size <= BODY_SIZE_MAX else None


@dataclass(frozen=True, slots=True)
class Block:
    """A block's rows in order of arrival, values as readings have them.

    ``contexts`` has one entry for all rows or one for each.
    """

    runs: tuple[Run, ...]
    series: Sequence[int]
    times_ms: Sequence[int]
    values: Sequence[Value]
    contexts: Sequence[Context]

    def rows(self, first_index: int, end_index: int) -> Iterable[LoadedRow]:
        """Return some rows as ``(series, time_ms, value, context)``."""
        contexts = self.contexts
        return zip(
            self.series[first_index:end_index],
            self.times_ms[first_index:end_index],
            self.values[first_index:end_index],
            contexts[first_index:end_index] if len(contexts) > 1 else itertools.repeat(contexts[0]),
            strict=False,
        )


Decimals = Callable[[int], "int | None"]
"""Says how many decimals a series declares."""


# ---------------------------------------------------------------- encode


def encode_body(rows: Sequence[Row], runs: Sequence[Run], decimals_of: Decimals) -> tuple[bytes, int, int]:
    """Return the body, the size of its columns when inflated, and the size of its order stream.

    Args:
        rows: In order of arrival, at least one.
        runs: Together as long as ``rows``.
        decimals_of: Says how many decimals a series declares.
    """
    series, times_ms, kinds, stored, contexts = zip(*rows, strict=True)
    places: dict[int, list[int]] = {}
    for index, number in enumerate(series):
        if number in places:
            places[number].append(index)
        else:
            places[number] = [index]
    ranked, order = _order(series, times_ms, places)
    writer = _ColumnWriter()
    _write_runs(writer, runs)
    _write_series(writer, ranked, places, times_ms, kinds, stored, decimals_of)
    by_series = [index for number in ranked for index in places[number]]
    _write_contexts(writer, contexts, by_series)
    columns = writer.finish()
    return columns + order, writer.size, len(order)


class _ColumnWriter:
    """A deflate stream that starts a new Huffman table after each larger plane."""

    def __init__(self) -> None:
        self._deflate = zlib.compressobj(6, zlib.DEFLATED, -15, 9, zlib.Z_FILTERED)
        self._parts: list[bytes] = []
        self.size = 0

    def put(self, octets: bytes) -> None:
        """Add octets; no new table."""
        self._parts.append(self._deflate.compress(octets))
        self.size += len(octets)

    def put_plane(self, octets: bytes) -> None:
        """Add one byte plane, with a table of its own where that pays."""
        self.put(octets)
        if len(octets) >= FLUSH_SIZE_MIN:
            self._parts.append(self._deflate.flush(zlib.Z_PARTIAL_FLUSH))

    def put_planes(self, octets: bytes, width: int) -> None:
        """Add ``width`` planes of equal size."""
        size = len(octets) // width
        for plane in range(width):
            self.put_plane(octets[plane * size : (plane + 1) * size])

    def put_column(self, values: Sequence[int]) -> None:
        """Add a column of rows that says itself how wide it is."""
        octets = encode_column(values)
        self.put(octets[:1])
        if octets[0] in (1, 2, 4, 8):
            self.put_planes(octets[1:], octets[0])
        else:
            self.put(octets[1:])

    def finish(self) -> bytes:
        """Return the whole stream."""
        self._parts.append(self._deflate.flush())
        return b"".join(self._parts)


def _order(series: Sequence[int], times_ms: Sequence[int], places: Mapping[int, list[int]]) -> tuple[list[int], bytes]:
    """Return the series in the order the block lists them, and the order stream."""
    count = len(series)
    arrival = list(range(count))
    ranked = sorted(places)
    if _sorted_arrival(ranked, series, times_ms, places) == arrival:
        return ranked, b""
    ranked = list(places)
    by_time = _sorted_arrival(ranked, series, times_ms, places)
    if by_time == arrival:
        return ranked, b""
    steps = _steps(by_time)
    if steps is None:
        # rank in the sorted rows of each arrival
        rank_of = array.array("i", bytes(4 * count))
        for rank, index in enumerate(by_time):
            rank_of[index] = rank
        return ranked, _deflate_order(bytes((ORDER_PLAIN,)) + encode_column(rank_of))
    return ranked, _deflate_order(bytes((ORDER_STEPS,)) + bytes(steps))


def _deflate_order(octets: bytes) -> bytes:
    deflate = zlib.compressobj(6, zlib.DEFLATED, -15, 9, zlib.Z_DEFAULT_STRATEGY)
    plain = deflate.compress(octets) + deflate.flush()
    deflate = zlib.compressobj(6, zlib.DEFLATED, -15, 9, zlib.Z_HUFFMAN_ONLY)
    huffman = deflate.compress(octets) + deflate.flush()
    return min(plain, huffman, key=len)


def _sorted_arrival(
    ranked: Sequence[int], series: Sequence[int], times_ms: Sequence[int], places: Mapping[int, list[int]]
) -> list[int]:
    """Return the places of arrival, sorted by (time, place of the series in ``ranked``)."""
    rank_of = {number: rank for rank, number in enumerate(ranked)}
    size = len(ranked)
    keys = [time_ms * size + rank_of[number] for time_ms, number in zip(times_ms, series, strict=True)]
    if all(map(le, keys, itertools.islice(keys, 1, None))):
        return list(range(len(keys)))
    return sorted([index for number in ranked for index in places[number]], key=keys.__getitem__)


def _steps(by_time: Sequence[int]) -> bytearray | None:
    """Return how far from the front each arrival is taken; None where that is too far."""
    remaining = list(reversed(by_time))
    steps = bytearray()
    for index in range(len(remaining)):
        reach = 1
        try:
            while remaining[-reach] != index:
                reach += 1
                if reach > ORDER_REACH_MAX:
                    return None
        except IndexError:
            return None
        steps.append(reach - 1)
        del remaining[-reach]
    return steps


def _write_runs(writer: _ColumnWriter, runs: Sequence[Run]) -> None:
    clocks: dict[Clock, int] = {}
    boots: dict[bytes, int] = {}
    for run in runs:
        clocks.setdefault(run.clock, len(clocks))
        boots.setdefault(run.clock.boot_id, len(boots))
    writer.put(struct.pack("<IIHIQ", len(runs), len(clocks), len(boots), runs[0].epoch, runs[0].seq_first))
    pairs = list(itertools.pairwise(runs))
    for column in (
        [after.epoch - before.epoch for before, after in pairs],
        [after.seq_first - before.seq_first - before.row_count for before, after in pairs],
        [run.row_count for run in runs],
        [clocks[run.clock] for run in runs],
        [boots[clock.boot_id] for clock in clocks],
        [clock.wall_minus_boot_ms for clock in clocks],
        [int(clock.is_known) for clock in clocks],
    ):
        writer.put(encode_column(column))
    writer.put(b"".join(boots))


def _write_series(  # noqa: PLR0917  (the columns of a row, in their order)
    writer: _ColumnWriter,
    ranked: Sequence[int],
    places: Mapping[int, list[int]],
    times_ms: Sequence[int],
    kinds: Sequence[int],
    stored: "Sequence[float | int | str]",
    decimals_of: Decimals,
) -> None:
    base_ms = times_ms[0]
    table: list[tuple[int, ...]] = []
    mixed_kinds: list[int] = []
    time_groups: dict[int, list[int]] = {}
    value_groups: dict[int, list[int]] = {}
    floats: list[float] = []
    texts: list[str] = []
    for number in ranked:
        mine = places[number]
        pick = _picker(mine)
        times = pick(times_ms)
        unit_code, unit_ms = _time_unit(times)
        if unit_ms > 1:
            times = tuple([time_ms // unit_ms for time_ms in times])
        steps = list(map(sub, times[1:], times))
        period = sorted(steps)[len(steps) // 2] if steps else 0
        if period:
            steps = [step - period for step in steps]
        time_group = _group(steps)
        if steps:
            time_groups.setdefault(time_group, []).extend(steps)

        column = _value_column(pick(kinds), pick(stored), decimals_of(number), floats, texts)
        if column.kind == KIND_MIXED:
            mixed_kinds.extend(column.kinds)
        value_steps = list(map(sub, column.numbers[1:], column.numbers))
        value_group = _group(value_steps)
        if value_steps:
            value_groups.setdefault(value_group, []).extend(value_steps)
        table.append((
            number, len(mine), column.kind, column.decimals, unit_code, time_group, value_group,
            times[0] - base_ms // unit_ms, period, column.numbers[0] if column.numbers else 0,
        ))  # fmt: skip
    writer.put(struct.pack("<Iq", len(ranked), base_ms))
    for entries in zip(*table, strict=True):
        writer.put(encode_column(entries))
    writer.put_column(mixed_kinds)
    for groups in (time_groups, value_groups):
        for group in sorted(groups):
            width = group // _GROUP_STEP
            writer.put_planes(to_planes(groups[group], width), width)
    writer.put(struct.pack("<II", len(floats), len(texts)))
    if floats:
        octets = array.array("d", floats).tobytes()
        writer.put_planes(b"".join([octets[plane::8] for plane in range(8)]), 8)
    if texts:
        encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
        writer.put_column([len(text) for text in encoded])
        writer.put_plane(b"".join(encoded))


@dataclass(frozen=True, slots=True)
class _ValueColumn:
    """One series' values: those that are whole numbers here, the others already added to floats and texts."""

    kind: int
    decimals: int
    numbers: Sequence[int]
    kinds: Sequence[int] = ()


def _value_column(
    kinds: Sequence[int],
    stored: Sequence[Any],
    decimals: int | None,
    floats: list[float],
    texts: list[str],
) -> _ValueColumn:
    kind = kinds[0]
    if kinds.count(kind) != len(kinds):
        kind = KIND_MIXED
    if kind in (KIND_SCALED, KIND_INT, KIND_BOOL, KIND_HOLE):
        return _ValueColumn(kind, decimals or 0, stored)
    if kind == KIND_FLOAT:
        found = _scale(stored) if decimals is None else None
        if found is not None:
            return _ValueColumn(KIND_SCALED, found[0], found[1])
        floats.extend(stored)
        return _ValueColumn(kind, 0, ())
    if kind == KIND_TEXT:
        texts.extend(stored)
        return _ValueColumn(kind, 0, ())
    if kind == KIND_MISSING:
        return _ValueColumn(kind, 0, ())
    numbers: list[int] = []
    last = 0
    for row_kind, value in zip(kinds, stored, strict=True):
        if row_kind == KIND_FLOAT:
            floats.append(value)
        elif row_kind == KIND_TEXT:
            texts.append(value)
        elif row_kind != KIND_MISSING:
            last = value
        numbers.append(last)  # a row without a whole number repeats the last one: a step of 0
    return _ValueColumn(KIND_MIXED, decimals or 0, numbers, kinds)


def _scale(values: Sequence[float]) -> tuple[int, list[int]] | None:
    """Return the fewest decimals that give all values back exactly, with the scaled values; None where none do."""
    if not all(-1e9 < value < 1e9 for value in values):
        return None
    for decimals in DECIMALS_TRIED:
        power = POWERS[decimals]
        if all(round(value * power) / power == value for value in values):
            if any(value == 0.0 and str(value)[0] == "-" for value in values):
                return None  # minus zero has no whole number
            return decimals, [round(value * power) for value in values]
    return None


def _picker(places: Sequence[int]) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    """Return a function that takes the items at ``places`` out of a sequence."""
    if len(places) == 1:
        place = places[0]
        return lambda items: (items[place],)
    return itemgetter(*places)


def _time_unit(times_ms: Sequence[int]) -> tuple[int, int]:
    for code, unit_ms in enumerate(TIME_UNITS_MS):
        if not any(map(unit_ms.__rmod__, times_ms)):
            return code, unit_ms
    raise AssertionError("every time is a whole number of milliseconds")


def _group(steps: Sequence[int]) -> int:
    """Return which group a series' steps belong to; see the top of this module."""
    if not steps:
        return 0
    width = width_of(min(steps), max(steps))
    return width * _GROUP_STEP + min(_MAGNITUDE_MAX, (4 * sum(map(abs, steps)) // len(steps)).bit_length())


def _write_contexts(writer: _ColumnWriter, contexts: Sequence[Context], by_series: Sequence[int]) -> None:
    first = contexts[0]
    if contexts.count(first) == len(contexts):
        writer.put(b"\1")
        by_series = by_series[:1]
    else:
        writer.put(b"\0")
    ordered = [contexts[index] for index in by_series]
    for field in range(5):
        values = [context[field] for context in ordered]
        if field in (2, 3):
            writer.put_column([NOTHING if value is None else value for value in values])
        else:
            writer.put_column(values)  # type: ignore[arg-type]  # only link data may be None


# ---------------------------------------------------------------- decode


@dataclass(frozen=True, slots=True)
class _Series:
    """One line of a block's series table."""

    number: int
    count: int
    kind: int
    decimals: int
    unit_code: int
    time_group: int
    value_group: int
    first_time: int
    period: int
    first_value: int


class _Columns:
    """An inflated block whose columns have been found, but not yet undone."""

    def __init__(self, columns: bytes) -> None:
        reader = ColumnReader(columns)
        self.runs = _read_runs(reader)
        series_count, self._base_ms = struct.unpack("<Iq", reader.take(12))
        fields = [reader.column(series_count) for _ in range(10)]
        self.series = [_Series(*entry) for entry in zip(*fields, strict=True)]
        self.count = sum(series.count for series in self.series)
        self._kinds = reader.column(sum(series.count for series in self.series if series.kind == KIND_MIXED))
        self._time_steps = self._groups(reader, [(series.time_group, series.count - 1) for series in self.series])
        self._value_steps = self._groups(
            reader,
            [(series.value_group, series.count - 1 if series.value_group else 0) for series in self.series],
        )
        float_count, text_count = struct.unpack("<II", reader.take(8))
        self._floats = array.array("d")
        if float_count:
            woven = bytearray(8 * float_count)
            for plane in range(8):
                woven[plane::8] = reader.take(float_count)
            self._floats.frombytes(woven)
        self._texts: list[str] = []
        if text_count:
            for size in reader.column(text_count):
                self._texts.append(reader.take(size).decode("utf-8", "surrogatepass"))
        self._one_context = reader.take(1) == b"\1"
        self._contexts = [reader.column(1 if self._one_context else self.count) for _ in range(5)]

    @staticmethod
    def _groups(reader: ColumnReader, members: Iterable[tuple[int, int]]) -> "list[Sequence[int]]":
        """Return the steps of every series, cut out of their groups."""
        members = list(members)
        sizes: dict[int, int] = {}
        for group, count in members:
            if group:
                sizes[group] = sizes.get(group, 0) + count
        columns = {group: reader.planes(sizes[group], group // _GROUP_STEP) for group in sorted(sizes)}
        offsets = dict.fromkeys(sizes, 0)
        steps: list[Sequence[int]] = []
        for group, count in members:
            if group:
                steps.append(columns[group][offsets[group] : offsets[group] + count])
                offsets[group] += count
            else:
                steps.append([0] * max(0, count))
        return steps

    def times_ms(self, index: int) -> Sequence[int]:
        """Return the phenomenon times of the series at ``index`` of the table."""
        series = self.series[index]
        unit_ms = TIME_UNITS_MS[series.unit_code]
        period = series.period
        steps = self._time_steps[index]
        if period:
            steps = [step + period for step in steps]
        times = running_sum(series.first_time + self._base_ms // unit_ms, steps)
        return list(times) if unit_ms == 1 else [time * unit_ms for time in times]

    def walk(self, wanted: "set[int] | None" = None) -> "Iterable[tuple[int, int, Sequence[int], Sequence[Value]]]":
        """Yield place in the table, place of the first row by series, times and values of each (wanted) series."""
        row = mixed = floats = texts = 0
        for index, series in enumerate(self.series):
            count, kind = series.count, series.kind
            is_wanted = wanted is None or series.number in wanted
            values: Sequence[Value] = ()
            if kind == KIND_MIXED:
                kinds = self._kinds[mixed : mixed + count]
                mixed += count
                float_count, text_count = _count(kinds, KIND_FLOAT), _count(kinds, KIND_TEXT)
                if is_wanted:
                    values = self._mixed(index, kinds, floats, texts)
                floats += float_count
                texts += text_count
            elif kind == KIND_FLOAT:
                values = list(self._floats[floats : floats + count]) if is_wanted else ()
                floats += count
            elif kind == KIND_TEXT:
                values = self._texts[texts : texts + count]
                texts += count
            elif kind == KIND_MISSING:
                values = [None] * count
            elif is_wanted:
                values = self._numbers(index)
            if is_wanted:
                if len(values) != count:
                    raise ColumnError(f"series {series.number} has {len(values)} values for {count} rows")
                yield index, row, self.times_ms(index), values
            row += count

    def _numbers(self, index: int) -> Sequence[Value]:
        series = self.series[index]
        numbers = running_sum(series.first_value, self._value_steps[index])
        if series.kind == KIND_SCALED:
            power = POWERS[series.decimals]
            return [number / power for number in numbers]
        if series.kind == KIND_BOOL:
            return [bool(number) for number in numbers]
        return list(numbers)

    def _mixed(self, index: int, kinds: Sequence[int], first_float: int, first_text: int) -> Sequence[Value]:
        series = self.series[index]
        floats = iter(self._floats[first_float:])
        texts = iter(self._texts[first_text:])
        values: list[Value] = []
        for kind, number in zip(kinds, running_sum(series.first_value, self._value_steps[index]), strict=True):
            if kind == KIND_FLOAT:
                values.append(next(floats))
            elif kind == KIND_TEXT:
                values.append(next(texts))
            else:
                values.append(load_value(kind, number, series.decimals))
        return values

    def contexts(self, first: int, count: int) -> list[Context]:
        """Return the contexts of rows by series; one stands for all where all are equal."""
        if self._one_context:
            first, count = 0, 1
        quality, reasons, rssi, snr, delay = (column[first : first + count] for column in self._contexts)
        known: dict[tuple[int, ...], Context] = {}
        contexts: list[Context] = []
        for entry in zip(quality, reasons, rssi, snr, delay, strict=True):
            context = known.get(entry)
            if context is None:
                context = known[entry] = (
                    entry[0],
                    entry[1],
                    None if entry[2] == NOTHING else entry[2],
                    None if entry[3] == NOTHING else entry[3],
                    entry[4],
                )
            contexts.append(context)
        return contexts


def _count(kinds: Sequence[int], kind: int) -> int:
    return kinds.count(kind)


def _read_runs(reader: ColumnReader) -> tuple[Run, ...]:
    run_count, clock_count, boot_count, epoch, seq = struct.unpack("<IIHIQ", reader.take(22))
    epoch_steps = reader.column(run_count - 1)
    seq_steps = reader.column(run_count - 1)
    counts = reader.column(run_count)
    clock_numbers = reader.column(run_count)
    boot_numbers = reader.column(clock_count)
    offsets = reader.column(clock_count)
    known = reader.column(clock_count)
    boots = [reader.take(16) for _ in range(boot_count)]
    clocks = [
        Clock(boots[boot], offset, bool(is_known))
        for boot, offset, is_known in zip(boot_numbers, offsets, known, strict=True)
    ]
    runs: list[Run] = []
    for index, count in enumerate(counts):
        if index:
            epoch += epoch_steps[index - 1]
            seq += seq_steps[index - 1] + counts[index - 1]
        runs.append(Run(epoch, seq, count, clocks[clock_numbers[index]]))
    return tuple(runs)


def _inflate(octets: bytes, size: int) -> bytes:
    if size > INFLATED_SIZE_MAX:
        raise ColumnError(f"a block of {size} octets inflated")
    try:
        return zlib.decompressobj(-15).decompress(octets, size)
    except zlib.error as error:
        raise ColumnError(str(error)) from None


def _open_columns(header: BlockHeader, body: bytes) -> _Columns:
    columns = _inflate(body[: len(body) - header.order_size], header.columns_size)
    try:
        found = _Columns(columns)
    except (struct.error, IndexError, ValueError, OverflowError, StopIteration) as error:
        raise ColumnError(str(error)) from None
    if found.count != header.count or sum(run.row_count for run in found.runs) != header.count:
        raise ColumnError(f"{found.count} rows, expected {header.count}")
    return found


def decode_block(header: BlockHeader, body: bytes) -> Block:
    """Return all rows of a block.

    Raises:
        ColumnError: The octets are no block.
    """
    columns = _open_columns(header, body)
    series: list[int] = []
    times: list[int] = []
    values: list[Value] = []
    keys: list[int] = []
    size = len(columns.series)
    for index, _, times_ms, column in columns.walk():
        series.extend([columns.series[index].number] * len(times_ms))
        times.extend(times_ms)
        values.extend(column)
        keys.extend([time_ms * size + index for time_ms in times_ms])
    contexts = columns.contexts(0, columns.count)
    pick = _picker(_arrival_order(keys, header, body))
    return Block(
        columns.runs,
        pick(series),
        pick(times),
        pick(values),
        pick(contexts) if len(contexts) > 1 else contexts,
    )


def _arrival_order(keys: Sequence[int], header: BlockHeader, body: bytes) -> Sequence[int]:
    """Return the places by series in order of arrival."""
    count = header.count
    by_time = sorted(range(count), key=keys.__getitem__)
    if not header.order_size:
        return by_time
    octets = _inflate(body[len(body) - header.order_size :], 10 * BLOCK_ROWS_MAX + 16)
    if octets[:1] == bytes((ORDER_PLAIN,)):
        ranks = ColumnReader(octets[1:]).column(count)
        return [by_time[rank] for rank in ranks]
    if octets[:1] != bytes((ORDER_STEPS,)) or len(octets) != count + 1:
        raise ColumnError("an order stream of unknown kind")
    by_time.reverse()
    return [by_time.pop(-1 - step) for step in octets[1:]]


def decode_series(
    header: BlockHeader, body: bytes, wanted: set[int]
) -> Iterable[tuple[int, Sequence[int], Sequence[Value], list[Context]]]:
    """Yield number, times, values and contexts of the wanted series only, each in order of arrival.

    Raises:
        ColumnError: The octets are no block.
    """
    columns = _open_columns(header, body)
    for index, row, times_ms, values in columns.walk(wanted):
        yield columns.series[index].number, times_ms, values, columns.contexts(row, len(times_ms))
