"""The storage faults F04 to F20, each by its number."""

import contextlib
import errno
import os
import pathlib
import random
import resource
import shutil
import subprocess
import sys

import pytest

from gateway.errors import RingBusyError, RingError, RingFormatError, RingSyncError
from gateway.ring import Gap, GapCause, Record, Ring
from gateway.ring._layout import PAGE_SIZE, Superblock
from gateway.ring._ring import MEMORY_ROWS_MAX
from tests.ring.conftest import SIZE
from tests.ring.samples import (
    START_MS,
    FailingMedium,
    assert_joined,
    fill,
    gaps,
    many,
    noisy,
    read_all,
    reading,
    records,
    stamp,
)


def reopen(medium: FailingMedium) -> Ring:
    return Ring.open("medium", size=medium.size(), io=medium)


@pytest.mark.slow
def test_f04_ten_thousand_restarts_with_one_reading_each_lose_nothing() -> None:
    medium = FailingMedium()
    ring = reopen(medium)
    old = fill(ring, random.Random(4), 20_000)
    for number in range(10_000):
        ring = reopen(medium)
        ring.append([reading(20_000 + number)], stamp())
        ring.sync()
    items = read_all(ring)
    assert gaps(items) == []
    assert [record.reading for record in records(items)] == [*old, *many(20_000, 10_000)]
    assert len({(record.epoch, record.seq) for record in records(items)}) == len(items) == 30_000


def test_f05_no_space_when_it_is_made_leaves_nothing_behind(tmp_path: pathlib.Path) -> None:
    code = (
        "import sys, resource, signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))\n"
        "from gateway.ring import Ring\n"
        "from gateway.errors import RingError\n"
        "try: Ring.open(sys.argv[1], size=1 << 20)\n"
        "except RingError as error: print(error)\n"
    )
    path = tmp_path / "x.ring"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert "cannot be made with" in done.stdout, done.stdout + done.stderr
    assert list(tmp_path.iterdir()) == []


def test_f06_p5_the_file_never_asks_for_more_space(path: pathlib.Path) -> None:
    with Ring.open(path, size=224 * 1024) as ring:
        before = path.stat()
        fill(ring, random.Random(6), 30_000)
        assert ring.stat().fill == 1.0
        after = path.stat()
    assert (after.st_size, after.st_blocks) == (before.st_size, before.st_blocks)


@pytest.mark.parametrize("failing_sync", range(1, 12))
def test_f07_one_failed_sync_loses_nothing_and_is_not_tried_on_the_same_pages(failing_sync: int) -> None:
    """The medium drops what it failed to sync, as Linux does: only what is written again elsewhere is there."""
    medium = FailingMedium()
    ring = reopen(medium)
    ring.add_consumer("city")
    expected = []
    for number in range(12):
        if number == failing_sync:
            medium.sync_errors = 1
        readings = many(number * 30, 30)
        ring.append(readings, stamp(), {"f_cnt": number})
        expected += readings
        assert ring.sync() == len(expected)
    assert ring.failure is None
    assert {"ring.write_failed", "ring.write_recovered"} <= {event.code for event in ring.events}
    again = reopen(medium)
    assert [record.reading for record in records(read_all(again))] == expected
    assert_joined(read_all(again), len(expected))
    assert again.recall("f_cnt") == 11
    assert again.cursor("city") == 0


@pytest.mark.parametrize("error", [errno.EIO, errno.EROFS, errno.ENOSPC])
@pytest.mark.parametrize("write_fails", [False, True])
def test_f08_f09_a_disk_that_fails_for_long(error: int, write_fails: bool) -> None:
    """Readings are numbered and kept; live ones can be read; all is stored once the disk works."""
    medium = FailingMedium()
    ring = reopen(medium)
    ring.append(many(0, 50), stamp(), {"f_cnt": 1})
    ring.sync()
    medium.error, medium.sync_errors, medium.write_fails = error, -1, write_fails
    for number in range(1, 40):
        with contextlib.suppress(RingSyncError):
            ring.append(many(number * 50, 50), stamp(), {"f_cnt": number + 1})
        if number % 3 == 0:
            with pytest.raises(RingSyncError):
                ring.sync()
    assert ring.failure is not None
    assert ring.failure.errno == error
    assert ring.head_seq == 2000
    assert len(ring.read(0, 5000)) == 50
    assert len(ring.read(0, 5000, with_unsynced=True)) == 2000
    medium.sync_errors, medium.write_fails = 0, False
    assert ring.sync() == 2000
    ring.append(many(2000, 10), stamp())
    ring.sync()
    for opened in (ring, reopen(medium)):
        assert [record.reading for record in records(read_all(opened))] == many(0, 2010)
        assert_joined(read_all(opened), 2010)
        assert opened.recall("f_cnt") == 40


