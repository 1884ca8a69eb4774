"""Which block lies in which slot: the index kept in memory, 100 octets a slot. No I/O."""

import array
import bisect
from collections.abc import Iterator

from gateway.ring._block import BlockHeader

NO_SLOT = -1
_FIELDS = (
    "generation", "seq_first", "seq_end", "count", "epoch_last", "from_ms", "to_ms", "tail_seq", "gone_first",
    "gone_end", "gone_from_ms", "gone_to_ms", "series_max",
    "body_size",
)  # fmt: skip


class SlotIndex:
    """The headers of all slots, as columns. A slot without a sound block has generation 0.

    Attributes:
        slot_next: The slot the next block goes to: the one after the newest.
        generation: Of the newest block.
        records: In all blocks.
        body_size: Octets deflated, of all blocks.
    """

    def __init__(self, slot_count: int) -> None:
        self.slot_count = slot_count
        self._columns = {field: array.array("q", bytes(8 * slot_count)) for field in _FIELDS}
        self._order: list[int] = []  # slots by seq_first
        self.slot_next = 0
        self.generation = 0
        self.records = 0
        self.body_size = 0
        self._seq_first = self._columns["seq_first"]
        self._seq_end = self._columns["seq_end"]

    def __len__(self) -> int:
        return len(self._order)

    def load(self, headers: list[BlockHeader | None]) -> None:
        """Take over the headers found in a file."""
        for slot, header in enumerate(headers):
            if header:
                self._set(slot, header)
                if header.generation > self.generation:
                    self.generation = header.generation
                    self.slot_next = (slot + 1) % self.slot_count
        self._order = sorted(
            (slot for slot, header in enumerate(headers) if header), key=lambda slot: self._seq_first[slot]
        )

    def _set(self, slot: int, header: BlockHeader) -> None:
        for field, column in self._columns.items():
            column[slot] = getattr(header, field)
        self.records += header.count
        self.body_size += header.body_size

    def put(self, slot: int, header: BlockHeader) -> None:
        """Note the newest block, written to a cleared slot."""
        self._set(slot, header)
        self._order.append(slot)
        self.generation = header.generation
        self.slot_next = (slot + 1) % self.slot_count

    def clear(self, slot: int) -> None:
        """Note that a slot's block is gone."""
        if self._columns["generation"][slot]:
            self.records -= self._columns["count"][slot]
            self.body_size -= self._columns["body_size"][slot]
            for column in self._columns.values():
                column[slot] = 0
            self._order.remove(slot)

    def field(self, slot: int, name: str) -> int:
        """Return one field of a slot's header."""
        return self._columns[name][slot]

    def find(self, seq: int) -> int:
        """Return the slot whose block covers ``seq``, or NO_SLOT."""
        place = bisect.bisect_right(self._order, seq, key=self._seq_first.__getitem__) - 1
        if place < 0 or self._seq_end[self._order[place]] <= seq:
            return NO_SLOT
        return self._order[place]

    def next_first(self, seq: int) -> int | None:
        """Return where the first block above ``seq`` begins."""
        place = bisect.bisect_right(self._order, seq, key=self._seq_first.__getitem__)
        return self._seq_first[self._order[place]] if place < len(self._order) else None

    def before(self, seq: int) -> int:
        """Return the newest slot that ends at or before ``seq``, or NO_SLOT."""
        place = bisect.bisect_right(self._order, seq, key=self._seq_end.__getitem__) - 1
        return self._order[place] if place >= 0 else NO_SLOT

    def oldest(self) -> int:
        """Return the slot with the oldest block, or NO_SLOT."""
        return self._order[0] if self._order else NO_SLOT

    def newest(self) -> int:
        """Return the slot with the newest block, or NO_SLOT."""
        return self._order[-1] if self._order else NO_SLOT

    def in_order(self) -> list[int]:
        """Return all slots with a block, oldest first."""
        return list(self._order)

    def overwritten_end(self) -> int:
        """Return the number below which everything missing was overwritten."""
        return self.highest("tail_seq")

    def gone_times(self, seq_first: int, seq_end: int) -> tuple[int, int] | None:
        """Return oldest and newest time of the overwritten blocks that touch these numbers, as far as known."""
        first, end = self._columns["gone_first"], self._columns["gone_end"]
        from_ms, to_ms = self._columns["gone_from_ms"], self._columns["gone_to_ms"]
        touched = [
            slot for slot in self._order if first[slot] < seq_end and end[slot] > seq_first and end[slot] > first[slot]
        ]
        if not touched:
            return None
        return min(from_ms[slot] for slot in touched), max(to_ms[slot] for slot in touched)

    def overlapping(self, from_ms: int, to_ms: int) -> Iterator[int]:
        """Yield the slots that may hold readings from ``from_ms`` up to and including ``to_ms``, oldest first."""
        oldest, newest = self._columns["from_ms"], self._columns["to_ms"]
        for slot in list(self._order):
            if oldest[slot] <= to_ms and newest[slot] >= from_ms:
                yield slot

    def highest(self, name: str) -> int:
        """Return the highest value of a field in all slots; 0 where there is none."""
        return max(self._columns[name])

    def time_span(self) -> tuple[int, int] | None:
        """Return the oldest time in the oldest block and the newest in the newest."""
        if not self._order:
            return None
        return self._columns["from_ms"][self._order[0]], self._columns["to_ms"][self._order[-1]]
