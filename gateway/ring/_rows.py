"""The stored form of a reading, between `Reading` on one side and journal and block on the other. Pure.

A *row* is ``(series, time_ms, kind, value, context)``: a plain tuple, because a ring makes millions of them.

- ``series`` is a small integer from the ring's dictionary: device, property, unit and decimals.
- ``kind`` says what ``value`` is; see ``KIND_…``. A SCALED value is the reading's float times ten to the series'
  decimals, where that gives it back exactly; every other float stays a float.
- ``context`` is what readings of one frame share: ``(quality, reasons, rssi_cdbm, snr_cdb, delay_ms)``. Link data
  are kept to 0.01 dB; the delay is received minus phenomenon time.

A *run* is a stretch of rows whose numbers follow each other within one epoch and one state of the clock. Series 0 is
the ring's own: its HOLE rows stand for ``value`` records that could not be kept.
"""

import functools
import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple, cast

from gateway.reading import Quality, Reading, Reason, Value
from gateway.ring.record import Record

KIND_MISSING = 0
KIND_SCALED = 1
KIND_FLOAT = 2
KIND_INT = 3
KIND_BOOL = 4
KIND_TEXT = 5
KIND_HOLE = 6
KIND_MIXED = 7  # in a block: the rows of this series differ

SERIES_OWN = 0
SERIES_MAX = 65_535

DECIMALS_MAX = 9
POWERS = tuple(10.0**decimals for decimals in range(DECIMALS_MAX + 1))
SCALED_MAX = 1e15  # below 2**53: whole numbers that a float holds exactly
INT_MIN, INT_MAX = -(1 << 63), (1 << 63) - 1

Context = tuple[int, int, int | None, int | None, int]
Row = tuple[int, int, int, "float | int | str", Context]
LoadedRow = tuple[int, int, Value, Context]  # as a block gives it back: series, time_ms, value, context
SeriesKey = tuple[str, str, str, int | None]  # device_id, observed_property, unit, decimals

PLAIN_CONTEXT: Context = (Quality.NOT_EVALUATED.value, 0, None, None, 0)
REASONS_MAX = 0xFFFF  # 16 bits are stored
LINK_MAX_CDB = 32_000  # ±320 dB: beyond any radio; more is stored as the bound
QUALITIES = {quality.value: quality for quality in Quality}


class Clock(NamedTuple):
    """What the gateway knew about time in a run: boot, UTC minus boot time in ms, and whether UTC was known."""

    boot_id: bytes
    wall_minus_boot_ms: int
    is_known: bool


class Run(NamedTuple):
    """``row_count`` rows numbered from ``seq_first`` on, all of one epoch and clock."""

    epoch: int
    seq_first: int
    row_count: int
    clock: Clock


def store_value(value: Value, decimals: int | None) -> "tuple[int, float | int | str]":
    """Return kind and stored value of a reading's value.

    Raises:
        ValueError: An integer beyond 64 bits.
    """
    if isinstance(value, float):
        if decimals is not None and 0 <= decimals <= DECIMALS_MAX:
            power = POWERS[decimals]
            scaled_exact = value * power
            if -SCALED_MAX < scaled_exact < SCALED_MAX:
                scaled = round(scaled_exact)
                if scaled / power == value and (scaled or math.copysign(1.0, value) > 0):  # -0.0 has no whole number
                    return KIND_SCALED, scaled
        return KIND_FLOAT, float(value)
    if value is None:
        return KIND_MISSING, 0
    if isinstance(value, str):
        return KIND_TEXT, value
    if isinstance(value, bool):
        return KIND_BOOL, int(value)
    if not INT_MIN <= value <= INT_MAX:
        raise ValueError(f"{value} needs more than 64 bits")
    return KIND_INT, int(value)


def load_value(kind: int, stored: "float | int | str", decimals: int | None) -> Value:
    """Return the reading's value again."""
    if kind == KIND_SCALED:
        return cast("int", stored) / POWERS[decimals or 0]
    if kind == KIND_MISSING:
        return None
    if kind == KIND_BOOL:
        return bool(stored)
    return stored


