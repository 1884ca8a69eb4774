"""The ring: one file of fixed size that keeps the newest readings through any power cut.

How a reading gets safe, and what protects it meanwhile:

1. `Ring.append` puts it into the last journal page and writes that page to the region whose turn it is. From now on a
   SIGKILL cannot take it. The page held older, synced rows too: the other region still has those, untouched.
2. `Ring.sync` writes the pages this region still lacks and syncs. Now a power cut cannot take it either, consumers may
   read it, and the regions change turns. A region is only ever written while the other one is whole.
3. When the unsealed rows fill a slot, they are sealed: one block, one write, one sync. It replaces the oldest block.
   Only then are their journal pages free; items whose last change lies there are first written again at the end.
"""

import os
import pathlib
import secrets
import zlib
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Self, cast

from gateway.clock import TimeStamp
from gateway.errors import RingError, RingFormatError, RingSyncError
from gateway.reading import Reading
from gateway.ring._block import (
    BLOCK_ROWS_MAX,
    BODY_SIZE_MAX,
    Block,
    BlockHeader,
    decode_block,
    decode_series,
    encode_body,
)
from gateway.ring._columns import ColumnError
from gateway.ring._io import BlockIO, FileIO, create_file, sync_folder, write_all
from gateway.ring._journal import ENTRIES_SIZE, JournalWriter, size_of_rows
from gateway.ring._layout import REGIONS, SLOT_SIZE, VERSION, Layout, Superblock, layout_of
from gateway.ring._recovery import Recovered, find_superblock, mirror, read_body, recover
from gateway.ring._rows import (
    KIND_HOLE,
    PLAIN_CONTEXT,
    SERIES_OWN,
    Clock,
    LoadedRow,
    Row,
    Run,
    SeriesKey,
    SharedContext,
    load_value,
    records_of,
    store_value,
)
from gateway.ring._slots import NO_SLOT
from gateway.ring._state import (
    CONSUMERS_MAX,
    KEY_SIZE_MAX,
    MEMORY_SIZE_MAX,
    TABLE_SIZE_MAX,
    Consumer,
    MemoryValue,
    consumer_key,
    decode_memory_value,
    encode_item,
    encode_memory_value,
    memory_key,
    series_item,
)
from gateway.ring.record import ConsumerStat, Gap, GapCause, Record, RingEvent, RingStat

APPEND_READINGS_MAX = 4096  # readings of one append; a frame has a few dozen at most
MEMORY_ROWS_MAX = 20_000  # rows kept in memory while the disk fails: some 5 MB
ROWS_PER_CHUNK = 512  # rows journaled at once after the disk came back
CLOCK_TOLERANCE_MS = 100  # the clock may be slewed by as much before a new run notes it
BLOCK_CACHE_MAX = 2  # decoded blocks kept for the next read: one for the newest consumer, one for the furthest behind
FILL_AIMED = 0.985  # of a slot: a little less than full, so that most blocks need encoding only once
FILL_ACCEPTED = 0.95
BYTES_PER_ROW_START = 2.0  # guessed until the first block is sealed
EVENTS_MAX = 100  # the oldest are forgotten
BAD_FILES_MAX = 1000
PAGE_WASTE_MAX = 1200  # octets a page may leave empty at its end, for want of room for the next entry
ITEMS_MOVED_MAX = 64 * 1024  # octets of items moved at once
EPOCH_MAX = (1 << 32) - 1
EPOCH_RANDOM_MAX = 1 << 30
PAGE_NONE = 1 << 62  # "changed in memory, in no journal page yet"


