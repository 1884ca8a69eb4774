r"""Journal pages: what was appended and is not sealed yet, and everything the ring must remember. Pure.

Pages are counted for ever; page n lies at place n mod J of both regions. A page is rewritten in place while it is the
last one, each time with a higher write number. Within a page entries follow each other:

    page    0  magic               4   "LFJ\x01"
            4  crc                 4   CRC-32 of octets 8 to the last used one, seeded by the ring's uuid
            8  page_no             8
           16  write_no            8   of two copies the higher one counts
           24  oldest_page_no      8   pages below it hold nothing that is still needed
           32  seq_first           8   number of the first row in or after this page
           40  base_ms             8   row times count from here, UTC
           48  wall_minus_boot_ms  8   clock of the first row: UTC minus boot time
           56  boot_id            16
           72  epoch               4   of the first row
           76  used                2   octets of entries
           78  whole               2   of these belong to finished appends
           80  carried             2   of these finish the append the page before left open
           82  flags               1   1 = goes on with such an append; 2 = UTC was known
           83  reserved            5
           88  turned_no           8   write number of the page before when it was left; 0 = this page follows none
           96  synced_no           8   what has this write number or a lower one was synced when this page was written
          104  entries

    entry   kind 1 | …
      0-6   row       series 2 | time minus base 4 | value 8            KIND_… of `_rows`; a TEXT's value is its size,
                                                                        UTF-8 follows; a FLOAT's is binary64
     16     context   quality 1 | reasons 2 | rssi 2 | snr 2 | delay 8  of the rows behind it; a page starts plain
     17     base      base_ms 8
     18     clock     epoch 4 | wall minus boot 8 | boot id 16 | known 1
     19     first     size 2 | octets                                   of an item that goes on in the next page
     20     item      size 2 | octets                                   a whole item; see `_state`
     21     number    seq 8                                             of the next row
     22     more      size 2 | octets                                   of an item, neither its beginning nor its end
     23     last      size 2 | octets                                   of an item

An append is taken whole or not at all: readings never without the frame counter stored with them. Where the power
went before its last page was written, the octets behind ``whole`` count as never written. And what was not synced is
taken up to the first append that is missing, never beyond: where a page's ``turned_no`` shows that the last state of
the page before is lost, ``synced_no`` tells an unfinished write, at which the journal ends, from later damage.
"""

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from gateway.ring._layout import PAGE_SIZE
from gateway.ring._rows import (
    KIND_FLOAT,
    KIND_HOLE,
    KIND_TEXT,
    PLAIN_CONTEXT,
    Clock,
    Context,
    Row,
    Run,
)

MAGIC = b"LFJ\x01"
HEADER = struct.Struct("<4sIQQQQqq16sIHHHB5xQQ")
HEADER_SIZE = HEADER.size
ENTRIES_SIZE = PAGE_SIZE - HEADER_SIZE

ENTRY_CONTEXT = 16
ENTRY_BASE = 17
ENTRY_CLOCK = 18
ENTRY_FIRST = 19
ENTRY_ITEM = 20
ENTRY_NUMBER = 21
ENTRY_MORE = 22
ENTRY_LAST = 23

_ROW = struct.Struct("<BHiq")
_ROW_FLOAT = struct.Struct("<BHid")
_CONTEXT = struct.Struct("<BBHhhq")
_BASE = struct.Struct("<Bq")
_CLOCK = struct.Struct("<BIq16sB")
_ITEM = struct.Struct("<BH")
_NUMBER = struct.Struct("<BQ")

ROW_SIZE = _ROW.size
ROW_SIZE_MAX = _ROW.size + _CONTEXT.size + _BASE.size  # without a text
_OFFSET_MIN, _OFFSET_MAX = -(1 << 31), (1 << 31) - 1
_PART_SIZE_MIN = 64  # octets; a shorter rest of a page is left empty
_NOTHING = -32_768
_FLAG_GOES_ON = 1
_FLAG_CLOCK_KNOWN = 2


@dataclass(frozen=True, slots=True)
class PageHeader:
    """A journal page's header; see the drawing above."""

    page_no: int
    write_no: int
    oldest_page_no: int
    seq_first: int
    base_ms: int
    epoch: int
    clock: Clock
    used: int
    whole: int
    carried: int
    goes_on: bool
    turned_no: int
    synced_no: int


