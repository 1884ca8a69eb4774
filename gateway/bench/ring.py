"""What a reading costs in the ring: octets, CPU, time to open and to look something up, beside SQLite.

Method: a day and a half of 200 made-up channels in 21 kinds, one reading a minute each (`gateway.bench.stream`), in
order of arrival, a quality flag with every reading; appended and synced per 100 readings. Octets are those of whole
slots (header, padding and all) per sealed reading. CPU is the process's, user and system, for append + sync + seal, and
for reading back into the same objects in batches of 1,000. SQLite does the same job: every field of the reading, an
index for curves by series and time, WAL, synchronous=FULL (what is committed survives a power cut), a commit per 100.
``ring.cpu_ratio_sqlite`` and ``ring.bytes_ratio_sqlite`` are ours by SQLite's, write + read. Opening: a full 64 MiB
ring, through the page cache. Range query: 24 h of one series amid 10 days of all channels at 1 ms.
"""

# ruff: noqa: S311  (nothing here is secret)
import contextlib
import gc
import os
import pathlib
import random
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from gateway.bench.stream import START_MS, readings
from gateway.clock import TimeStamp
from gateway.reading import Quality, Reading, Reason
from gateway.ring import SLOT_SIZE, Record, Ring

TITLE = "The ring"
DAYS = 1.5
QUERY_DAYS = 10
RING_SIZE = 64 << 20
SYNC_READINGS = 100
READ_COUNT = 1000
MINUTE_MS = 60_000
DAY_MS = 86_400_000


def run() -> dict[str, float]:
    """Return all figures by their stable keys."""
    with tempfile.TemporaryDirectory() as folder, _without_gc_pauses():
        path = pathlib.Path(folder)
        figures: dict[str, float] = {}
        for name, unit_ms in (("1s", 1000), ("1ms", 1)):
            stream = list(readings(DAYS, unit_ms=unit_ms))
            ours = _measure_ring(path / f"{name}.ring", stream)
            figures[f"ring.bytes_per_reading_{name}"] = ours["bytes_per_reading"]
            figures[f"ring.days_in_64mib_{name}"] = ours["days"]
            if name == "1s":
                figures["ring.append_cpu_us"] = ours["append_cpu_us"]
                figures["ring.read_cpu_us"] = ours["read_cpu_us"]
                theirs = _measure_sqlite(path / "peer.sqlite", stream)
                figures["ring.sqlite_bytes_per_reading"] = theirs["bytes_per_reading"]
                figures["ring.sqlite_append_cpu_us"] = theirs["append_cpu_us"]
                figures["ring.sqlite_read_cpu_us"] = theirs["read_cpu_us"]
                figures["ring.cpu_ratio_sqlite"] = (ours["append_cpu_us"] + ours["read_cpu_us"]) / (
                    theirs["append_cpu_us"] + theirs["read_cpu_us"]
                )
                figures["ring.bytes_ratio_sqlite"] = ours["bytes_per_reading"] / theirs["bytes_per_reading"]
        figures.update(_measure_query(path / "query.ring"))
        figures.update(_measure_open(path / "full.ring"))
        return figures


