"""Copying a ring into one of another size: every id, name, cursor and remembered value stays what it is."""

# ruff: noqa: SLF001  (a copy reaches into both rings; nobody else uses them meanwhile)
import os
import pathlib
import zlib
from dataclasses import replace

from gateway.errors import RingError
from gateway.ring._journal import size_of_rows
from gateway.ring._layout import SLOT_SIZE
from gateway.ring._recovery import read_body
from gateway.ring._ring import ROWS_PER_CHUNK, Ring


def copy_ring(source: Ring, path: str | os.PathLike[str], size: int) -> int:
    """Make a new ring of ``size`` octets from ``source`` and return how many records it holds.

    The oldest records stay behind where the new ring is smaller. The source is only read.

    Raises:
        RingError: The new ring cannot be made, or is too small for what must be remembered.
    """
    place = pathlib.Path(path)
    if place.exists():
        raise RingError(str(place), "exists already")
    try:
        with Ring.open(place, size=size, now_s=source.epoch) as target:
            _Copy(source, target).run()
            return target.stat().records
    except OSError as error:
        place.unlink(missing_ok=True)
        raise RingError(str(place), f"cannot be written: {error.strerror or error}") from error
    except RingError:
        place.unlink(missing_ok=True)
        raise


class _Copy:
    """One copy in progress."""

    def __init__(self, source: Ring, target: Ring) -> None:
        self._source, self._target = source, target

    def run(self) -> None:
        """Copy blocks, then what is remembered, then what is not sealed yet."""
        self._copy_blocks()
        self._copy_items()
        self._copy_rows()
        target = self._target
        target._head = target._journaled = max(target._head, self._source.head_seq)
        target.sync()

    def _copy_blocks(self) -> None:
        """Copy the newest blocks as they are; only the headers are the new ring's."""
        source, target = self._source, self._target
        slots = target._slots
        newest = source._slots.in_order()[-slots.slot_count :]
        for place in newest:
            found = read_body(source._io, source._layout, source._crc_seed, place)
            if found is None:
                source._note_damage(place)
                continue
            header, body = found
            slot = slots.slot_next
            header = replace(
                header, generation=slots.generation + 1, body_crc=zlib.crc32(body, target._crc_seed),
                tail_seq=source._slots.field(newest[0], "seq_first"),
            )  # fmt: skip
            octets = (header.encode(target._crc_seed) + body).ljust(SLOT_SIZE, b"\0")
            target._write(octets, target._layout.slot_offset(slot))
            slots.put(slot, header)
            target._seq_sealed = header.seq_end
            target._head = target._journaled = target._synced = header.seq_end
            target._writer.seq = header.seq_end
        target._sync_io()
        target._writer.begin_at(0, 0)

    def _copy_items(self) -> None:
        target = self._target
        for key, value in self._source._table.items():
            target._check_table({key: value})
            target._need_pages(len(key) + len(value) + 32)
            target._journal([], {key: value}, target._writer.clock)

    def _copy_rows(self) -> None:
        target, source = self._target, self._source
        writer = target._writer
        index = 0
        for run in source._runs:
            for first in range(0, run.row_count, ROWS_PER_CHUNK):
                count = min(ROWS_PER_CHUNK, run.row_count - first)
                rows = source._rows[index : index + count]
                index += count
                target._need_pages(size_of_rows(rows) + 64)
                page_no_first = writer.page_no
                if writer.seq != run.seq_first + first:
                    writer.put_number(run.seq_first + first)
                writer.put_clock(run.epoch, run.clock)
                writer.put_rows(rows)
                target._rows.extend(rows)
                target._runs.append(run._replace(seq_first=run.seq_first + first, row_count=count))
                target._head = target._journaled = writer.seq
                target._finish(page_no_first)
                target._commit()
                target._maintain()