class SharedContext:
    """Gives readings their context, the same object for neighbours that are alike: less memory, quicker to compare."""

    __slots__ = ("_context", "_delay_ms", "_quality", "_reasons", "_rssi_dbm", "_snr_db")

    def __init__(self) -> None:
        self._quality, self._reasons = Quality.NOT_EVALUATED, Reason.NONE
        self._rssi_dbm: float | None = None
        self._snr_db: float | None = None
        self._delay_ms = 0
        self._context = PLAIN_CONTEXT

    def of(self, reading: Reading) -> Context:
        """Return the context of a reading."""
        quality, reasons, rssi_dbm, snr_db = reading.quality, reading.reasons, reading.rssi_dbm, reading.snr_db
        delay_ms = reading.received_time_ms - reading.phenomenon_time_ms
        if (
            quality is not self._quality
            or reasons is not self._reasons
            or delay_ms != self._delay_ms
            or rssi_dbm != self._rssi_dbm
            or snr_db != self._snr_db
        ):
            self._quality, self._reasons, self._rssi_dbm, self._snr_db = quality, reasons, rssi_dbm, snr_db
            self._delay_ms = delay_ms
            self._context = (
                int(quality),
                reasons.value & REASONS_MAX,
                None if rssi_dbm is None else _to_centi(rssi_dbm),
                None if snr_db is None else _to_centi(snr_db),
                delay_ms,
            )
        return self._context


def _to_centi(level_db: float) -> int | None:
    if not math.isfinite(level_db):
        return None  # a radio that says so says nothing
    return max(-LINK_MAX_CDB, min(LINK_MAX_CDB, round(level_db * 100)))


class _OpenReading:
    """A `Reading` in the making: same slots, but they can be set. See `records_of`."""

    __slots__ = (
        "decimals", "device_id", "observed_property", "phenomenon_time_ms", "quality", "reasons", "received_time_ms",
        "rssi_dbm", "snr_db", "unit", "value",
    )  # fmt: skip
    device_id: str
    observed_property: str
    value: Value
    unit: str
    phenomenon_time_ms: int
    received_time_ms: int
    decimals: int | None
    quality: Quality
    reasons: Reason
    rssi_dbm: float | None
    snr_db: float | None


class _OpenRecord:
    """A `Record` in the making."""

    __slots__ = ("boot_id", "boottime_ms", "clock_known", "epoch", "reading", "seq")
    seq: int
    epoch: int
    reading: Reading
    boot_id: bytes
    boottime_ms: int
    clock_known: bool


def records_of(
    run: Run,
    seq_first: int,
    names: Mapping[int, SeriesKey],
    rows: Iterable[LoadedRow],
) -> list[Record]:
    """Return the records of loaded rows ``(series, time_ms, value, context)``, numbered from ``seq_first`` on.

    A frozen dataclass sets each field through ``object.__setattr__``, which is four times as slow as this: fill an
    ordinary object of the same shape, then freeze it by giving it its real class. What went through `Reading` once
    needs no second check.
    """
    records: list[Record] = []
    epoch, clock = run.epoch, run.clock
    boot_id, wall_minus_boot_ms, clock_known = clock
    known_context: Context | None = None
    quality, reasons = Quality.NOT_EVALUATED, Reason.NONE
    rssi_dbm: float | None = None
    snr_db: float | None = None
    delay_ms = 0
    for seq, (series, time_ms, value, context) in enumerate(rows, seq_first):
        if context is not known_context:
            known_context = context
            quality, reasons = QUALITIES[context[0]], reasons_of(context[1])
            rssi_dbm = None if context[2] is None else context[2] / 100
            snr_db = None if context[3] is None else context[3] / 100
            delay_ms = context[4]
        reading = _OpenReading()
        reading.device_id, reading.observed_property, reading.unit, reading.decimals = names[series]
        reading.value = value
        reading.phenomenon_time_ms = time_ms
        reading.received_time_ms = received_time_ms = time_ms + delay_ms
        reading.quality = quality
        reading.reasons = reasons
        reading.rssi_dbm = rssi_dbm
        reading.snr_db = snr_db
        reading.__class__ = Reading  # type: ignore[assignment]
        record = _OpenRecord()
        record.seq = seq
        record.epoch = epoch
        record.reading = cast("Reading", reading)
        record.boot_id = boot_id
        record.boottime_ms = received_time_ms - wall_minus_boot_ms
        record.clock_known = clock_known
        record.__class__ = Record  # type: ignore[assignment]
        records.append(cast("Record", record))
    return records


@functools.lru_cache(maxsize=256)
def reasons_of(bits: int) -> Reason:
    """Return the flags of 16 bits; unknown ones of a newer writer stay in."""
    return Reason(bits)
