"""F41 with the real ring: counter and readings are there together or not at all, wherever a crash cuts."""

import pathlib
import shutil
from collections.abc import Mapping, Sequence

import pytest

from drivers.lorawan.receiver import Reception, UplinkReceiver
from gateway.driver import MemoryValue, ReplayError
from gateway.reading import Reading
from gateway.ring import Ring
from tests.fakes.sink import RecordingSink
from tests.lorawan.street import FRAMES, NOW_MS, MovableClock, device

RING_SIZE = 1 << 20
KEY = "f_cnt_up/isar-pegel-3"


class RingSink(RecordingSink):
    """A sink over a ring file."""

    def __init__(self, ring: Ring, clock: MovableClock) -> None:
        super().__init__()
        self._ring = ring
        self._clock = clock

    async def append(self, readings: Sequence[Reading], *, memory: Mapping[str, MemoryValue] | None = None) -> bool:
        self._ring.append(readings, self._clock.stamp(), memory)
        return await super().append(readings, memory=memory)

    def recall(self, key: str) -> MemoryValue | None:
        return self._ring.recall(key)


def reception(f_cnt: int) -> Reception:
    return Reception(FRAMES[f_cnt].phy_payload, NOW_MS, NOW_MS)


@pytest.mark.parametrize("frame_count", range(1, 7))
async def test_f41_killed_after_any_frame_and_all_of_them_replayed(tmp_path: pathlib.Path, frame_count: int) -> None:
    clock = MovableClock()
    with Ring.open(tmp_path / "before.lfr", size=RING_SIZE) as ring:
        sink, receiver = RingSink(ring, clock), UplinkReceiver([device()], clock)
        receiver.recall(sink)
        for f_cnt in range(frame_count):
            await receiver.take(reception(f_cnt), sink)
        shutil.copy(tmp_path / "before.lfr", tmp_path / "after.lfr")  # what a SIGKILL now would leave
    with Ring.open(tmp_path / "after.lfr", size=RING_SIZE) as ring:
        assert ring.recall(KEY) == frame_count
        assert ring.head_seq == 2 * frame_count
        sink, receiver = RingSink(ring, clock), UplinkReceiver([device()], clock)
        receiver.recall(sink)
        for f_cnt in range(frame_count):
            await receiver.take(reception(f_cnt), sink)
        assert ring.head_seq == 2 * frame_count
        assert sink.counters["duplicate"] == 1
        assert [type(error) for error in sink.rejected] == [ReplayError] * (frame_count - 1)
        await receiver.take(reception(frame_count), sink)
        assert ring.head_seq == 2 * frame_count + 2


async def test_f41_every_cut_keeps_counter_and_readings_together(tmp_path: pathlib.Path) -> None:
    """Put back the octets that the last frame changed, one after the other: a power cut that stops there."""
    clock = MovableClock()
    with Ring.open(tmp_path / "ring.lfr", size=RING_SIZE) as ring:
        sink, receiver = RingSink(ring, clock), UplinkReceiver([device()], clock)
        receiver.recall(sink)
        await receiver.take(reception(0), sink)
        await receiver.take(reception(1), sink)
        ring.sync()
        before = (tmp_path / "ring.lfr").read_bytes()
        await receiver.take(reception(2), sink)
        after = (tmp_path / "ring.lfr").read_bytes()
    changed = [place for place in range(RING_SIZE) if before[place] != after[place]]
    assert changed
    found = set()
    for cut in range(len(changed) + 1):
        torn = bytearray(before)
        for place in changed[:cut]:
            torn[place] = after[place]
        (tmp_path / "torn.lfr").write_bytes(torn)
        with Ring.open(tmp_path / "torn.lfr", size=RING_SIZE) as ring:
            counter = ring.recall(KEY)
            assert isinstance(counter, int)
            assert ring.head_seq == 2 * counter, f"cut {cut}"
            found.add(counter)
    assert found == {2, 3}