@contextlib.contextmanager
def _without_gc_pauses() -> Iterator[None]:
    """Keep the stream, which only the measurement holds, out of the collector's walks."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _stamp(wall_ms: int) -> TimeStamp:
    return TimeStamp(bytes(16), wall_ms - 1_700_000_000_000, wall_ms, True)


def _fill(ring: Ring, stream: list[Reading]) -> None:
    """Append a stream, synced after every so many readings."""
    for first in range(0, len(stream), SYNC_READINGS):
        batch = stream[first : first + SYNC_READINGS]
        ring.append(batch, _stamp(batch[-1].received_time_ms))
        ring.sync()


def _measure_ring(path: pathlib.Path, stream: list[Reading]) -> dict[str, float]:
    gc.collect()
    gc.freeze()
    with Ring.open(path, size=RING_SIZE, now_s=1) as ring:
        began_s = time.process_time()
        _fill(ring, stream)
        append_s = time.process_time() - began_s
        stat = ring.stat()
        began_s = time.process_time()
        seq = 0
        while records := ring.read(seq, READ_COUNT):
            seq += len(records)
        read_s = time.process_time() - began_s
        if seq != len(stream):
            raise AssertionError(f"{seq} of {len(stream)} readings came back")
        return {
            "bytes_per_reading": stat.bytes_per_reading,
            "days": stat.slots * SLOT_SIZE / stat.bytes_per_reading / _readings_per_day(stream),
            "append_cpu_us": append_s / len(stream) * 1e6,
            "read_cpu_us": read_s / len(stream) * 1e6,
        }


def _readings_per_day(stream: list[Reading]) -> float:
    span_ms = stream[-1].phenomenon_time_ms - stream[0].phenomenon_time_ms
    return len(stream) * DAY_MS / span_ms


def _measure_sqlite(path: pathlib.Path, stream: list[Reading]) -> dict[str, float]:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        database.execute(
            "CREATE TABLE series (id INTEGER PRIMARY KEY, device TEXT, property TEXT, unit TEXT, decimals)"
        )
        database.execute(
            "CREATE TABLE reading (seq INTEGER PRIMARY KEY, series INTEGER, phenomenon_ms INTEGER, received_ms INTEGER,"
            " value, quality INTEGER, reasons INTEGER, rssi_dbm REAL, snr_db REAL)"
        )
        database.execute("CREATE INDEX by_series ON reading (series, phenomenon_ms)")
        insert = "INSERT INTO reading VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?)"
        began_s = time.process_time()
        numbers: dict[tuple[str, str, str, int | None], int] = {}
        for first in range(0, len(stream), SYNC_READINGS):
            rows = []
            for reading in stream[first : first + SYNC_READINGS]:
                key = (reading.device_id, reading.observed_property, reading.unit, reading.decimals)
                number = numbers.get(key)
                if number is None:
                    number = numbers[key] = len(numbers)
                    database.execute("INSERT INTO series VALUES (?, ?, ?, ?, ?)", (number, *key))
                rows.append((
                    number, reading.phenomenon_time_ms, reading.received_time_ms, reading.value, int(reading.quality),
                    int(reading.reasons), reading.rssi_dbm, reading.snr_db,
                ))  # fmt: skip
            database.execute("BEGIN")
            database.executemany(insert, rows)
            database.execute("COMMIT")
        append_s = time.process_time() - began_s
        began_s = time.process_time()
        names = {number: key for key, number in numbers.items()}
        seq = 0
        query = "SELECT * FROM reading WHERE seq > ? ORDER BY seq LIMIT ?"
        while found := database.execute(query, (seq, READ_COUNT)).fetchall():
            records = [_record(row, names[row[1]]) for row in found]
            seq = records[-1].seq
        read_s = time.process_time() - began_s
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return {
        "bytes_per_reading": os.stat(path).st_size / len(stream),
        "append_cpu_us": append_s / len(stream) * 1e6,
        "read_cpu_us": read_s / len(stream) * 1e6,
    }


def _record(row: tuple[Any, ...], names: tuple[str, str, str, int | None]) -> Record:
    seq, _, phenomenon_ms, received_ms, value, quality, reasons, rssi_dbm, snr_db = row
    device_id, observed_property, unit, decimals = names
    reading = Reading(
        device_id, observed_property, value, unit, phenomenon_ms, received_ms, decimals, Quality(quality),
        Reason(reasons), rssi_dbm, snr_db,
    )  # fmt: skip
    return Record(seq, 0, reading, bytes(16), received_ms, True)


def _measure_query(path: pathlib.Path) -> dict[str, float]:
    """Return how long it takes to fetch a day of one series; one day's stream is appended again and again, moved on."""
    day = list(readings(1.0, unit_ms=1))
    with Ring.open(path, size=RING_SIZE, now_s=1) as ring:
        for number in range(QUERY_DAYS):
            _fill(ring, [_moved(reading, number * DAY_MS) for reading in day])
        from_ms = day[0].phenomenon_time_ms + QUERY_DAYS // 2 * DAY_MS
        began_s = time.perf_counter()
        found = ring.read_series(day[0].device_id, day[0].observed_property, from_ms, from_ms + DAY_MS)
        query_s = time.perf_counter() - began_s
    return {"ring.range_query_24h_ms": query_s * 1000, "ring.range_query_readings": float(len(found))}


def _moved(reading: Reading, by_ms: int) -> Reading:
    time_ms = reading.phenomenon_time_ms + by_ms
    return Reading(
        reading.device_id, reading.observed_property, reading.value, reading.unit, time_ms, time_ms, reading.decimals,
        reading.quality,
    )  # fmt: skip


def _measure_open(path: pathlib.Path) -> dict[str, float]:
    """Return how long it takes to open a full ring; long texts that cannot be deflated fill it quickly."""
    rng = random.Random(1)
    time_ms = START_MS
    with Ring.open(path, size=RING_SIZE, now_s=1) as ring:
        while ring.stat().fill < 1.0:
            batch: list[Reading] = []
            for _ in range(100):
                time_ms += MINUTE_MS
                text = rng.randbytes(512).hex()
                batch.append(Reading("noise", "text", text, "", time_ms, time_ms, None, Quality.PASS))
            ring.append(batch, _stamp(time_ms))
            ring.sync()
    began_s = time.perf_counter()
    with Ring.open(path, size=RING_SIZE, now_s=1):
        open_s = time.perf_counter() - began_s
    return {"ring.open_64mib_ms": open_s * 1000}