class Ring:
    """The newest readings in a file of fixed size. Not thread-safe: one owner, one thread at a time.

    Attributes:
        events: What an operator should know of since the ring was opened; the owner may clear it.
        failure: Why the last write or sync failed; None while all is well.
        damaged_blocks: Blocks found damaged since the ring was opened.
    """

    def __init__(self, path: str, io: BlockIO, superblock: Superblock, found: Recovered, *, read_only: bool) -> None:
        """Use `Ring.open` or `Ring.open_read_only`."""
        self._path = path
        self._io = io
        self._superblock = superblock
        self._layout = superblock.layout
        self._crc_seed = superblock.crc_seed
        self._read_only = read_only
        self.events: deque[RingEvent] = deque(maxlen=EVENTS_MAX)
        self.failure: OSError | None = None
        self.damaged_blocks = len(found.damaged_slots)
        self._bytes_written = 0
        self._syncs = 0
        self._cache: OrderedDict[tuple[int, int], Block] = OrderedDict()

        self._slots = found.slots
        self._table = found.table
        self._rows: list[Row] = found.journal.rows
        self._runs: list[Run] = found.journal.runs
        self._drop_unnamed_rows()
        newest = self._slots.newest()
        self._seq_sealed = self._slots.field(newest, "seq_end") if newest != NO_SLOT else 0
        self._table.series_next = max(self._table.series_next, self._slots.highest("series_max") + 1)
        head = max(found.journal.seq_next, self._seq_sealed)
        for consumer in self._table.consumers.values():
            head = max([head, consumer.cursor, *[last + 1 for _, last in consumer.ranges]])
        self._head = self._journaled = self._synced = head
        self._bytes_per_row = (
            self._slots.body_size / self._slots.records if self._slots.records else BYTES_PER_ROW_START
        )

        self._write_no = self._synced_no = found.write_no  # of the newest state of a page; of the newest one synced
        self._turn = 0  # the region the next sync writes
        self._dirty: tuple[dict[int, bytes], dict[int, bytes]] = ({}, {})
        self._pages: deque[tuple[int, int]] = deque()  # left, still needed: number, number after its last row
        self._changed = False
        self._consumers_changed: dict[str, None] = {}
        self._journal_is_damaged = bool(found.pages_missing)
        self._writer = self._begin_journal(found, head)
        self._session_is_noted = False
        self._region_seq = [head] * REGIONS
        self._region_page = [self._writer.page_no] * REGIONS
        self._page_tried = self._writer.page_no
        if found.pages_missing:
            self._tell("ring.journal_damaged", f"{found.pages_missing} journal pages were lost in both copies")
        if found.damaged_slots:
            self._tell("ring.block_damaged", f"{len(found.damaged_slots)} damaged blocks found on opening")

    # ------------------------------------------------------------ open, close

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, size: int, now_s: int = 0, io: BlockIO | None = None) -> Self:
        """Open the ring for reading and writing; make it where there is none, mend it after a crash.

        A file that is no ring, was truncated or lost both superblocks is renamed to ``NAME.bad-N``; an empty ring
        takes its place and ``events`` says so.

        Args:
            path: The file.
            size: Octets a new file may take; an existing ring keeps the size it was made with.
            now_s: UTC in seconds since 1970 if known. The epoch of this start is at least that high, so that ids do
                not repeat even where an older copy of the file was put back.
            io: The medium instead of a file, for tests; `format_medium` must have been there.

        Raises:
            RingBusyError: Another process has it open.
            RingFormatError: A newer Litfass wrote it. It was not touched.
            RingError: It cannot be made or opened.
        """
        place = pathlib.Path(path)
        events: list[RingEvent] = []
        superblock: Superblock | None
        if io is None:
            io, superblock = _open_file(place, size, now_s, events)
        else:
            superblock = find_superblock(io)
        if superblock is None or not superblock.is_sound:
            raise RingError(str(place), "this medium holds no ring")
        _refuse_newer(str(place), superblock)
        try:
            found = recover(io, superblock.layout, superblock.crc_seed)
            mirror(io, superblock.layout, found)
            superblock = _raise_epoch(io, superblock, found, now_s)
        except OSError as error:
            io.close()
            raise RingError(str(place), f"cannot be opened: {error.strerror or error}") from error
        ring = cls(str(place), io, superblock, found, read_only=False)
        ring.events.extend(events)
        if not events and layout_of(size) != superblock.layout:
            ring._tell(
                "ring.size_differs",
                f"settings say {size} octets, the ring has {superblock.layout.file_size}: see `litfass ring resize`",
            )
        return ring

    @classmethod
    def open_read_only(cls, path: str | os.PathLike[str], *, io: BlockIO | None = None) -> Self:
        """Look into a ring as it is now, also while a gateway writes to it. Later changes are not seen.

        Raises:
            RingFormatError: A newer Litfass wrote it.
            RingError: It cannot be read or is no ring.
        """
        place = pathlib.Path(path)
        try:
            io = io or FileIO(place, read_only=True)
            superblock = find_superblock(io)
            if superblock is None or not superblock.is_sound:
                io.close()
                raise RingError(str(place), "is no ring, or lost both its superblocks")
            _refuse_newer(str(place), superblock)
            found = recover(io, superblock.layout, superblock.crc_seed)
        except OSError as error:
            raise RingError(str(place), f"cannot be read: {error.strerror or error}") from error
        return cls(str(place), io, superblock, found, read_only=True)

    def close(self) -> None:
        """Let go of the file. What was appended and not synced stays as safe as it was."""
        self._io.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if error[0] is None and not self._read_only:
            self.sync()
        self.close()

    def _begin_journal(self, found: Recovered, head: int) -> JournalWriter:
        """Return a writer that goes on in the last page where that is whole, else in the next one."""
        clock = Clock(bytes(16), 0, False)
        writer = JournalWriter(head, self._superblock.epoch, clock, self._store_page)
        rows_end = found.journal.rows_end
        for page_no in found.pages:
            self._pages.append((page_no, rows_end[page_no]))
        if not found.pages:
            return writer
        last = max(found.pages)
        page = found.best(last)
        if not found.journal.is_open and page.header.used == page.header.whole and rows_end[last] == head:
            self._pages.pop()
            writer.resume(page.header, page.entries)
        else:
            writer.begin_at(last + 1, page.header.write_no)
        return writer

    def _drop_unnamed_rows(self) -> None:
        """Leave out rows of series whose names were lost: a number that belongs to nothing is not delivered."""
        known = self._table.series
        if all(row[0] in known or row[0] == SERIES_OWN for row in self._rows):
            return
        self._table.series_next = max(self._table.series_next, max(row[0] for row in self._rows) + 1)
        rows: list[Row] = []
        runs: list[Run] = []
        index = 0
        for run in self._runs:
            for seq in range(run.seq_first, run.seq_first + run.row_count):
                row = self._rows[index]
                index += 1
                if row[0] in known or row[0] == SERIES_OWN:
                    rows.append(row)
                    _extend_runs(runs, Run(run.epoch, seq, 1, run.clock))
        self._tell("ring.series_lost", f"{len(self._rows) - len(rows)} records of unknown series were left out")
        self._rows, self._runs = rows, runs

    def _tell(self, code: str, text: str) -> None:
        self.events.append(RingEvent(code, text))

    # ------------------------------------------------------------ append

    def append(
        self,
        readings: Sequence[Reading],
        stamp: TimeStamp,
        memory: Mapping[str, MemoryValue | None] | None = None,
    ) -> range:
        """Store readings and what must be remembered with them, as one: after a crash both are there or neither.

        On return no SIGKILL can take them any more; against a power cut they are safe after the next `sync`.

        Args:
            readings: In the order they are to keep; may be empty.
            stamp: This instant, as the gateway's clock has it.
            memory: Values to remember by key; None forgets a key.

        Returns:
            The numbers the readings got.

        Raises:
            ValueError: Too many readings, an integer beyond 64 bits, or a value too large to remember. Nothing was
                stored.
            RingError: The table of series and memory is full. Nothing was stored.
            RingSyncError: The disk fails. The readings have their numbers and are kept in memory, up to
                ``MEMORY_ROWS_MAX`` of them, until a later `sync` succeeds.
        """
        self._require_writable()
        if len(readings) > APPEND_READINGS_MAX:
            raise ValueError(f"{len(readings)} readings at once, at most {APPEND_READINGS_MAX}")
        items: dict[bytes, bytes] = {}
        for key, value in (memory or {}).items():
            octets = memory_key(key)
            if len(octets) > KEY_SIZE_MAX:
                raise ValueError(f"memory key {key!r}: at most {KEY_SIZE_MAX} octets")
            items[octets] = b"" if value is None else encode_memory_value(key, value)
        grown = self._table.growth(items)
        if grown > 0 and self._table.memory_size + grown > MEMORY_SIZE_MAX:
            raise RingError(self._path, f"memory is full: {self._table.memory_size} of {MEMORY_SIZE_MAX} octets")
        rows, series = self._rows_of(readings)
        for names, number in series.items():
            item_key, item_value = series_item(number, names)
            items[item_key] = item_value
        self._check_table(items)
        if not rows and not items:
            return range(self._head, self._head)
        seq_first = self._head
        clock = self._clock_of(stamp)
        size = size_of_rows(rows) + sum(len(key) + len(value) + 32 for key, value in items.items())
        self._check_size(size)
        try:
            if self.failure is None:
                self._need_pages(size)
                self._journal(rows, items, clock)
            else:
                self._keep_in_memory(rows, items, clock)
        except OSError as error:
            self._fail(error)
            if self._head == seq_first:  # it failed while room was made
                self._keep_in_memory(rows, items, clock)
        if self.failure is not None:
            raise RingSyncError(self._path, self.failure)
        return range(seq_first, self._head)

    def _require_writable(self) -> None:
        if self._read_only:
            raise RingError(self._path, "was opened for reading only")

    def _rows_of(self, readings: Sequence[Reading]) -> tuple[list[Row], dict[SeriesKey, int]]:
        """Return the stored form of readings, and the series that are new with their numbers."""
        numbers = self._table.numbers
        new: dict[SeriesKey, int] = {}
        rows: list[Row] = []
        shared = SharedContext()
        for reading in readings:
            decimals, value = reading.decimals, reading.value
            names = (reading.device_id, reading.observed_property, reading.unit, decimals)
            series = numbers.get(names) or new.get(names)
            if series is None:
                series = new[names] = self._table.series_next + len(new)
            kind, stored = store_value(value, decimals)
            rows.append((series, reading.phenomenon_time_ms, kind, stored, shared.of(reading)))
        return rows, new

    def _check_table(self, items: Mapping[bytes, bytes]) -> None:
        grown = self._table.growth(items)
        table_size_max = min(TABLE_SIZE_MAX, self._layout.page_count * ENTRIES_SIZE // 4)
        if grown > 0 and self._table.size + grown > table_size_max:
            raise RingError(
                self._path,
                f"the table of series, consumers and memory is full: {self._table.size} of {table_size_max} octets",
            )
        if sum(key[:1] == b"S" for key in items) and not self._table.has_room_for_series:
            raise RingError(self._path, "no number is left for another series")

    def _clock_of(self, stamp: TimeStamp) -> Clock:
        """Return the clock of this append; a slewed clock counts as the same up to ``CLOCK_TOLERANCE_MS``."""
        offset_ms = stamp.wall_ms - stamp.boottime_ms
        clock = self._writer.clock
        if (
            self._session_is_noted
            and clock.boot_id == stamp.boot_id
            and clock.is_known == stamp.is_known
            and abs(clock.wall_minus_boot_ms - offset_ms) <= CLOCK_TOLERANCE_MS
        ):
            return clock
        return Clock(stamp.boot_id, offset_ms, stamp.is_known)

    def _journal(self, rows: Sequence[Row], items: Mapping[bytes, bytes], clock: Clock) -> None:
        """Write one append to the journal, in one piece."""
        writer = self._writer
        page_no_first = writer.page_no
        self._note_session(clock)
        for key, value in items.items():
            self._put_item(key, value)
        if rows:
            self._extend_rows(rows, clock)
            writer.put_rows(rows)
        self._journaled = self._head
        writer.finish()
        self._store_page()
        self._changed = True
        self._write_pages(page_no_first)

    def _note_session(self, clock: Clock) -> None:
        writer = self._writer
        if not self._session_is_noted or writer.clock != clock:
            writer.put_clock(self._superblock.epoch, clock)
            self._session_is_noted = True

    def _extend_rows(self, rows: Sequence[Row], clock: Clock) -> None:
        """Add rows to those not sealed, giving them their numbers."""
        _extend_runs(self._runs, Run(self._superblock.epoch, self._head, len(rows), clock))
        self._head += len(rows)
        self._rows.extend(rows)

    def _store_page(self) -> int:
        """Take the page being filled as it is; both regions lack it now. Return its write number."""
        self._write_no += 1
        page_no = self._writer.page_no
        octets = self._writer.page(self._write_no, self._synced_no, self._oldest_page(), self._crc_seed)
        for dirty in self._dirty:
            dirty[page_no] = octets
        if self._pages and self._pages[-1][0] == page_no:
            self._pages.pop()
        self._pages.append((page_no, self._writer.seq))
        return self._write_no

    def _oldest_page(self) -> int:
        return self._pages[0][0] if self._pages else self._writer.page_no

    def _write_pages(self, page_no_first: int) -> None:
        """Hand the pages of this append to the kernel, in the region whose turn it is."""
        dirty = self._dirty[self._turn]
        for page_no in [number for number in dirty if number >= page_no_first]:
            self._write(dirty[page_no], self._layout.page_offset(self._turn, page_no))
            del dirty[page_no]

    def _write(self, octets: bytes, offset: int) -> None:
        write_all(self._io, octets, offset)
        self._bytes_written += len(octets)

    def _sync_io(self) -> None:
        self._io.sync()
        self._syncs += 1

    # ------------------------------------------------------------ sync, room in the journal

    def _put_item(self, key: bytes, value: bytes) -> None:
        """Journal a change of the table; it counts as lying in the page where it begins."""
        self._table.put(key, value, self._writer.page_no)
        self._writer.put_item(encode_item(key, value))

    def _rewrite_item(self, key: bytes, value: bytes) -> None:
        """Journal an item again as it was last journaled; what changed in memory since then is not in it."""
        self._table.move(key, self._writer.page_no)
        self._writer.put_item(encode_item(key, value))

    def sync(self) -> int:
        """Make everything appended survive a power cut; writes nothing where nothing changed.

        A sync that failed is never tried again on the same pages: the kernel may have dropped them and call them clean.
        What they held is written from memory to other pages, once at once and again with each later call.

        Returns:
            The number below which every record is safe, `synced_seq`.

        Raises:
            RingSyncError: The disk still fails. Everything is kept in memory; call again later.
        """
        self._require_writable()
        try:
            if self.failure is None:
                try:
                    self._put_consumers()
                    if self._changed:
                        self._commit()
                except OSError as error:
                    self._fail(error)
            if self.failure is not None:
                self._write_elsewhere()
            self._maintain()
        except OSError as error:
            self._fail(error)
            raise RingSyncError(self._path, error) from error
        return self._synced

    def _put_consumers(self) -> None:
        """Journal the cursors that moved."""
        if not self._consumers_changed:
            return
        self._need_pages(ENTRIES_SIZE)
        page_no_first = self._writer.page_no
        for name in self._consumers_changed:
            consumer = self._table.consumers.get(name)
            self._put_item(consumer_key(name), consumer.encode() if consumer else b"")
        self._consumers_changed.clear()
        self._finish(page_no_first)

    def _finish(self, page_no_first: int) -> None:
        """End an append that began in ``page_no_first`` and hand its pages to the kernel."""
        self._writer.finish()
        self._store_page()
        self._changed = True
        self._write_pages(page_no_first)

    def _commit(self) -> None:
        """Write what this region lacks, sync, and change turns."""
        turn = self._turn
        head, page_no, write_no = self._journaled, self._writer.page_no, self._write_no
        dirty = self._dirty[turn]
        for number, octets in dirty.items():
            self._write(octets, self._layout.page_offset(turn, number))
        self._sync_io()
        dirty.clear()
        self._region_seq[turn], self._region_page[turn] = head, page_no
        self._synced, self._synced_no = head, write_no
        self._changed = False
        self._turn = (turn + 1) % REGIONS
        self._free_pages()

    def _free_pages(self) -> None:
        """Let go of the oldest pages that hold nothing needed. Only right after a commit: what moved is then safe."""
        seq_open = self._runs[0].seq_first if self._runs else self._head
        while self._pages and self._pages[0][0] < self._writer.page_no:
            page_no, rows_end = self._pages[0]
            if rows_end > seq_open or self._table.keys_in(page_no):
                return
            self._pages.popleft()

    def _pages_free(self) -> int:
        return self._layout.page_count - (self._writer.page_no - self._oldest_page() + 1)

    @property
    def _pages_reserved(self) -> int:
        """Pages that appends leave alone: into them the table's items are moved."""
        return self._layout.page_count // 4 + 2

    def _pages_for(self, size: int) -> int:
        return size // (ENTRIES_SIZE - PAGE_WASTE_MAX) + 2

    def _check_size(self, size: int) -> None:
        if self._pages_for(size) > self._layout.page_count * 3 // 8:
            raise ValueError(f"{size} octets in one append are too much for a ring of {self._layout.file_size}")

    def _need_pages(self, size: int) -> None:
        """Make room for an append of at most ``size`` octets."""
        wanted = self._pages_for(size) + self._pages_reserved
        if self._writer.page_no - max(self._region_page) > self._layout.page_count // 8:
            self._commit()  # keeps what a failed sync has to write elsewhere small
        while self._pages_free() < wanted:
            oldest = self._oldest_page()
            if self._changed:
                self._commit()
            if self._pages[0][1] > self._seq_sealed and self._rows:
                self._seal(is_forced=True)
            self._move_items()
            if self._changed:
                self._commit()
            else:
                self._free_pages()
            if self._oldest_page() == oldest:
                raise RingError(self._path, "the journal is full of things to remember")

    def _maintain(self) -> None:
        """Seal what fills a slot, and keep the journal from filling up; called when everything is synced."""
        while len(self._rows) * self._bytes_per_row >= BODY_SIZE_MAX * FILL_AIMED or len(self._rows) >= BLOCK_ROWS_MAX:
            if not self._seal(is_forced=False):
                break
        used = self._layout.page_count - self._pages_free()
        if used > self._layout.page_count * 5 // 8 and self._rows and self._pages[0][1] > self._runs[0].seq_first:
            self._seal(is_forced=True)
        if used > self._layout.page_count // 2:
            self._move_items()

    def _move_items(self) -> None:
        """Write the items of the oldest pages again at the end, so that the pages come free with the next commit."""
        seq_open = self._runs[0].seq_first if self._runs else self._head
        page_no_first = self._writer.page_no
        moved = 0
        for page_no, rows_end in list(self._pages):
            if rows_end > seq_open or page_no >= page_no_first or moved >= ITEMS_MOVED_MAX:
                break
            for key in self._table.keys_in(page_no):
                value = self._table.value(key)
                if value:
                    self._rewrite_item(key, value)
                    moved += len(key) + len(value)
                else:
                    self._table.forget(key)  # a removal, and no older page knows the item any more
        if moved:
            self._finish(page_no_first)

    # ------------------------------------------------------------ a failing disk

    def _fail(self, error: OSError) -> None:
        if self.failure is None:
            self._tell("ring.write_failed", f"write or sync failed: {error}; kept in memory, tried elsewhere")
        self.failure = error

    def _keep_in_memory(self, rows: Sequence[Row], items: Mapping[bytes, bytes], clock: Clock) -> None:
        """Number rows and keep them until the disk works again; beyond the bound the oldest become a gap."""
        for key, value in items.items():
            self._table.put(key, value, PAGE_NONE)
        self._extend_rows(rows, clock)
        kept = self._index_of(self._journaled)
        if len(self._rows) - kept > MEMORY_ROWS_MAX:
            self._drop_rows(kept, MEMORY_ROWS_MAX // 8)

    def _drop_rows(self, first: int, count: int) -> None:
        """Put one HOLE row in the place of ``count`` rows."""
        dropped = self._rows[first : first + count]
        before, rest = _split_runs(self._runs, first)
        cut, after = _split_runs(rest, count)
        seq_first = cut[0].seq_first
        seq_end = cut[-1].seq_first + (cut[-1].row_count if dropped[-1][2] != KIND_HOLE else int(dropped[-1][3]))
        from_ms = min(row[1] for row in dropped)
        to_ms = max(row[1] + (row[4][4] if row[2] == KIND_HOLE else 0) for row in dropped)
        context = (*PLAIN_CONTEXT[:4], to_ms - from_ms)
        hole: Row = (SERIES_OWN, from_ms, KIND_HOLE, seq_end - seq_first, context)
        self._rows[first : first + count] = [hole]
        self._runs = [*before, cut[0]._replace(row_count=1), *after]
        self._tell("ring.dropped", f"{seq_end - seq_first} readings could not be kept: the disk fails")

    def _write_elsewhere(self) -> None:
        """Write all that is not surely stored to other pages than those that failed, and sync.

        Raises:
            OSError: That failed too.
        """
        turn = self._turn
        seq_first = max(self._region_seq[turn], self._seq_sealed)
        first, end = self._index_of(seq_first), self._index_of(self._journaled)
        rows = self._rows[first:end]
        runs = _split_runs(_split_runs(self._runs, end)[0], first)[1]
        keys = self._table.keys_from(self._region_page[turn])
        size = size_of_rows(rows) + 64 * len(runs)
        size += sum(len(key) + len(self._table.value(key)) + 32 for key in keys)
        needed = self._pages_for(size)
        page_no = max(self._page_tried, self._writer.page_no) + 1
        if page_no + needed - self._oldest_page() > self._layout.page_count:
            page_no = max(self._region_page) + 1  # all around: pages that failed before are all there is
        while self._pages and self._pages[-1][0] >= page_no:
            self._pages.pop()
        for dirty in self._dirty:
            dirty.clear()
        writer = self._writer
        writer.seq = seq_first
        writer.epoch = self._superblock.epoch
        if runs:
            writer.clock = runs[0].clock
        writer.begin_at(page_no, 0)
        try:
            for key in keys:
                self._rewrite_item(key, self._table.value(key))
            self._put_runs(rows, runs)
            self._finish(page_no)
            self._commit()
        finally:
            self._page_tried = writer.page_no
        self._journal_rest()
        self.failure = None
        self._tell("ring.write_recovered", "the disk takes writes again; everything kept in memory is stored")

    def _put_runs(self, rows: Sequence[Row], runs: Sequence[Run]) -> None:
        index = 0
        for run in runs:
            if self._writer.seq != run.seq_first:
                self._writer.put_number(run.seq_first)
            self._note_session(run.clock)
            self._writer.put_rows(rows[index : index + run.row_count])
            index += run.row_count

    def _journal_rest(self) -> None:
        """Journal what was only kept in memory, in pieces that leave room to seal."""
        while self._journaled < self._head:
            first = self._index_of(self._journaled)
            rows = self._rows[first : first + ROWS_PER_CHUNK]
            runs = _split_runs(_split_runs(self._runs, first)[1], len(rows))[0]
            self._need_pages(size_of_rows(rows) + 64 * len(runs))
            page_no_first = self._writer.page_no
            self._put_runs(rows, runs)
            self._journaled = self._writer.seq
            self._finish(page_no_first)
            self._commit()
            self._maintain()

    def _index_of(self, seq: int) -> int:
        """Return the place of the first unsealed row numbered ``seq`` or above."""
        index = 0
        for run in self._runs:
            if run.seq_first >= seq:
                return index
            if seq < run.seq_first + run.row_count:
                return index + seq - run.seq_first
            index += run.row_count
        return index

    # ------------------------------------------------------------ seal

    def _seal(self, *, is_forced: bool) -> bool:
        """Seal the oldest synced rows into the next slot; tell whether that was done.

        Unless forced, a block that would leave the slot too empty waits for more rows.
        """
        available = min(self._index_of(self._synced), BLOCK_ROWS_MAX)
        count = min(available, max(1, int(BODY_SIZE_MAX * FILL_AIMED / self._bytes_per_row)))
        if not count:
            return False
        is_shrunk = False
        while True:
            runs, rest = _split_runs(self._runs, count)
            body, columns_size, order_size = encode_body(self._rows[:count], runs, self._decimals_of)
            self._bytes_per_row = max(0.01, len(body) / count)
            if len(body) > BODY_SIZE_MAX:
                count = max(1, min(count - 1, int(count * BODY_SIZE_MAX / len(body) * FILL_AIMED)))
                is_shrunk = True
                continue
            if is_forced or is_shrunk or count == BLOCK_ROWS_MAX or len(body) >= BODY_SIZE_MAX * FILL_ACCEPTED:
                break
            more = min(available, int(BODY_SIZE_MAX * FILL_AIMED / self._bytes_per_row))
            if more <= count:
                return False
            count = more
        self._write_block(count, runs, body, columns_size, order_size)
        self._rows = self._rows[count:]
        self._runs = rest
        return True

    def _decimals_of(self, series: int) -> int | None:
        return self._table.series[series][3] if series != SERIES_OWN else 0

    def _write_block(self, count: int, runs: Sequence[Run], body: bytes, columns_size: int, order_size: int) -> None:
        """Write one block over the oldest one and sync."""
        slots = self._slots
        slot = slots.slot_next
        gone_first, gone_end = slots.field(slot, "seq_first"), slots.field(slot, "seq_end")
        gone_from_ms, gone_to_ms = slots.field(slot, "from_ms"), slots.field(slot, "to_ms")
        slots.clear(slot)
        oldest = slots.oldest()
        rows = self._rows[:count]
        times = [row[1] for row in rows]
        last = rows[-1]
        seq_end = runs[-1].seq_first + (int(last[3]) if last[2] == KIND_HOLE else runs[-1].row_count)
        header = BlockHeader(
            slots.generation + 1, runs[0].seq_first, seq_end, count, runs[-1].epoch, min(times), max(times),
            slots.field(oldest, "seq_first") if oldest != NO_SLOT else runs[0].seq_first,
            gone_first, gone_end, gone_from_ms, gone_to_ms, max(row[0] for row in rows), len(body),
            zlib.crc32(body, self._crc_seed), columns_size, order_size,
        )  # fmt: skip
        slots.slot_next = (slot + 1) % slots.slot_count  # should this fail, the next try goes elsewhere
        self._write((header.encode(self._crc_seed) + body).ljust(SLOT_SIZE, b"\0"), self._layout.slot_offset(slot))
        self._sync_io()
        slots.put(slot, header)
        self._seq_sealed = seq_end

    # ------------------------------------------------------------ consumers

    def add_consumer(self, name: str, start: str | int = "oldest") -> int:
        """Return the cursor of a consumer; a new one starts at ``start``. Durable with the next sync.

        Args:
            name: Its name; one that is known keeps its cursor.
            start: ``oldest`` kept, ``newest`` (only what comes from now on), or the first record whose phenomenon time
                is at or after that UTC time in ms since 1970. After damage that may have taken its cursor, every new
                consumer starts at the oldest: repeats are harmless, a loss is not.

        Raises:
            ValueError: An unknown start, or a name that is empty or too long.
            RingError: There are too many consumers.
        """
        known = self._table.consumers.get(name)
        if known is not None:
            return known.cursor
        if not 0 < len(name.encode()) <= KEY_SIZE_MAX:
            raise ValueError(f"consumer {name!r}: a name has 1 to {KEY_SIZE_MAX} octets")
        if len(self._table.consumers) >= CONSUMERS_MAX:
            raise RingError(self._path, f"no more than {CONSUMERS_MAX} consumers")
        if self._journal_is_damaged or start == "oldest":
            cursor = self.tail_seq
        elif start == "newest":
            cursor = self._head
        elif isinstance(start, int):
            cursor = self._seq_at(start)
        else:
            raise ValueError(f"start {start!r}; oldest, newest or a time in ms")
        self._set_consumer(name, Consumer(cursor))
        return cursor

    def _set_consumer(self, name: str, consumer: Consumer | None) -> None:
        if consumer:
            self._table.consumers[name] = consumer
        else:
            del self._table.consumers[name]
        self._consumers_changed[name] = None

    def remove_consumer(self, name: str) -> None:
        """Forget a consumer. Nothing else changes: readings stay until they are overwritten."""
        if name in self._table.consumers:
            self._set_consumer(name, None)

    def cursor(self, name: str) -> int:
        """Return the oldest record the consumer has not acknowledged.

        Raises:
            KeyError: There is no such consumer.
        """
        return self._table.consumers[name].cursor

    def acknowledged(self, name: str) -> tuple[tuple[int, int], ...]:
        """Return the stretches above the cursor, both ends inclusive, that the consumer acknowledged already.

        Raises:
            KeyError: There is no such consumer.
        """
        return self._table.consumers[name].ranges

    def acknowledge(self, name: str, seq_first: int, seq_last: int) -> None:
        """Note that the consumer has ``seq_first`` to ``seq_last``, both inclusive; durable with the next sync.

        Stretches may come in any order. Of those above the cursor, the smallest are forgotten where there are too many:
        what they cover is then delivered again.

        Raises:
            KeyError: There is no such consumer.
            ValueError: ``seq_last`` was not given out yet, or lies before ``seq_first``.
        """
        if not seq_first <= seq_last < self._head:
            raise ValueError(f"acknowledging {seq_first} to {seq_last} of {self._head}")
        before = self._table.consumers[name]
        after = before.acknowledged(seq_first, seq_last)
        if after != before:
            self._set_consumer(name, after)

    @property
    def consumers(self) -> tuple[str, ...]:
        """Return the names of all consumers."""
        return tuple(sorted(self._table.consumers))

    # ------------------------------------------------------------ memory

    def recall(self, key: str) -> MemoryValue | None:
        """Return what is remembered under ``key``; None if nothing."""
        value = self._table.value(memory_key(key))
        return decode_memory_value(value) if value else None

    @property
    def memory(self) -> dict[str, MemoryValue]:
        """Return all that is remembered, by key."""
        return self._table.memory()

    # ------------------------------------------------------------ read

    @property
    def epoch(self) -> int:
        """Return this life of the ring."""
        return self._superblock.epoch

    @property
    def head_seq(self) -> int:
        """Return the number the next record gets."""
        return self._head

    @property
    def synced_seq(self) -> int:
        """Return the number below which records survive a power cut."""
        return self._synced

    @property
    def tail_seq(self) -> int:
        """Return the number of the oldest record kept; the head's in an empty ring."""
        oldest = self._slots.oldest()
        if oldest != NO_SLOT:
            return self._slots.field(oldest, "seq_first")
        return self._runs[0].seq_first if self._runs else self._head

    @property
    def series(self) -> dict[int, SeriesKey]:
        """Return device, property, unit and decimals of each series by its number."""
        return dict(self._table.series)

    def read(self, from_seq: int, count_max: int, *, with_unsynced: bool = False) -> list[Record | Gap]:
        """Return records from ``from_seq`` on in order, with a Gap wherever some are missing.

        Args:
            from_seq: First number wanted.
            count_max: How many records and gaps at most.
            with_unsynced: Also those a power cut could still take. Their ids stay true even then, as the epoch rises.

        Returns:
            Records and gaps that join without holes; empty where nothing is left to read.
        """
        limit = self._head if with_unsynced else self._synced
        found: list[Record | Gap] = []
        seq = max(0, from_seq)
        while seq < limit and len(found) < count_max:
            start, records, end = self._stretch(seq, limit, count_max - len(found))
            if start > seq:
                found.extend(self._gaps(seq, start, records[0].epoch if records else self.epoch))
            found.extend(records)
            seq = end
        return found[:count_max]

    def _stretch(self, seq: int, limit: int, count_max: int) -> tuple[int, list[Record | Gap], int]:
        """Return where the next records at or above ``seq`` begin, these records, and where they end."""
        while seq < limit:
            slot = self._slots.find(seq)
            if slot == NO_SLOT:
                next_first = self._slots.next_first(seq)
                if next_first is None:
                    found = self._take(self._runs, self._open_rows, seq, limit, count_max)
                    return found or (limit, [], limit)
                seq = next_first
                continue
            seq_end = self._slots.field(slot, "seq_end")
            block = self._block(slot)
            found = self._take(block.runs, block.rows, seq, limit, count_max) if block else None
            if found:
                return found
            seq = seq_end
        return limit, [], limit

    def _take(
        self, runs: Sequence[Run], rows_of: "_RowsOf", seq: int, limit: int, count_max: int
    ) -> tuple[int, list[Record | Gap], int] | None:
        """Return what `_stretch` does, out of one block or the unsealed rows; None where nothing fits."""
        found: list[Record | Gap] = []
        start = end = 0
        index = 0
        for run in runs:
            index_first = index
            index += run.row_count
            hole = next(iter(rows_of(index_first, index))) if run.row_count == 1 else None
            if hole and hole[0] != SERIES_OWN:
                hole = None
            run_end = run.seq_first + (cast("int", hole[2]) if hole else run.row_count)
            if run_end <= seq:
                continue
            begin = max(run.seq_first, seq)
            if begin >= limit or len(found) >= count_max or (found and begin != end):
                break
            if not found:
                start = begin
            if hole:
                end = run_end
                from_ms, delay_ms = hole[1], hole[3][4]
                found.append(Gap(run.epoch, begin, end - 1, end - begin, from_ms, from_ms + delay_ms, GapCause.DROPPED))
                continue
            end = min(run_end, limit, begin + count_max - len(found))
            shift = index_first - run.seq_first
            found.extend(records_of(run, begin, self._table.series, rows_of(begin + shift, end + shift)))
        return (start, found, end) if found else None

    def _open_rows(self, first: int, end: int) -> Iterable[LoadedRow]:
        """Return unsealed rows as blocks give them."""
        series = self._table.series
        return [
            (number, time_ms, load_value(kind, value, series[number][3] if number else None), context)
            for number, time_ms, kind, value, context in self._rows[first:end]
        ]

    def _block(self, slot: int) -> Block | None:
        """Return a slot's block; None where it is damaged, which is noted."""
        key = (slot, self._slots.field(slot, "generation"))
        block = self._cache.get(key)
        if block is not None:
            self._cache.move_to_end(key)
            return block
        try:
            found = read_body(self._io, self._layout, self._crc_seed, slot)
            block = decode_block(*found) if found else None
            if block and not set(block.series) - {SERIES_OWN} <= self._table.series.keys():
                block = None  # the names of its series were lost
        except (OSError, ColumnError):
            block = None
        if block is None:
            self._note_damage(slot)
            return None
        self._cache[key] = block
        while len(self._cache) > BLOCK_CACHE_MAX:
            self._cache.popitem(last=False)
        return block

    def _note_damage(self, slot: int) -> None:
        seq_first, seq_end = self._slots.field(slot, "seq_first"), self._slots.field(slot, "seq_end")
        self._slots.clear(slot)
        self.damaged_blocks += 1
        self._tell("ring.block_damaged", f"records {seq_first} to {seq_end - 1} were damaged and are lost")

    def _gaps(self, seq_first: int, seq_end: int, epoch: int) -> list[Gap]:
        """Return the one or two gaps that cover the missing records up to ``seq_end`` (exclusive)."""
        cut = min(seq_end, max(seq_first, self._slots.overwritten_end()))
        gaps: list[Gap] = []
        for first, end, cause in ((seq_first, cut, GapCause.OVERWRITTEN), (cut, seq_end, GapCause.CORRUPT)):
            if first < end:
                from_ms, to_ms = self._times_missing(first, end)
                gaps.append(Gap(epoch, first, end - 1, end - first, from_ms, to_ms, cause))
        return gaps

    def _times_missing(self, seq_first: int, seq_end: int) -> tuple[int, int]:
        """Return the times between which the missing records lay: those noted when they went, else the neighbours'."""
        noted = self._slots.gone_times(seq_first, seq_end)
        before, after = self._slots.before(seq_first), self._slots.find(seq_end)
        to_ms = self._slots.field(after, "from_ms") if after != NO_SLOT else None
        if to_ms is None:
            index = self._index_of(seq_end)
            to_ms = self._rows[index][1] if index < len(self._rows) else None
        from_ms = self._slots.field(before, "to_ms") if before != NO_SLOT else None
        if noted:
            return noted
        if from_ms is None:
            from_ms = to_ms if to_ms is not None else 0
        return from_ms, max(from_ms, to_ms if to_ms is not None else from_ms)

    def read_series(
        self, device_id: str, observed_property: str, from_ms: int, to_ms: int, *, count_max: int = 100_000
    ) -> list[Reading]:
        """Return one series' readings by phenomenon time, both ends inclusive, in order of arrival.

        Looks only into blocks whose times overlap and undoes only this series' columns, so that a day's curve costs
        milliseconds. Unsynced readings are included: a curve is for eyes.
        """
        wanted = {
            number
            for number, names in self._table.series.items()
            if names[0] == device_id and names[1] == observed_property
        }
        found: list[Reading] = []
        if not wanted:
            return found
        for slot in self._slots.overlapping(from_ms, to_ms):
            try:
                body = read_body(self._io, self._layout, self._crc_seed, slot)
                parts = list(decode_series(*body, wanted)) if body else None
            except (OSError, ColumnError):
                parts = None
            if parts is None:
                self._note_damage(slot)
                continue
            for number, times_ms, values, contexts in parts:
                every = contexts if len(contexts) > 1 else contexts * len(times_ms)
                rows = [
                    (number, time_ms, value, context)
                    for time_ms, value, context in zip(times_ms, values, every, strict=True)
                    if from_ms <= time_ms <= to_ms
                ]
                found.extend(record.reading for record in records_of(_NO_RUN, 0, self._table.series, rows))
            if len(found) >= count_max:
                return found[:count_max]
        rows = [row for row in self._open_rows(0, len(self._rows)) if row[0] in wanted and from_ms <= row[1] <= to_ms]
        found.extend(record.reading for record in records_of(_NO_RUN, 0, self._table.series, rows))
        return found[:count_max]

    def _seq_at(self, time_ms: int) -> int:
        """Return the first record whose phenomenon time is at or after ``time_ms``."""
        for slot in self._slots.overlapping(time_ms, 1 << 62):
            block = self._block(slot)
            if block is None:
                continue
            index = next(index for index, found_ms in enumerate(block.times_ms) if found_ms >= time_ms)
            return _seq_of(block.runs, index)
        for index, row in enumerate(self._rows):
            if row[1] >= time_ms:
                return _seq_of(self._runs, index)
        return self._head

    def stat(self) -> RingStat:
        """Return what the ring knows about itself; reads nothing from the file."""
        slots = self._slots
        spans = [span for span in (slots.time_span(), self._open_span()) if span]
        return RingStat(
            path=self._path,
            size=self._layout.file_size,
            epoch=self.epoch,
            head_seq=self._head,
            synced_seq=self._synced,
            tail_seq=self.tail_seq,
            records=slots.records + len(self._rows),
            from_ms=min((span[0] for span in spans), default=None),
            to_ms=max((span[1] for span in spans), default=None),
            slots=slots.slot_count,
            fill=len(slots) / slots.slot_count,
            bytes_per_reading=len(slots) * SLOT_SIZE / slots.records if slots.records else 0.0,
            bytes_written=self._bytes_written,
            syncs=self._syncs,
            series=len(self._table.series),
            memory_size=self._table.memory_size,
            damaged_blocks=self.damaged_blocks,
            consumers=tuple(self._consumer_stat(name) for name in sorted(self._table.consumers)),
        )

    def _open_span(self) -> tuple[int, int] | None:
        return (self._rows[0][1], self._rows[-1][1]) if self._rows else None

    def _consumer_stat(self, name: str) -> ConsumerStat:
        consumer = self._table.consumers[name]
        acknowledged = sum(last - first + 1 for first, last in consumer.ranges)
        return ConsumerStat(
            name, consumer.cursor, max(0, self._head - consumer.cursor - acknowledged), consumer.ranges,
            self._oldest_unsent_ms(consumer.cursor),
        )  # fmt: skip

    def _oldest_unsent_ms(self, cursor: int) -> int | None:
        """Return about when the oldest unsent record was true: the beginning of its block."""
        if cursor >= self._head:
            return None
        seq = max(cursor, self.tail_seq)
        slot = self._slots.find(seq)
        if slot != NO_SLOT:
            return self._slots.field(slot, "from_ms")
        index = self._index_of(seq)
        return self._rows[index][1] if index < len(self._rows) else None


_RowsOf = Callable[[int, int], Iterable[LoadedRow]]
_NO_RUN = Run(0, 0, 0, Clock(bytes(16), 0, False))


def _seq_of(runs: Sequence[Run], index: int) -> int:
    """Return the number of the row at ``index``."""
    for run in runs:
        if index < run.row_count:
            return run.seq_first + index
        index -= run.row_count
    raise IndexError("beyond the last row")


def _extend_runs(runs: list[Run], more: Run) -> None:
    """Add a run, joined with the last one where it goes on."""
    if runs:
        last = runs[-1]
        if last.seq_first + last.row_count == more.seq_first and last.epoch == more.epoch and last.clock == more.clock:
            runs[-1] = last._replace(row_count=last.row_count + more.row_count)
            return
    runs.append(more)


def _split_runs(runs: Sequence[Run], count: int) -> tuple[list[Run], list[Run]]:
    """Return the runs of the first ``count`` rows and of the others."""
    before: list[Run] = []
    for index, run in enumerate(runs):
        if run.row_count > count:
            if count:
                before.append(run._replace(row_count=count))
            rest = run._replace(seq_first=run.seq_first + count, row_count=run.row_count - count)
            return before, [rest, *runs[index + 1 :]]
        before.append(run)
        count -= run.row_count
    return before, []


# ---------------------------------------------------------------- the file


def _refuse_newer(path: str, superblock: Superblock) -> None:
    if superblock.version > VERSION:
        raise RingFormatError(
            path,
            superblock.version,
            f"ring of format version {superblock.version}; this program knows up to {VERSION} and left it untouched",
        )


def _first_epoch(now_s: int) -> int:
    """Return an epoch no earlier ring of this gateway is likely to have had."""
    return now_s if 0 < now_s <= EPOCH_MAX else 1 + secrets.randbelow(EPOCH_RANDOM_MAX)


def new_superblocks(layout: Layout, now_s: int) -> list[tuple[int, bytes]]:
    """Return offset and octets of both superblocks of an empty ring."""
    uuid = os.urandom(16)
    epoch = _first_epoch(now_s)
    return [
        (layout.superblock_offset(region), Superblock(VERSION, region, epoch, layout, uuid).encode())
        for region in range(REGIONS)
    ]


def format_medium(io: BlockIO, now_s: int = 0) -> None:
    """Make an empty ring on a medium that is all zeros."""
    for offset, octets in new_superblocks(layout_of(io.size()), now_s):
        write_all(io, octets, offset)
    io.sync()


def _raise_epoch(io: BlockIO, superblock: Superblock, found: Recovered, now_s: int) -> Superblock:
    """Write, synced, the superblock of this start and return it."""
    highest = max(superblock.epoch, found.journal.epoch)
    epoch = now_s if highest < now_s <= EPOCH_MAX else highest + 1
    generation = superblock.generation + 1
    raised = Superblock(VERSION, generation, epoch, superblock.layout, superblock.uuid)
    write_all(io, raised.encode(), raised.layout.superblock_offset(generation % REGIONS))
    io.sync()
    return raised


def _open_file(path: pathlib.Path, size: int, now_s: int, events: list[RingEvent]) -> tuple[FileIO, Superblock | None]:
    """Open the file; make it where there is none; put it aside where it is no ring."""
    if not path.exists():
        _create(path, size, now_s)
    io = _open_existing(path)
    try:
        superblock = find_superblock(io)
        reason = _why_unusable(superblock, io.size())
        if reason is None or (superblock and superblock.version > VERSION):
            return io, superblock
        bad = _bad_name(path)
        os.rename(path, bad)  # still locked by us: nobody else takes it meanwhile
        sync_folder(path.parent)
    except OSError as error:
        io.close()
        raise RingError(str(path), f"cannot be opened: {error.strerror or error}") from error
    io.close()
    _create(path, size, now_s)
    events.append(RingEvent("ring.replaced", f"{path} {reason}; it was renamed to {bad.name} and an empty ring made"))
    io = _open_existing(path)
    return io, find_superblock(io)


def _create(path: pathlib.Path, size: int, now_s: int) -> None:
    try:
        layout = layout_of(size)
    except ValueError as error:
        raise RingError(str(path), str(error)) from None
    create_file(path, layout.file_size, new_superblocks(layout, now_s))


def _open_existing(path: pathlib.Path) -> FileIO:
    try:
        return FileIO(path)
    except OSError as error:
        raise RingError(str(path), f"cannot be opened: {error.strerror or error}") from error


def _why_unusable(superblock: Superblock | None, size: int) -> str | None:
    if superblock is None:
        return "is no ring, or lost both its superblocks"
    if superblock.version > VERSION:
        return None
    if not superblock.is_sound:
        return "has a superblock that contradicts itself"
    if superblock.layout.file_size != size:
        return f"has {size} octets and should have {superblock.layout.file_size}"
    return None


def _bad_name(path: pathlib.Path) -> pathlib.Path:
    for number in range(1, BAD_FILES_MAX + 1):
        bad = path.with_name(f"{path.name}.bad-{number}")
        if not bad.exists():
            return bad
    raise RingError(str(path), f"there are {BAD_FILES_MAX} damaged rings beside it; remove some")