def encode_page(header: PageHeader, entries: bytes | bytearray, crc_seed: int) -> bytes:
    """Return one page."""
    flags = (_FLAG_GOES_ON if header.goes_on else 0) | (_FLAG_CLOCK_KNOWN if header.clock.is_known else 0)
    octets = HEADER.pack(
        MAGIC, 0, header.page_no, header.write_no, header.oldest_page_no, header.seq_first, header.base_ms,
        header.clock.wall_minus_boot_ms, header.clock.boot_id, header.epoch, header.used, header.whole, header.carried,
        flags, header.turned_no, header.synced_no,
    )  # fmt: skip
    octets += entries
    crc = zlib.crc32(memoryview(octets)[8:], crc_seed)
    return b"".join((MAGIC, struct.pack("<I", crc), octets[8:], bytes(PAGE_SIZE - len(octets))))


def decode_page(octets: bytes, crc_seed: int) -> tuple[PageHeader, bytes] | None:
    """Return header and entries of a page, or None where there is none or it was damaged."""
    if len(octets) != PAGE_SIZE or octets[:4] != MAGIC:
        return None
    (_, crc, page_no, write_no, oldest_page_no, seq_first, base_ms, wall_minus_boot_ms, boot_id, epoch, used, whole,
     carried, flags, turned_no, synced_no) = HEADER.unpack_from(octets)  # fmt: skip
    if not whole <= used <= ENTRIES_SIZE or zlib.crc32(memoryview(octets)[8 : HEADER_SIZE + used], crc_seed) != crc:
        return None
    clock = Clock(boot_id, wall_minus_boot_ms, bool(flags & _FLAG_CLOCK_KNOWN))
    header = PageHeader(
        page_no, write_no, oldest_page_no, seq_first, base_ms, epoch, clock, used, whole, carried,
        bool(flags & _FLAG_GOES_ON), turned_no, synced_no,
    )  # fmt: skip
    return header, octets[HEADER_SIZE : HEADER_SIZE + used]


class JournalWriter:
    """Fills pages. Before it leaves a full one it calls ``on_full``, which takes it and returns its write number.

    Attributes:
        page_no: The page being filled.
        seq: Number of the next row.
        epoch: Epoch of the next row.
        clock: Clock of the next row.
    """

    def __init__(self, seq: int, epoch: int, clock: Clock, on_full: Callable[[], int]) -> None:
        """Begin page 0; the other arguments are the attributes."""
        self.seq, self.epoch, self.clock = seq, epoch, clock
        self._on_full = on_full
        self._begin(0, 0, goes_on=False)

    def _begin(self, page_no: int, turned_no: int, *, goes_on: bool) -> None:
        self.page_no = page_no
        self._turned_no = turned_no
        self._entries = bytearray()
        self._whole = 0
        self._carried = 0
        self._goes_on = goes_on
        self._head = (self.seq, self.epoch, self.clock)
        self._head_base_ms = 0
        self._base_ms: int | None = None  # the first row sets it
        self._context: Context | None = PLAIN_CONTEXT

    def resume(self, header: PageHeader, entries: bytes) -> None:
        """Go on in a page that was read back, behind what is in it."""
        self._begin(header.page_no, header.turned_no, goes_on=header.goes_on)
        self._entries += entries
        self._whole, self._carried = header.whole, header.carried
        self._head = (header.seq_first, header.epoch, header.clock)
        self._head_base_ms = header.base_ms
        self._context = None  # not known here: the next row says base and context again

    def begin_at(self, page_no: int, turned_no: int) -> None:
        """Begin an empty page elsewhere; an unfinished append is left behind."""
        self._begin(page_no, turned_no, goes_on=False)

    def finish(self) -> None:
        """End an append: all that was written so far counts."""
        if self._goes_on and not self._carried:
            self._carried = len(self._entries)
        self._whole = len(self._entries)

    def page(self, write_no: int, synced_no: int, oldest_page_no: int, crc_seed: int) -> bytes:
        """Return the page as it is now."""
        seq, epoch, clock = self._head
        header = PageHeader(
            self.page_no, write_no, oldest_page_no, seq, self._head_base_ms, epoch, clock, len(self._entries),
            self._whole, self._carried, self._goes_on, self._turned_no, synced_no,
        )  # fmt: skip
        return encode_page(header, self._entries, crc_seed)

    def _turn(self) -> None:
        turned_no = self._on_full()
        is_open = len(self._entries) > self._whole or (self._goes_on and not self._carried)
        self._begin(self.page_no + 1, turned_no, goes_on=is_open)

    def _make_room(self, size: int) -> None:
        if len(self._entries) + size > ENTRIES_SIZE:
            self._turn()

    def put_clock(self, epoch: int, clock: Clock) -> None:
        """Say epoch and clock of the rows that follow."""
        self._make_room(_CLOCK.size)
        self.epoch, self.clock = epoch, clock
        self._entries += _CLOCK.pack(ENTRY_CLOCK, epoch, clock.wall_minus_boot_ms, clock.boot_id, int(clock.is_known))

    def put_number(self, seq: int) -> None:
        """Say the number of the next row."""
        self._make_room(_NUMBER.size)
        self.seq = seq
        self._entries += _NUMBER.pack(ENTRY_NUMBER, seq)

    def put_item(self, octets: bytes) -> None:
        """Add an item of the ring's memory, in as many parts as it takes."""
        offset = 0
        while True:
            room = ENTRIES_SIZE - len(self._entries) - _ITEM.size
            rest = len(octets) - offset
            if rest <= room:
                self._entries += _ITEM.pack(ENTRY_LAST if offset else ENTRY_ITEM, rest) + octets[offset:]
                return
            if room >= _PART_SIZE_MIN:
                kind = ENTRY_MORE if offset else ENTRY_FIRST
                self._entries += _ITEM.pack(kind, room) + octets[offset : offset + room]
                offset += room
            self._turn()

    def put_rows(self, rows: Sequence[Row]) -> None:
        """Add rows, numbered on from ``seq``."""
        pack_row = _ROW.pack
        for series, time_ms, kind, value, context in rows:
            text = cast("str", value).encode("utf-8", "surrogatepass") if kind == KIND_TEXT else b""
            if len(self._entries) + ROW_SIZE_MAX + len(text) > ENTRIES_SIZE:
                self._turn()
            entries = self._entries
            base_ms = self._base_ms
            if base_ms is None:
                self._base_ms = base_ms = time_ms
                if entries:
                    entries += _BASE.pack(ENTRY_BASE, time_ms)
                else:
                    self._head_base_ms = time_ms
            offset_ms = time_ms - base_ms
            if not _OFFSET_MIN <= offset_ms <= _OFFSET_MAX:
                self._base_ms = time_ms
                offset_ms = 0
                entries += _BASE.pack(ENTRY_BASE, time_ms)
            if context is not self._context:
                if context != self._context:
                    entries += _pack_context(context)
                self._context = context
            if kind == KIND_FLOAT:
                entries += _ROW_FLOAT.pack(kind, series, offset_ms, value)
            elif kind == KIND_TEXT:
                entries += pack_row(kind, series, offset_ms, len(text))
                entries += text
            else:
                entries += pack_row(kind, series, offset_ms, value)
            self.seq += cast("int", value) if kind == KIND_HOLE else 1