def test_f08_what_memory_cannot_hold_becomes_a_gap() -> None:
    medium = FailingMedium(4 << 20)
    ring = reopen(medium)
    ring.append(many(0, 10), stamp())
    ring.sync()
    medium.sync_errors = -1
    total = 10
    while total < MEMORY_ROWS_MAX + 6000:
        with contextlib.suppress(RingSyncError):
            ring.append(many(total, 500), stamp())
        with pytest.raises(RingSyncError):
            ring.sync()
        total += 500
    medium.sync_errors = 0
    assert ring.sync() == total
    for opened in (ring, reopen(medium)):
        items = read_all(opened)
        assert_joined(items, total)
        dropped = gaps(items)
        assert dropped
        assert {gap.cause for gap in dropped} == {GapCause.DROPPED}
        assert dropped[0].from_ms == START_MS + dropped[0].seq_first * 1000
        assert dropped[-1].to_ms == START_MS + dropped[-1].seq_last * 1000
        assert len(records(items)) + sum(gap.count for gap in dropped) == total
        assert all(record.reading == reading(record.seq) for record in records(items))


def test_f10_short_writes_are_gone_on_with() -> None:
    medium = FailingMedium()
    ring = reopen(medium)
    medium.short_writes = True
    fill(ring, random.Random(10), 3000)
    medium.short_writes = False
    assert_joined(read_all(reopen(medium)), 3000)
    assert len(records(read_all(reopen(medium)))) == 3000


FLIP_SEEDS = 1000


