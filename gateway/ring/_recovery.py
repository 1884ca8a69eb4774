"""Reading a ring file back: which superblock, blocks and journal pages count, and making both regions whole again.

Every step may be cut short by the next power failure and done again: nothing is sealed here, nothing moves, a page is
only ever replaced by its better copy, and never in both regions before one of them is synced.
"""

import zlib
from dataclasses import dataclass, field

from gateway.ring._block import HEADER_SIZE, BlockHeader
from gateway.ring._io import BlockIO, write_all
from gateway.ring._journal import JournalReader, PageHeader, decode_page
from gateway.ring._layout import (
    JOURNAL_PAGES_MAX,
    JOURNAL_PAGES_MIN,
    PAGE_SIZE,
    REGIONS,
    SLOT_SIZE,
    SUPERBLOCK_SIZE,
    UNIT_SIZE,
    VERSION,
    Layout,
    Superblock,
)
from gateway.ring._slots import SlotIndex
from gateway.ring._state import Table, decode_item

_NEWEST_CHECKED = 2  # blocks whose body is checked at once; the power may have failed while the newest was written


def find_superblock(io: BlockIO) -> Superblock | None:
    """Return the newest valid superblock; one of a newer version counts above all.

    Region B's place depends on the journal's length. It stands in A; where A is destroyed, B is looked for at every
    place it could have.
    """
    found: list[Superblock] = []
    first = Superblock.decode(io.pread(SUPERBLOCK_SIZE, 0))
    if first:
        found.append(first)
        if first.version > VERSION:
            return first
    step = UNIT_SIZE // PAGE_SIZE
    for page_count in range(JOURNAL_PAGES_MIN, JOURNAL_PAGES_MAX + 1, step):
        if first and page_count != first.layout.page_count:
            continue
        second = Superblock.decode(io.pread(SUPERBLOCK_SIZE, UNIT_SIZE + page_count * PAGE_SIZE))
        if second and (second.version > VERSION or second.layout.page_count == page_count):
            found.append(second)
    return max(found, key=lambda superblock: (superblock.version > VERSION, superblock.generation), default=None)


@dataclass(frozen=True, slots=True)
class PageCopy:
    """One sound copy of a journal page."""

    header: PageHeader
    entries: bytes
    octets: bytes


@dataclass(slots=True)
class Recovered:
    """What a ring file holds.

    Attributes:
        slots: Index of the blocks.
        damaged_slots: Slots whose header or, for the newest, body is damaged.
        journal: Rows and items of the journal.
        table: What the ring remembers.
        pages: For each journal page still needed, its copy in each region (None: damaged or never written).
        write_no: Highest write number seen.
        synced_no: Highest write number known to have been synced.
        pages_missing: Journal pages lost in both regions.
    """

    slots: SlotIndex
    damaged_slots: list[int]
    journal: JournalReader
    table: Table
    pages: dict[int, list[PageCopy | None]] = field(default_factory=dict)
    write_no: int = 0
    synced_no: int = 0
    pages_missing: int = 0

    def best(self, page_no: int) -> PageCopy:
        """Return the newer copy of a page."""
        return best_of(self.pages[page_no])


def best_of(copies: list[PageCopy | None]) -> PageCopy:
    """Return the newer of the sound copies; there is at least one."""
    return max((copy for copy in copies if copy), key=lambda copy: copy.header.write_no)


def recover(io: BlockIO, layout: Layout, crc_seed: int) -> Recovered:
    """Read everything the ring needs to know; write nothing.

    Raises:
        OSError: The medium cannot be read.
    """
    slots, damaged = _read_slots(io, layout, crc_seed)
    newest = slots.newest()
    seq_sealed = slots.field(newest, "seq_end") if newest >= 0 else 0
    found = Recovered(slots, damaged, JournalReader(seq_sealed), Table())
    copies = _read_pages(io, layout, crc_seed)
    if not copies:
        found.journal.is_open = False
        return found
    last = max((best_of(pair) for pair in copies.values()), key=lambda copy: copy.header.write_no).header
    found.write_no = last.write_no
    found.synced_no = max(copy.header.synced_no for pair in copies.values() for copy in pair if copy)
    found.journal = JournalReader(seq_sealed, last.oldest_page_no)
    found.pages, found.pages_missing = _live_pages(copies, last, found.synced_no)
    for page_no in found.pages:
        best = found.best(page_no)
        found.journal.feed(best.header, best.entries)
    for page_no, octets in found.journal.items:
        key, value = decode_item(octets)
        found.table.put(key, value, page_no)
    return found


