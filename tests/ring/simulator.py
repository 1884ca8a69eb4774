"""A medium whose power can be cut, a workload that uses a ring on it, and the invariants checked after each cut.

Model of the medium: what was synced stays. Of what was written since, each write is kept, lost, torn at 512 octets or
garbled, at random; with ``unit_dies`` the whole 16 KiB flash page around a write in flight may turn to garbage, too.
The power goes at a random operation, also while the ring is opened again.

    python -m tests.ring.simulator --cuts 1000000        runs as many cuts (`make crash`)
"""

import argparse
import contextlib
import random
import sys
import time

from gateway.clock import TimeStamp
from gateway.reading import Quality, Reading, Reason, Value
from gateway.ring import Gap, Record, Ring
from gateway.ring._ring import format_medium

SECTOR_SIZE = 512
UNIT_SIZE = 16384
MEDIUM_SIZE = 224 * 1024  # two regions of 80 KiB, four slots
OPERATIONS_MAX = 60  # between two cuts
CONSUMER = "city"
KEYS = 4


class PowerCutError(BaseException):
    """The power is gone. No code of the ring may catch this."""


class Medium:
    """A `BlockIO` in memory that forgets what was not synced."""

    def __init__(self, size: int, rng: random.Random, *, unit_dies: bool) -> None:
        self.durable = bytearray(size)
        self.visible = bytearray(size)
        self.pending: list[tuple[int, bytes]] = []
        self.budget: int | None = None
        self.rng = rng
        self.unit_dies = unit_dies
        self.written = 0

    def _tick(self) -> None:
        if self.budget is not None:
            self.budget -= 1
            if self.budget < 0:
                raise PowerCutError

    def pread(self, size: int, offset: int) -> bytes:
        return bytes(self.visible[offset : offset + size])

    def pwrite(self, octets: bytes, offset: int) -> int:
        self.pending.append((offset, bytes(octets)))
        self.visible[offset : offset + len(octets)] = octets
        self.written += len(octets)
        self._tick()
        return len(octets)

    def sync(self) -> None:
        self._tick()  # a cut during the sync: nothing is promised
        for offset, octets in self.pending:
            end = offset + len(octets)
            self.durable[offset:end] = self.visible[offset:end]
        self.pending.clear()

    def size(self) -> int:
        return len(self.visible)

    def close(self) -> None:
        pass

    def power_cut(self) -> None:
        """Leave what a medium may hold after the power went."""
        rng = self.rng
        touched = list(self.pending)
        for offset, octets in touched:
            fate = rng.random()
            if fate < 0.25:
                continue
            if fate < 0.5:
                self.durable[offset : offset + len(octets)] = octets
                continue
            for start in range(0, len(octets), SECTOR_SIZE):
                part = octets[start : start + SECTOR_SIZE]
                luck = rng.random()
                if luck < 0.5:
                    self.durable[offset + start : offset + start + len(part)] = part
                elif luck < 0.6:
                    self.durable[offset + start : offset + start + len(part)] = rng.randbytes(len(part))
        units = sorted({offset // UNIT_SIZE * UNIT_SIZE for offset, _ in touched})
        if self.unit_dies and rng.random() < 0.7:
            for unit in units:
                if rng.random() < 0.7:
                    self.durable[unit : unit + UNIT_SIZE] = rng.randbytes(UNIT_SIZE)
        self.restart()

    def restart(self) -> None:
        """Show what is on the medium."""
        self.visible[:] = self.durable
        self.pending.clear()
        self.budget = None

    def kill(self) -> None:
        """The process died, the kernel lives: everything written is still seen, nothing more is synced."""
        self.budget = None


class ViolationError(AssertionError):
    """A promise was broken. The seed and the number of the cut replay it."""


def require(condition: object, what: str) -> None:
    if not condition:
        raise ViolationError(what)


class Workload:
    """A gateway's use of a ring, and a plain record of what it must keep."""

    def __init__(self, seed: int, *, unit_dies: bool, size: int = MEDIUM_SIZE) -> None:
        self.rng = random.Random(seed)
        self.medium = Medium(size, self.rng, unit_dies=unit_dies)
        format_medium(self.medium, now_s=1)
        self.truth: dict[tuple[int, int], Reading] = {}  # every id ever given out, and what it stands for
        self.synced: dict[int, int] = {}  # seq -> epoch of what a sync promised to keep
        self.memory_of: dict[tuple[int, int], int] = {}  # id of the first reading of an append -> counter with it
        self.counter = 0
        self.counter_synced = 0
        self.cursors_allowed = {0}
        self.time_ms = 1_780_000_000_000
        self.size = size
        self.boot = 0
        self.cuts = 0
        self.epochs: list[int] = []
        self.has_consumer = False
        self.ring: Ring | None = None
        self.kept_min = 10**9

    def open(self) -> Ring:
        ring = Ring.open("simulated", size=self.size, io=self.medium)
        require(not self.epochs or ring.epoch > self.epochs[-1], "the epoch did not rise")
        self.epochs.append(ring.epoch)
        self.boot += 1
        return ring

    def stamp(self) -> TimeStamp:
        return TimeStamp(bytes([self.boot % 251] * 16), self.time_ms - 1_700_000_000_000, self.time_ms, True)

    def reading(self) -> Reading:
        rng = self.rng
        self.time_ms += rng.randrange(0, 900)
        series = rng.randrange(24)
        value: Value
        match series % 6:
            case 0 | 1 | 2:
                value = rng.randrange(-5000, 5000) / 10
            case 3:
                value = rng.random() * 1e6
            case 4:
                value = rng.choice([None, rng.randrange(1 << 40), True, "offen", "é" * rng.randrange(12)])
            case _:
                value = rng.randrange(2) == 1
        return Reading(
            f"dev-{series}", "water_level", value, "m", self.time_ms, self.time_ms + rng.choice([0, 0, 40]), 1,
            rng.choice([Quality.PASS, Quality.SUSPECT]), rng.choice([Reason.NONE, Reason.RANGE]),
            rng.choice([None, -91.0]), rng.choice([None, 7.25]),
        )  # fmt: skip

    def append(self, ring: Ring) -> None:
        readings = [self.reading() for _ in range(self.rng.randrange(0, 40))]
        if self.rng.random() < 0.02:
            readings = (readings * 12)[:200]  # an append of several pages
        counter = self.counter + 1
        memory: dict[str, int | str | bytes | None] = {
            "counter": counter,
            f"key-{counter % KEYS}": bytes([counter % 256]) * self.rng.randrange(600),
        }
        seq, epoch = ring.head_seq, ring.epoch
        for index, reading in enumerate(readings):
            require((epoch, seq + index) not in self.truth, f"id {(epoch, seq + index)} given out twice")
            self.truth[epoch, seq + index] = reading
        if readings:
            self.memory_of[epoch, seq] = counter
            for index in range(1, len(readings)):
                self.memory_of[epoch, seq + index] = counter
        self.counter = counter
        given = ring.append(readings, self.stamp(), memory)
        require(given == range(seq, seq + len(readings)), f"append gave {given}")

    def sync(self, ring: Ring) -> None:
        head, epoch, counter = ring.head_seq, ring.epoch, self.counter
        cursor = ring.cursor(CONSUMER)
        self.cursors_allowed.add(cursor)
        require(ring.sync() == head, "sync did not reach the head")
        for seq in range(max(self.synced, default=-1) + 1, head):
            if (epoch, seq) in self.truth:
                self.synced[seq] = epoch
        self.counter_synced = counter
        self.cursors_allowed = {cursor}

    def consume(self, ring: Ring) -> None:
        """Read from the cursor on, check it, acknowledge some of it."""
        position = ring.cursor(CONSUMER)
        items = ring.read(position, self.rng.choice([7, 100, 100_000]))
        end = self.check_items(items, position)
        if items and self.rng.random() < 0.8:
            ring.acknowledge(CONSUMER, position, end - 1)
            self.cursors_allowed.add(ring.cursor(CONSUMER))
        elif len(items) > 3:
            ring.acknowledge(CONSUMER, end - 1, end - 1)  # live first

    def check_items(self, items: list[Record | Gap], position: int) -> int:
        """I2 and I3: nothing invented, no holes. Return where the items end."""
        for item in items:
            if isinstance(item, Gap):
                require(item.seq_first == position, f"hole before {item}, expected {position}")
                require(item.count == item.seq_last - item.seq_first + 1 > 0, f"miscounted {item}")
                position = item.seq_last + 1
            else:
                truth = self.truth.get((item.epoch, item.seq))
                if item.seq != position:
                    raise ViolationError(f"hole: {item.seq}, expected {position}")
                if truth is None:
                    raise ViolationError(f"id {(item.epoch, item.seq)} was never given out")
                if not same(truth, item.reading):
                    raise ViolationError(f"{item.reading} is not {truth}")
                position += 1
        return position

    def use(self, ring: Ring) -> None:
        """Do what a gateway does until the power goes."""
        while True:
            luck = self.rng.random()
            if luck < 0.55:
                self.append(ring)
            elif luck < 0.85:
                self.sync(ring)
            else:
                self.consume(ring)

    def run(self, cuts: int) -> None:
        """Go through so many cuts.

        Raises:
            ViolationError: A promise was broken.
        """
        while self.cuts < cuts:
            self.medium.budget = self.rng.randrange(1, OPERATIONS_MAX)
            try:
                ring = self.open()
                if not self.has_consumer:
                    ring.add_consumer(CONSUMER)
                    ring.sync()
                    self.has_consumer = True
                self.use(ring)
            except PowerCutError:
                pass
            self.cuts += 1
            if self.rng.random() < 0.15:
                self.medium.kill()
            else:
                self.medium.power_cut()
            if self.rng.random() < 0.3:
                self.cut_opening()
            if self.has_consumer:
                self.check()

    def cut_opening(self) -> None:
        """Cut the power while the ring is opened, several times (F03)."""
        for _ in range(self.rng.randrange(1, 4)):
            self.medium.budget = self.rng.randrange(0, 8)
            with contextlib.suppress(PowerCutError):
                self.open()
            self.cuts += 1
            self.medium.power_cut()

    def check(self) -> None:
        """I1 to I4, on a ring opened after the cut, with time to do so."""
        ring = self.open()
        self.ring = ring
        items = ring.read(0, 10**9)
        end = self.check_items(items, 0)
        require(end == ring.head_seq == ring.synced_seq, f"read to {end}, head {ring.head_seq}")
        kept = {item.seq: item.epoch for item in items if isinstance(item, Record)}
        oldest = min(kept, default=ring.head_seq)
        for seq, epoch in self.synced.items():
            if seq >= oldest:
                found = kept.get(seq)
                if found != epoch:
                    raise ViolationError(f"synced record {(epoch, seq)} is gone; oldest kept is {oldest}")
        if self.synced:
            last = max(self.synced)
            require(last < ring.head_seq, f"synced to {last}, but the head is {ring.head_seq}")
        for seq in [seq for seq in self.synced if seq < oldest]:
            del self.synced[seq]
        self.check_memory(ring, kept)
        cursor = ring.cursor(CONSUMER)
        require(cursor <= ring.head_seq, f"the cursor leads: {cursor}, head {ring.head_seq}")
        require(cursor in self.cursors_allowed, f"cursor {cursor}, expected one of {self.cursors_allowed}")
        self.cursors_allowed = {cursor}
        # what was recovered is promised from now on
        self.synced.update(kept)
        self.has_consumer = True

    def check_memory(self, ring: Ring, kept: dict[int, int]) -> None:
        """Readings and the counter of their append are there together or not at all."""
        counter = ring.recall("counter") or 0
        require(isinstance(counter, int), "the counter is no integer")
        assert isinstance(counter, int)
        require(counter >= self.counter_synced, f"counter {counter}, but {self.counter_synced} was synced")
        require(counter <= self.counter, f"counter {counter} was never stored")
        newest = max((self.memory_of.get((epoch, seq), 0) for seq, epoch in kept.items()), default=0)
        require(newest <= counter, f"readings of append {newest} without their counter: {counter}")
        for key in range(KEYS):
            value = ring.recall(f"key-{key}")
            last = counter - (counter - key) % KEYS
            if last > 0 and isinstance(value, bytes) and value:
                require(value[0] == last % 256, f"key-{key} is of append {value[0]}, expected {last} (of {counter})")
        whole = {id_: number for id_, number in self.memory_of.items() if number == counter}
        present = [seq for (epoch, seq) in whole if kept.get(seq) == epoch]
        require(not present or len(present) == len(whole), f"append {counter} is there in part: {present} of {whole}")
        self.memory_of = {id_: number for id_, number in self.memory_of.items() if number <= counter}
        self.counter = self.counter_synced = counter


def same(one: Reading, other: Reading) -> bool:
    return one == other and type(one.value) is type(other.value)


def run_seeds(first_seed: int, cuts_min: int, *, cuts_per_seed: int = 30) -> tuple[int, int]:
    """Run workloads from ``first_seed`` on until there were ``cuts_min`` cuts; return cuts and the next seed.

    Odd seeds let whole flash pages die.

    Raises:
        ViolationError: With the seed that replays it.
    """
    cuts, seed = 0, first_seed
    while cuts < cuts_min:
        workload = Workload(seed, unit_dies=bool(seed % 2))
        try:
            workload.run(cuts_per_seed)
        except Exception as error:
            raise ViolationError(f"seed {seed}, cut {workload.cuts}: {error!r}") from error
        cuts += workload.cuts
        seed += 1
    return cuts, seed


def main() -> int:
    parser = argparse.ArgumentParser(description="Cut the power of a ring again and again.")
    parser.add_argument("--cuts", type=int, default=1_000_000)
    parser.add_argument("--first-seed", type=int, default=0)
    args = parser.parse_args()
    began_s = time.monotonic()
    cuts, seed = 0, args.first_seed
    while cuts < args.cuts:
        more, seed = run_seeds(seed, min(300, args.cuts - cuts))
        cuts += more
        rate = cuts / (time.monotonic() - began_s)
        sys.stdout.write(f"\r{cuts:,} cuts, {rate:.0f}/s, next seed {seed}, 0 violations")
        sys.stdout.flush()
    sys.stdout.write("\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
