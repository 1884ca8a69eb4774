r"""Where everything lies in a ring file, and the superblock that says so. Bytes only; little-endian throughout.

    file    = region A | region B | slot 0 … slot N-1
    region  = superblock unit (16 KiB, its first 4 KiB in use) | journal: J pages of 4 KiB
    slot    = 16 KiB: one sealed block (`_block`)

A *unit* of 16 KiB is the most a power cut is assumed to destroy around a write in flight (one flash page, worst case).
The two regions hold the same things and never share a unit; one sync writes to one region only, so one of the two is
always whole. Superblocks take turns: generation g lies in region g mod 2, the newest valid one counts.

    superblock  0  magic        4   "LFR\x01"
                4  crc          4   CRC-32 of octets 8 to 127
                8  version      2   writer's format; a reader knowing only lower ones leaves the file alone
               10  reserved     2
               12  generation   8
               20  epoch        4   life of the ring; raised, synced, before the first append of each start
               24  file_size    8
               32  page_count   4   J
               36  slot_count   4   N
               40  uuid        16   seeds every other checksum: pages of another ring never count
               56  zeros       72

Upgrade rule: a change that an older reader would misread raises ``VERSION``; new kinds of journal entries or block
columns do that too. ``litfass ring resize`` of the newer program reads all older versions and writes its own.
"""

import struct
import zlib
from dataclasses import dataclass

UNIT_SIZE = 16384
PAGE_SIZE = 4096
SLOT_SIZE = UNIT_SIZE
REGIONS = 2
MAGIC = b"LFR\x01"
VERSION = 1

JOURNAL_PAGES_MAX = 256  # 1 MiB a region: more than a slot's worth of unsealed readings, in the densest case
JOURNAL_PAGES_MIN = 16
SLOTS_MIN = 2
SIZE_MIN = 192 * 1024  # two regions of 80 KiB and 2 slots: for tests and toys
SIZE_MAX = 1 << 40

_SUPERBLOCK = struct.Struct("<4sIHHQIQII16s72x")
SUPERBLOCK_SIZE = _SUPERBLOCK.size


@dataclass(frozen=True, slots=True)
class Layout:
    """Sizes and places of one file; all places are octets from its start."""

    file_size: int
    page_count: int
    slot_count: int

    @property
    def region_size(self) -> int:
        """Return the octets of one region."""
        return UNIT_SIZE + self.page_count * PAGE_SIZE

    def superblock_offset(self, region: int) -> int:
        """Return the place of a region's superblock."""
        return region * self.region_size

    def page_offset(self, region: int, page_no: int) -> int:
        """Return the place of journal page ``page_no`` (counted for ever) in a region."""
        return region * self.region_size + UNIT_SIZE + (page_no % self.page_count) * PAGE_SIZE

    def slot_offset(self, slot_index: int) -> int:
        """Return the place of a slot."""
        return REGIONS * self.region_size + slot_index * SLOT_SIZE


def layout_of(size: int) -> Layout:
    """Return how a new ring of at most ``size`` octets is laid out.

    Raises:
        ValueError: ``size`` is below ``SIZE_MIN`` or above ``SIZE_MAX``.
    """
    if not SIZE_MIN <= size <= SIZE_MAX:
        raise ValueError(f"a ring of {size} octets; at least {SIZE_MIN} and at most {SIZE_MAX}")
    pages_per_unit = UNIT_SIZE // PAGE_SIZE
    page_count = min(
        JOURNAL_PAGES_MAX, max(JOURNAL_PAGES_MIN, size // 8 // PAGE_SIZE // pages_per_unit * pages_per_unit)
    )
    return layout_with(page_count, (size - REGIONS * (UNIT_SIZE + page_count * PAGE_SIZE)) // SLOT_SIZE)


def layout_with(page_count: int, slot_count: int) -> Layout:
    """Return the layout with so many journal pages a region and slots."""
    file_size = REGIONS * (UNIT_SIZE + page_count * PAGE_SIZE) + slot_count * SLOT_SIZE
    return Layout(file_size, page_count, slot_count)


@dataclass(frozen=True, slots=True)
class Superblock:
    """The ring's identity and geometry; see the drawing above."""

    version: int
    generation: int
    epoch: int
    layout: Layout
    uuid: bytes

    @property
    def crc_seed(self) -> int:
        """Return the start value of every page's and block's checksum."""
        return zlib.crc32(self.uuid)

    def encode(self) -> bytes:
        """Return the octets of the superblock, one page long."""
        layout = self.layout
        octets = _SUPERBLOCK.pack(
            MAGIC, 0, self.version, 0, self.generation, self.epoch,
            layout.file_size, layout.page_count, layout.slot_count, self.uuid,
        )  # fmt: skip
        octets = MAGIC + struct.pack("<I", zlib.crc32(octets[8:])) + octets[8:]
        return octets.ljust(PAGE_SIZE, b"\0")

    @classmethod
    def decode(cls, octets: bytes) -> "Superblock | None":
        """Return the superblock, or None if these octets are none or were damaged.

        A version above ``VERSION`` is returned as it is: its reader must refuse the file, not rename it.
        """
        if len(octets) < SUPERBLOCK_SIZE or octets[:4] != MAGIC:
            return None
        fields = _SUPERBLOCK.unpack(octets[:SUPERBLOCK_SIZE])
        _, crc, version, _, generation, epoch, file_size, page_count, slot_count, uuid = fields
        if zlib.crc32(octets[8:SUPERBLOCK_SIZE]) != crc:
            return None
        return cls(version, generation, epoch, Layout(file_size, page_count, slot_count), uuid)

    @property
    def is_sound(self) -> bool:
        """Tell whether the sizes fit each other, for a file of this version."""
        layout = self.layout
        return (
            layout == layout_with(layout.page_count, layout.slot_count)
            and JOURNAL_PAGES_MIN <= layout.page_count <= JOURNAL_PAGES_MAX
            and SLOTS_MIN <= layout.slot_count <= SIZE_MAX // SLOT_SIZE
        )