def _pack_context(context: Context) -> bytes:
    quality, reasons, rssi, snr, delay_ms = context
    return _CONTEXT.pack(
        ENTRY_CONTEXT, quality, reasons, _NOTHING if rssi is None else rssi, _NOTHING if snr is None else snr, delay_ms
    )


def size_of_rows(rows: Sequence[Row]) -> int:
    """Return a bound for the octets these rows take in pages."""
    size = ROW_SIZE_MAX * len(rows)
    for row in rows:
        if row[2] == KIND_TEXT:
            size += len(cast("str", row[3]).encode("utf-8", "surrogatepass"))
    return size


Entry = tuple[int, int, Any]
"""Offset behind the entry, its kind, and what it says."""


def entries_of(header: PageHeader, entries: bytes) -> Iterator[Entry]:
    """Yield a page's entries; rows as ``(seq, epoch, clock, row)``, items and parts as octets.

    Raises:
        ValueError: An entry of unknown kind: written by a bug, as the checksum held.
    """
    seq, epoch, clock = header.seq_first, header.epoch, header.clock
    base_ms, context = header.base_ms, PLAIN_CONTEXT
    offset = 0
    while offset < len(entries):
        kind = entries[offset]
        if kind <= KIND_HOLE:
            value: Any
            if kind == KIND_FLOAT:
                _, series, offset_ms, value = _ROW_FLOAT.unpack_from(entries, offset)
            else:
                _, series, offset_ms, value = _ROW.unpack_from(entries, offset)
            offset += ROW_SIZE
            if kind == KIND_TEXT:
                text = entries[offset : offset + value]
                offset += value
                value = text.decode("utf-8", "surrogatepass")
            yield offset, kind, (seq, epoch, clock, (series, base_ms + offset_ms, kind, value, context))
            seq += value if kind == KIND_HOLE else 1
        elif kind == ENTRY_CONTEXT:
            _, quality, reasons, rssi, snr, delay_ms = _CONTEXT.unpack_from(entries, offset)
            context = (
                quality, reasons, None if rssi == _NOTHING else rssi, None if snr == _NOTHING else snr, delay_ms,
            )  # fmt: skip
            offset += _CONTEXT.size
        elif kind == ENTRY_BASE:
            base_ms = _BASE.unpack_from(entries, offset)[1]
            offset += _BASE.size
        elif kind == ENTRY_CLOCK:
            _, epoch, wall_minus_boot_ms, boot_id, is_known = _CLOCK.unpack_from(entries, offset)
            clock = Clock(boot_id, wall_minus_boot_ms, bool(is_known))
            offset += _CLOCK.size
        elif kind in (ENTRY_ITEM, ENTRY_FIRST, ENTRY_MORE, ENTRY_LAST):
            size = _ITEM.unpack_from(entries, offset)[1]
            offset += _ITEM.size + size
            yield offset, kind, entries[offset - size : offset]
        elif kind == ENTRY_NUMBER:
            seq = _NUMBER.unpack_from(entries, offset)[1]
            offset += _NUMBER.size
            yield offset, kind, seq
        else:
            raise ValueError(f"a journal entry of kind {kind}")


