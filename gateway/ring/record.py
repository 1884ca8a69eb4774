"""What the ring hands out: records, gaps, what it knows about itself, and the events it wants told. Frozen, no I/O."""

import enum
from dataclasses import dataclass

from gateway.reading import Reading


@dataclass(frozen=True, slots=True)
class Record:
    """One reading with its place in the ring. ``(epoch, seq)`` names it for ever.

    Attributes:
        seq: Record number; rises by one, also over restarts.
        epoch: Life of the ring it was written in; rises with each start.
        reading: What the driver appended.
        boot_id: 16 octets naming the boot of the machine it was written in.
        boottime_ms: CLOCK_BOOTTIME when it was received, ms since that boot, good to 0.1 s.
        clock_known: The wall clock was synchronised then.
    """

    seq: int
    epoch: int
    reading: Reading
    boot_id: bytes
    boottime_ms: int
    clock_known: bool


class GapCause(enum.StrEnum):
    """Why records are missing."""

    OVERWRITTEN = "overwritten"  # the ring was full and the oldest made room
    CORRUPT = "corrupt"  # the medium gave back something else than was written
    DROPPED = "dropped"  # the disk failed and the memory queue was full


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch of records that is not there any more; both ends are inclusive.

    Attributes:
        epoch: Epoch of the record that follows the gap; the ring's own where none follows.
        seq_first: First missing record.
        seq_last: Last missing record.
        count: How many are missing.
        from_ms: Oldest phenomenon time that may be missing, UTC ms since 1970, as far as it is still known.
        to_ms: Newest phenomenon time that may be missing.
        cause: Why.
    """

    epoch: int
    seq_first: int
    seq_last: int
    count: int
    from_ms: int
    to_ms: int
    cause: GapCause


@dataclass(frozen=True, slots=True)
class RingEvent:
    """Something an operator should know. ``code`` is stable (``ring.replaced``); ``text`` is for people."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class ConsumerStat:
    """Where one consumer stands.

    Attributes:
        name: Its name.
        cursor: Its oldest unacknowledged record.
        backlog_records: How many it has still to get.
        ranges: Stretches above the cursor it has already, both ends inclusive.
        oldest_unsent_ms: About when its oldest unsent record was true, UTC ms since 1970; None if it has all.
    """

    name: str
    cursor: int
    backlog_records: int
    ranges: tuple[tuple[int, int], ...]
    oldest_unsent_ms: int | None


@dataclass(frozen=True, slots=True)
class RingStat:
    """What the ring knows about itself, cheap to ask for; nothing is read for it.

    Attributes:
        path: The file.
        size: Octets of the file; never changes.
        epoch: This life of the ring.
        head_seq: Number the next record gets.
        synced_seq: Records below it survive a power cut.
        tail_seq: Oldest record kept.
        records: Records kept.
        from_ms: Oldest phenomenon time of the oldest block, UTC ms since 1970; None in an empty ring.
        to_ms: Phenomenon time of the newest record.
        slots: Slots for sealed blocks.
        fill: Share of them in use, 0 to 1.
        bytes_per_reading: Octets of slot, padding and all, per sealed reading; 0.0 while none is sealed.
        bytes_written: Octets written to the file since it was opened.
        syncs: Syncs since it was opened.
        series: Number of series in its dictionary.
        memory_size: Octets in the memory table.
        damaged_blocks: Blocks found damaged since it was opened.
        consumers: Every consumer.
    """

    path: str
    size: int
    epoch: int
    head_seq: int
    synced_seq: int
    tail_seq: int
    records: int
    from_ms: int | None
    to_ms: int | None
    slots: int
    fill: float
    bytes_per_reading: float
    bytes_written: int
    syncs: int
    series: int
    memory_size: int
    damaged_blocks: int
    consumers: tuple[ConsumerStat, ...]