def _live_pages(
    copies: dict[int, list[PageCopy | None]], newest: PageHeader, synced_no: int
) -> tuple[dict[int, list[PageCopy | None]], int]:
    """Return the pages that count, in order, and how many are lost that were synced.

    Write numbers rise from page to page; one that falls is a leftover of a journal that ended earlier. A page whose
    predecessor's last state is missing ends the journal, unless that state was synced once: then it is damage, and all
    that is still there counts.
    """
    live: dict[int, list[PageCopy | None]] = {}
    missing = 0
    before: PageHeader | None = None
    is_ended = False
    for page_no in range(newest.oldest_page_no, newest.page_no + 1):
        if page_no not in copies:
            missing += not is_ended
            continue
        header = best_of(copies[page_no]).header
        if before and header.write_no < before.write_no:
            continue
        if header.turned_no == 0:
            is_ended = False
        elif before and header.turned_no != before.write_no:
            is_ended = is_ended or header.turned_no > synced_no
        if not is_ended:
            live[page_no] = copies[page_no]
            before = header
    return live, missing


def _read_slots(io: BlockIO, layout: Layout, crc_seed: int) -> tuple[SlotIndex, list[int]]:
    headers: list[BlockHeader | None] = []
    damaged: list[int] = []
    for slot in range(layout.slot_count):
        octets = io.pread(HEADER_SIZE, layout.slot_offset(slot))
        header = BlockHeader.decode(octets, crc_seed)
        headers.append(header)
        if header is None and octets.strip(b"\0"):
            damaged.append(slot)
    by_age = sorted((header.generation, slot) for slot, header in enumerate(headers) if header)
    for _, slot in by_age[-_NEWEST_CHECKED:]:
        header = headers[slot]
        if header and read_body(io, layout, crc_seed, slot) is None:
            headers[slot] = None
            damaged.append(slot)
    index = SlotIndex(layout.slot_count)
    index.load(headers)
    return index, damaged


def read_body(io: BlockIO, layout: Layout, crc_seed: int, slot: int) -> tuple[BlockHeader, bytes] | None:
    """Return header and body of a block, or None where one of the checksums is wrong."""
    octets = io.pread(SLOT_SIZE, layout.slot_offset(slot))
    header = BlockHeader.decode(octets[:HEADER_SIZE], crc_seed)
    if header is None:
        return None
    body = octets[HEADER_SIZE : HEADER_SIZE + header.body_size]
    if len(body) != header.body_size or zlib.crc32(body, crc_seed) != header.body_crc:
        return None
    return header, body


def _read_pages(io: BlockIO, layout: Layout, crc_seed: int) -> dict[int, list[PageCopy | None]]:
    copies: dict[int, list[PageCopy | None]] = {}
    for region in range(REGIONS):
        for place in range(layout.page_count):
            octets = io.pread(PAGE_SIZE, layout.page_offset(region, place))
            page = decode_page(octets, crc_seed)
            if page is None or page[0].page_no % layout.page_count != place:
                continue
            copies.setdefault(page[0].page_no, [None] * REGIONS)[region] = PageCopy(*page, octets)
    return copies


def mirror(io: BlockIO, layout: Layout, found: Recovered) -> bool:
    """Make both regions hold the best copy of every page still needed; tell whether anything was written.

    What was read may live in the kernel's cache only, if the last process was killed: it is synced before the first
    write. Then the region that lacks most of what was synced once, the one in flight when it ended, is mended and
    synced before the other one is touched: until then that other one may hold the only whole copy.

    Raises:
        OSError: The medium cannot be written.
    """
    io.sync()
    mends: list[list[PageCopy]] = [[] for _ in range(REGIONS)]
    lacking = [0] * REGIONS
    for page_no in found.pages:
        best = found.best(page_no)
        for region in range(REGIONS):
            copy = found.pages[page_no][region]
            if copy is None or copy.octets != best.octets:
                mends[region].append(best)
                lacking[region] += best.header.write_no <= found.synced_no
    for region in sorted(range(REGIONS), key=lambda region: -lacking[region]):
        for page in mends[region]:
            write_all(io, page.octets, layout.page_offset(region, page.header.page_no))
        if mends[region]:
            io.sync()
    return any(mends)