class JournalReader:
    """Reads pages in ascending order and keeps what belongs to finished appends.

    Attributes:
        rows: Kept rows, in order.
        runs: Their numbers, epochs and clocks.
        items: Kept items, each with the number of the page it begins in.
        seq_next: Number after the last kept row, or what the journal says it is.
        epoch: Highest epoch seen.
        rows_end: For each page read, the number after its last row.
        is_open: The last page ends inside an append that was never finished.
    """

    def __init__(self, seq_sealed: int, oldest_page_no: int = 0) -> None:
        """Begin.

        Args:
            seq_sealed: Rows numbered below it lie in a block and are passed over.
            oldest_page_no: Pages below it were freed: what they held of an append is not missing.
        """
        self.rows: list[Row] = []
        self.runs: list[Run] = []
        self.items: list[tuple[int, bytes]] = []
        self.seq_next = seq_sealed
        self.epoch = 0
        self.rows_end: dict[int, int] = {}
        self.is_open = True
        self._page_no = oldest_page_no - 1
        self._held: list[tuple[int, Entry]] = []

    def feed(self, header: PageHeader, entries: bytes) -> None:
        """Read one page."""
        is_linked = header.goes_on and self.is_open and header.page_no == self._page_no + 1
        if not is_linked:
            self._held.clear()
        lost_end = 0  # octets of an append whose beginning is missing
        if header.goes_on and not is_linked:
            lost_end = header.carried or header.used
        self._page_no = header.page_no
        self.epoch = max(self.epoch, header.epoch)
        rows_end = header.seq_first
        is_kept = not header.whole  # nothing in this page ends an append
        for entry in entries_of(header, entries):
            offset, kind, content = entry
            if not is_kept and offset > header.whole:
                self._keep()
                is_kept = True
            if kind <= KIND_HOLE:
                seq, epoch, _, row = content
                rows_end = seq + (row[3] if kind == KIND_HOLE else 1)
                self.epoch = max(self.epoch, epoch)
            if offset > lost_end:
                self._held.append((header.page_no, entry))
        if not is_kept:
            self._keep()
        self.rows_end[header.page_no] = rows_end
        self.is_open = header.used > header.whole and lost_end < header.used

    def _keep(self) -> None:
        part, part_page_no = b"", 0  # of an item begun in a page that was freed there is nothing: it was moved
        for page_no, (_, kind, content) in self._held:
            if kind == ENTRY_ITEM:
                self.items.append((page_no, content))
            elif kind == ENTRY_FIRST:
                part, part_page_no = content, page_no
            elif kind in (ENTRY_MORE, ENTRY_LAST):
                part += content if part else b""
                if part and kind == ENTRY_LAST:
                    self.items.append((part_page_no, part))
                    part = b""
            elif kind == ENTRY_NUMBER:
                self.seq_next = max(self.seq_next, content)
            else:
                self._keep_row(*content)
        self._held.clear()

    def _keep_row(self, seq: int, epoch: int, clock: Clock, row: Row) -> None:
        if seq < self.seq_next:
            return  # sealed, or written a second time after a sync that failed
        last = self.runs[-1] if self.runs else None
        if last and (last.epoch, last.clock) == (epoch, clock) and seq == last.seq_first + last.row_count:
            self.runs[-1] = last._replace(row_count=last.row_count + 1)
        else:
            self.runs.append(Run(epoch, seq, 1, clock))
        self.rows.append(row)
        self.seq_next = seq + (cast("int", row[3]) if row[2] == KIND_HOLE else 1)