@pytest.mark.slow
def test_f12_flipped_bits_cost_their_block_and_never_show_a_wrong_reading() -> None:
    """1 to 20 bits anywhere; it opens or is put aside, and what it gives is true."""
    medium = FailingMedium(288 * 1024)
    ring = reopen(medium)
    ring.add_consumer("city")
    expected = fill(ring, random.Random(12), 9000)
    ring.acknowledge("city", 0, 8000)
    ring.sync()
    whole = bytes(medium.octets)
    kept = len(records(read_all(ring)))
    overwritten = ring.tail_seq
    for seed in range(FLIP_SEEDS):
        rng = random.Random(seed)
        medium.octets[:] = whole
        for _ in range(rng.randrange(1, 21)):
            medium.octets[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        try:
            flipped = reopen(medium)
        except RingError:  # both superblocks: a file would be put aside (F13)
            continue
        items = read_all(flipped)
        assert all(record.reading == expected[record.seq] for record in records(items)), f"seed {seed}"
        assert_joined(items, flipped.head_seq)
        lost = kept - len(records(items))
        corrupt = sum(gap.count for gap in gaps(items) if gap.cause is GapCause.CORRUPT)
        assert lost <= corrupt + 9000 - flipped.head_seq + overwritten, f"seed {seed}: {lost} lost, {corrupt} told"
        flipped.append([reading(1)], stamp())
        flipped.sync()


def test_p6_flipped_bit_costs_one_block() -> None:
    medium = FailingMedium()
    ring = reopen(medium)
    expected = fill(ring, random.Random(6), 15_000)
    slots = ring._slots
    victim = slots.in_order()[1]
    medium.octets[ring._layout.slot_offset(victim) + 5000] ^= 4
    again = reopen(medium)
    items = read_all(again)
    (gap,) = gaps(items)
    assert gap.cause is GapCause.CORRUPT
    assert (gap.seq_first, gap.seq_last + 1) == (slots.field(victim, "seq_first"), slots.field(victim, "seq_end"))
    assert START_MS + (gap.seq_first - 1) * 1000 <= gap.from_ms
    assert gap.to_ms <= START_MS + (gap.seq_last + 1) * 1000
    assert [record.reading for record in records(items)] == [
        value for seq, value in enumerate(expected) if not gap.seq_first <= seq <= gap.seq_last
    ]
    assert again.damaged_blocks == 1
    assert "ring.block_damaged" in {event.code for event in again.events}


def damage(path: pathlib.Path, offset: int, octets: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(octets)


def test_f13_both_superblocks_destroyed_are_put_aside(path: pathlib.Path) -> None:
    with Ring.open(path, size=SIZE, now_s=5) as ring:
        ring.append(many(0, 3), stamp())
        region = ring._layout.region_size
    for place in (0, region):
        damage(path, place, b"\xff" * 100)
    before = path.read_bytes()
    with Ring.open(path, size=SIZE) as ring:
        assert [event.code for event in ring.events] == ["ring.replaced"]
        assert ring.head_seq == 0
        assert ring.epoch > 5
    assert path.with_name("test.ring.bad-1").read_bytes() == before


@pytest.mark.parametrize("place", [0, 1])
def test_f13_one_superblock_is_enough(path: pathlib.Path, place: int) -> None:
    with Ring.open(path, size=SIZE, now_s=5) as ring:
        ring.append(many(0, 3), stamp())
        offset = ring._layout.superblock_offset(place)
    damage(path, offset, os.urandom(16384))
    with Ring.open(path, size=SIZE) as ring:
        assert len(read_all(ring)) == 3
        assert ring.epoch > 5


@pytest.mark.parametrize("kind", ["truncated", "grown", "foreign", "empty"])
def test_f14_foreign_and_truncated_files_are_put_aside(path: pathlib.Path, kind: str) -> None:
    with Ring.open(path, size=SIZE) as ring:
        ring.append(many(0, 3), stamp())
    match kind:
        case "truncated":
            os.truncate(path, SIZE // 2)
        case "grown":
            os.truncate(path, SIZE + 4096)
        case "foreign":
            path.write_bytes(os.urandom(50_000))
        case _:
            path.write_bytes(b"")
    with Ring.open(path, size=SIZE) as ring:
        assert [event.code for event in ring.events] == ["ring.replaced"]
        assert ring.head_seq == 0
    assert path.stat().st_size == ring.stat().size
    assert path.with_name("test.ring.bad-1").exists()


def test_f14_f84_a_newer_ring_is_left_alone(path: pathlib.Path) -> None:
    with Ring.open(path, size=SIZE) as ring:
        layout = ring._layout
    newer = Superblock(2, 9, 3, layout, bytes(16)).encode()
    damage(path, 0, newer[:PAGE_SIZE])
    before = path.read_bytes()
    with pytest.raises(RingFormatError, match="version 2; this program knows up to 1") as caught:
        Ring.open(path, size=SIZE)
    assert caught.value.version_found == 2
    with pytest.raises(RingFormatError):
        Ring.open_read_only(path)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_f15_an_older_copy_put_back_never_repeats_an_id(path: pathlib.Path) -> None:
    backup = path.with_name("backup")
    ids = set()
    for round_number in range(6):
        with Ring.open(path, size=SIZE, now_s=1000 + round_number * 60) as ring:
            given = ring.append(many(0, 5), stamp())
            for seq in given:
                assert (ring.epoch, seq) not in ids
                ids.add((ring.epoch, seq))
        if round_number == 1:
            shutil.copy(path, backup)
        if round_number == 3:
            shutil.copy(backup, path)


def test_f16_a_second_process_is_told(ring: Ring, path: pathlib.Path) -> None:
    code = "import sys\nfrom gateway.ring import Ring\nRing.open(sys.argv[1], size=1 << 20)"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "another process has this ring open" in done.stderr
    with pytest.raises(RingBusyError):
        Ring.open(path, size=SIZE)
    with Ring.open_read_only(path) as looker:
        assert looker.head_seq == ring.head_seq
        with pytest.raises(RingError, match="reading only"):
            looker.append([], stamp())


def test_f17_a_consumer_left_behind_gets_one_gap(path: pathlib.Path) -> None:
    rng = random.Random(17)
    with Ring.open(path, size=224 * 1024) as ring:
        ring.add_consumer("slow")
        expected = fill(ring, rng, 12_000)
        items = ring.read(ring.cursor("slow"), 10**6)
        gap = items[0]
        assert isinstance(gap, Gap)
        assert (gap.seq_first, gap.seq_last, gap.count) == (0, ring.tail_seq - 1, ring.tail_seq)
        assert gap.cause is GapCause.OVERWRITTEN
        assert gap.to_ms == START_MS + gap.seq_last * 1000
        assert START_MS <= gap.from_ms < gap.to_ms
        assert [record.reading for record in records(items)] == expected[ring.tail_seq :]
    with Ring.open(path, size=224 * 1024) as ring:
        assert ring.read(ring.cursor("slow"), 1)[0] == gap, "the gap changed over a restart"


def test_f18_a_cursor_ahead_of_the_data_is_accepted(path: pathlib.Path) -> None:
    with Ring.open(path, size=SIZE) as ring:
        ring.append(many(0, 10), stamp())
        ring.add_consumer("ahead")
        ring.sync()
        ring._head = ring._journaled = 500  # as if a file had lost its end
        ring.acknowledge("ahead", 0, 499)
    with Ring.open(path, size=SIZE) as ring:
        assert ring.head_seq == 500
        assert list(ring.append(many(10, 1), stamp())) == [500]
        ring.sync()
        items = read_all(ring)
        assert_joined(items, 501)
        assert [(gap.seq_first, gap.seq_last, gap.cause) for gap in gaps(items)] == [(10, 499, GapCause.CORRUPT)]


def test_f19_lost_cursors_start_at_the_oldest(path: pathlib.Path) -> None:
    with Ring.open(path, size=SIZE) as ring:
        for number in range(0, 1000, 200):
            ring.append(many(number, 200), stamp())
        ring.add_consumer("city")
        ring.acknowledge("city", 0, 400)
        ring.sync()
        ring.append(many(1000, 200), stamp())
        ring.sync()
        layout = ring._layout
        home = ring._table._page_of[b"Ccity"]
    for region in (0, 1):
        damage(path, layout.page_offset(region, home) + 200, b"\xff" * 64)
    with Ring.open(path, size=SIZE) as ring:
        assert "ring.journal_damaged" in {event.code for event in ring.events}
        assert ring.add_consumer("city", "newest") == ring.tail_seq
        items = read_all(ring)
        assert_joined(items, ring.head_seq)
        assert all(record.reading == reading(record.seq) for record in records(items))


def test_f20_consumers_come_and_go(path: pathlib.Path) -> None:
    with Ring.open(path, size=SIZE) as ring:
        fill(ring, random.Random(20), 3000)
        assert ring.add_consumer("a") == 0
        assert ring.add_consumer("b", "newest") == 3000
        assert ring.add_consumer("c", START_MS + 1500 * 1000) == 1500
        assert ring.add_consumer("d", START_MS + 2999 * 1000) == 2999
        ring.acknowledge("a", 0, 9)
    with Ring.open(path, size=SIZE) as ring:
        assert [ring.add_consumer(name, "newest") for name in "abcd"] == [10, 3000, 1500, 2999]
        ring.remove_consumer("a")
        assert len(read_all(ring)) == 3000
    with Ring.open(path, size=SIZE) as ring:
        assert ring.consumers == ("b", "c", "d")
        with pytest.raises(KeyError):
            ring.cursor("a")


KILLS = 30


@pytest.mark.slow
def test_f30_p2_sigkill_takes_nothing_that_was_appended(path: pathlib.Path) -> None:
    """A process appends and says so; it is killed at a random moment; all it said must be there."""
    rng = random.Random(30)
    told = -1
    for _ in range(KILLS):
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.ring.appender", str(path)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout
        lines = rng.randrange(1, 60)
        for _ in range(lines):
            told = int(child.stdout.readline())
        child.kill()
        rest = child.stdout.read().split("\n")[:-1]
        told = int(rest[-1]) if rest else told
        child.wait()
        child.stdout.close()
        with Ring.open(path, size=SIZE) as ring:
            assert ring.head_seq > told
            kept = records(read_all(ring))
            assert all(record.reading == reading(record.seq) for record in kept)
            assert isinstance(read_all(ring)[-1], Record)
            assert ring.recall("count") == ring.head_seq
            assert_joined(read_all(ring), ring.head_seq)


LONG_RUN_READINGS = int(os.environ.get("LITFASS_LONG_RUN", "1_000_000"))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_p5_memory_of_a_process_that_appends_is_flat(path: pathlib.Path) -> None:
    """A million records in `make test`; LITFASS_LONG_RUN=10000000 for the long one."""
    with Ring.open(path, size=SIZE) as ring:
        rng = random.Random(1)
        pieces = [noisy(rng, number * 100, 100) for number in range(600)]
        before = 0
        for number in range(LONG_RUN_READINGS // 100):
            ring.append(pieces[number % 600], stamp())
            ring.sync()
            if number == 1200:
                before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert ring.head_seq == LONG_RUN_READINGS // 100 * 100
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 4096, "KiB"
