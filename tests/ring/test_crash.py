"""Power cuts, simulated (F01 to F03), and the proof that the simulator would notice a ring that is wrong."""

import contextlib
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gateway.ring import _block, _journal, _layout, _recovery, _ring, _state
from gateway.ring._layout import Layout
from gateway.ring._ring import Ring
from tests.ring.simulator import ViolationError, run_seeds

CUTS = 10_000
PROCESSES = 2
MUTANT_CUTS_MAX = 3_000


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_f01_f02_f03_ten_thousand_cuts_break_no_promise() -> None:
    """I1 to I4 after each: lost, torn, garbled writes, dying flash pages, cuts while opening. The seeds are fixed."""
    children = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.ring.simulator"),
                *("--cuts", str(CUTS // PROCESSES), "--first-seed", str(1_000_000 * number)),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number in range(PROCESSES)
    ]
    outputs = [child.communicate()[0] for child in children]
    assert [child.returncode for child in children] == [0] * PROCESSES, "\n".join(outputs)


def _is_false(*_: object, **__: object) -> bool:
    return False


Patch = tuple[object, str, Any]


def _no_sync() -> list[Patch]:
    """Call it synced without asking the medium."""
    return [(Ring, "_sync_io", lambda self: None)]


def _no_page_crc() -> list[Patch]:
    """Believe every page that has the magic."""
    return [(zlib, "crc32", lambda octets, seed=0: 0)]


def _epoch_stays() -> list[Patch]:
    """Do not raise the epoch."""

    def same_epoch(io: Any, superblock: Any, found: Any, now_s: int) -> Any:
        del io, found, now_s
        return superblock

    return [(_ring, "_raise_epoch", same_epoch)]


def _both_regions_at_once() -> list[Patch]:
    """Write the regions in one sync, as if two copies were enough."""
    real = Ring._commit

    def commit(self: Ring) -> None:
        for region in (0, 1):
            for number, octets in self._dirty[region].items():
                self._write(octets, self._layout.page_offset(region, number))
        real(self)

    def write_pages(self: Ring, page_no_first: int) -> None:
        for region in (0, 1):
            for number in [number for number in self._dirty[region] if number >= page_no_first]:
                self._write(self._dirty[region][number], self._layout.page_offset(region, number))

    return [(Ring, "_commit", commit), (Ring, "_write_pages", write_pages)]


def _regions_interleaved() -> list[Patch]:
    """Lay the two copies of a page side by side, in one flash page."""

    def page_offset(self: Layout, region: int, page_no: int) -> int:
        return _layout.UNIT_SIZE + (page_no % self.page_count * 2 + region) * _layout.PAGE_SIZE

    return [(Layout, "page_offset", page_offset)]


def _no_mirror() -> list[Patch]:
    """Go on after a crash without mending the damaged region."""
    return [(_ring, "mirror", _is_false)]


def _mirror_without_sync() -> list[Patch]:
    """Mend both regions before either is synced."""
    real = _recovery.mirror

    class Unsynced:
        def __init__(self, io: Any) -> None:
            self.io = io

        def __getattr__(self, name: str) -> Any:
            return getattr(self.io, name)

        def sync(self) -> None:
            pass

    return [(_ring, "mirror", lambda io, layout, found: real(Unsynced(io), layout, found))]


def _turns_stay() -> list[Patch]:
    """Write every sync to the same region."""
    real = Ring._commit

    def commit(self: Ring) -> None:
        real(self)
        self._turn = 0

    return [(Ring, "_commit", commit)]


def _seal_before_sync() -> list[Patch]:
    """Free journal pages before their block is synced."""
    real = Ring._write_block

    def write_block(self: Ring, *args: Any) -> None:
        sync = self._sync_io
        self._sync_io = lambda: None  # type: ignore[method-assign]
        try:
            real(self, *args)
        finally:
            self._sync_io = sync  # type: ignore[method-assign]

    return [(Ring, "_write_block", write_block)]


def _unfinished_appends_count() -> list[Patch]:
    """Take what an unfinished append left."""
    real = _journal.JournalReader.feed

    def feed(self: Any, header: Any, entries: bytes) -> None:
        import dataclasses

        real(self, dataclasses.replace(header, whole=header.used), entries)

    return [(_journal.JournalReader, "feed", feed)]


def _items_not_moved() -> list[Patch]:
    """Free pages whose items are still needed."""
    return [(_state.Table, "keys_in", lambda self, page_no: [])]


def _journal_goes_on_after_a_loss() -> list[Patch]:
    """Count pages behind an unfinished write."""

    def live_pages(copies: Any, newest: Any, synced_no: int) -> Any:
        return {no: copies[no] for no in range(newest.oldest_page_no, newest.page_no + 1) if no in copies}, 0

    return [(_recovery, "_live_pages", live_pages)]


def _cursor_leads() -> list[Patch]:
    """Store a cursor one too high."""
    real = _state.Consumer.encode

    def encode(self: _state.Consumer) -> bytes:
        return real(_state.Consumer(self.cursor + 1, self.ranges))

    return [(_state.Consumer, "encode", encode)]


def _order_not_kept() -> list[Patch]:
    """Give blocks back sorted by time."""

    def order(series: Any, times_ms: Any, places: Any) -> tuple[list[int], bytes]:
        return sorted(places), b""

    return [(_block, "_order", order)]


def _block_body_not_checked() -> list[Patch]:
    """Believe the newest block without checking its body."""
    return [(_recovery, "read_body", lambda *_: True)]


def _memory_apart_from_readings() -> list[Patch]:
    """Store the memory of an append as an append of its own, after the readings."""
    real = Ring._journal

    def journal(self: Ring, rows: Any, items: Any, clock: Any) -> None:
        real(self, rows, {key: value for key, value in items.items() if key[:1] != b"M"}, clock)
        real(self, [], {key: value for key, value in items.items() if key[:1] == b"M"}, clock)

    return [(Ring, "_journal", journal)]


MUTATIONS: list[Callable[[], list[Patch]]] = [
    _no_sync,
    _no_page_crc,
    _epoch_stays,
    _both_regions_at_once,
    _regions_interleaved,
    _no_mirror,
    _mirror_without_sync,
    _turns_stay,
    _seal_before_sync,
    _unfinished_appends_count,
    _items_not_moved,
    _journal_goes_on_after_a_loss,
    _cursor_leads,
    _order_not_kept,
    _block_body_not_checked,
    _memory_apart_from_readings,
]


@contextlib.contextmanager
def _patched(patches: list[Patch]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for target, name, replacement in patches:
            patch.setattr(target, name, replacement)
        yield


@pytest.mark.slow
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__.strip("_"))
def test_f01_the_simulator_catches(mutation: Callable[[], list[Patch]]) -> None:
    """A ring with a deliberate fault must break a promise within a few thousand cuts."""
    with _patched(mutation()), pytest.raises(ViolationError):
        run_seeds(0, MUTANT_CUTS_MAX)
