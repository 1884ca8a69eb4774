"""Look into a ring, also of a stopped, running or broken gateway."""

import argparse
import csv
import dataclasses
import json
import pathlib
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TextIO

from gateway.cli import EXIT_FAILED, EXIT_OK

if TYPE_CHECKING:
    from gateway.ring import Gap, Record, Ring

EXAMPLES = """\
  litfass ring stat /var/lib/litfass/ring                         fill, span, bytes per reading, who is behind
  litfass ring dump /var/lib/litfass/ring --last 20               the newest records
  litfass ring dump /var/lib/litfass/ring --from-seq 1000 --json  one JSON object a line
  litfass ring verify /var/lib/litfass/ring                       check every block; exit code 1 where one is damaged
  litfass ring export /var/lib/litfass/ring readings.csv          everything, for a spreadsheet
  litfass ring export /var/lib/litfass/ring readings.parquet      the same for data tools (extra `parquet`)
  litfass ring resize /var/lib/litfass/ring new.ring --size 128MiB   copy into a ring of another size

All but resize only read, and may be used on the ring of a running gateway."""

READ_COUNT = 2000  # records read at once
PARQUET_ROWS = 50_000  # in one row group
COLUMNS = (
    "epoch", "seq", "device_id", "observed_property", "value", "unit", "phenomenon_time_ms", "received_time_ms",
    "quality", "reasons", "rssi_dbm", "snr_db", "boottime_ms", "clock_known",
)  # fmt: skip
_SIZE_UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(title="actions", metavar="ACTION", dest="action", required=True)
    for name, text, action in (
        ("stat", "what it holds and who is behind", _stat),
        ("dump", "print records and gaps", _dump),
        ("verify", "check every block and page", _verify),
        ("export", "write readings to a CSV or Parquet file", _export),
        ("resize", "copy into a new ring of another size; ids, cursors and memory stay", _resize),
    ):
        sub = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        sub.add_argument("path", metavar="PATH", type=pathlib.Path, help="the ring file")
        sub.set_defaults(do=action)
        if name in ("stat", "dump", "verify"):
            sub.add_argument("--json", action="store_true", help="machine-readable output")
        if name == "dump":
            sub.add_argument("--from-seq", metavar="SEQ", type=int, help="begin with this record")
            sub.add_argument("--last", metavar="N", type=int, help="only the newest N")
        if name == "export":
            sub.add_argument("out", metavar="OUT", type=pathlib.Path, help="file to write: *.csv or *.parquet")
        if name == "resize":
            sub.add_argument("out", metavar="NEW", type=pathlib.Path, help="the new ring; must not exist")
            sub.add_argument("--size", required=True, type=_size, help="such as 128MiB")


def _size(text: str) -> int:
    for unit, factor in _SIZE_UNITS.items():
        if text.endswith(unit) and text[: -len(unit)].strip().isdigit():
            return int(text[: -len(unit)]) * factor
    raise argparse.ArgumentTypeError(f"{text!r}; expected a size such as 64MiB")


def run(args: argparse.Namespace) -> int:
    from gateway.errors import RingError
    from gateway.ring import Ring

    try:
        with Ring.open_read_only(args.path) as ring:
            action: Callable[[Ring, argparse.Namespace], int] = args.do
            return action(ring, args)
    except RingError as error:
        print(f"litfass ring: {error}", file=sys.stderr)
        return EXIT_FAILED


def _stat(ring: "Ring", args: argparse.Namespace) -> int:
    from gateway.clock import utc_text

    stat = ring.stat()
    span_days = ((stat.to_ms or 0) - (stat.from_ms or 0)) / 86_400_000
    wear = stat.bytes_per_reading * stat.records / span_days if span_days > 0 else 0.0
    if args.json:
        values = dataclasses.asdict(stat)
        for name in ("bytes_written", "syncs"):  # of a looker: nothing
            del values[name]
        print(json.dumps({**values, "sealed_bytes_per_day": wear}))
        return EXIT_FAILED if stat.damaged_blocks else EXIT_OK
    span = "empty"
    if stat.from_ms is not None and stat.to_ms is not None:
        span = f"{utc_text(stat.from_ms)} to {utc_text(stat.to_ms)} ({span_days:.1f} days)"
    rows = [
        ("file", f"{stat.path}, {stat.size / (1 << 20):g} MiB"),
        ("records", f"{stat.records:,} ({stat.tail_seq} to {stat.head_seq - 1}), epoch {stat.epoch}"),
        ("span", span),
        ("fill", f"{stat.fill:.1%} of {stat.slots} slots"),
        ("bytes per reading", f"{stat.bytes_per_reading:.2f}" if stat.bytes_per_reading else "nothing sealed yet"),
        ("sealed a day", f"{wear / (1 << 20):.2f} MiB" if wear else "-"),
        ("series", str(stat.series)),
        ("memory", f"{stat.memory_size} bytes"),
        ("damaged blocks", str(stat.damaged_blocks)),
    ]
    for consumer in stat.consumers:
        since = f", oldest from {utc_text(consumer.oldest_unsent_ms)}" if consumer.oldest_unsent_ms is not None else ""
        rows.append((f"consumer {consumer.name}", f"at {consumer.cursor}, {consumer.backlog_records:,} to send{since}"))
    for name, text in rows:
        print(f"{name:<20}{text}")
    return EXIT_FAILED if stat.damaged_blocks else EXIT_OK


def _items(ring: "Ring", from_seq: int, label: str = "") -> "Iterator[Record | Gap]":
    """Yield everything from ``from_seq`` on, with progress on a terminal."""
    from gateway.ring import Gap

    first, seq, head = from_seq, from_seq, ring.head_seq
    while True:
        items = ring.read(seq, READ_COUNT, with_unsynced=True)
        if not items:
            break
        yield from items
        last = items[-1]
        seq = (last.seq_last if isinstance(last, Gap) else last.seq) + 1
        if label and sys.stderr.isatty():
            print(f"\r{label} {(seq - first) / max(1, head - first):4.0%}", end="", file=sys.stderr, flush=True)
    if label and sys.stderr.isatty():
        print(file=sys.stderr)


def _row(record: "Record") -> tuple[Any, ...]:
    reading = record.reading
    return (
        record.epoch, record.seq, reading.device_id, reading.observed_property, reading.value, reading.unit,
        reading.phenomenon_time_ms, reading.received_time_ms, int(reading.quality), int(reading.reasons),
        reading.rssi_dbm, reading.snr_db, record.boottime_ms, record.clock_known,
    )  # fmt: skip


def _dump(ring: "Ring", args: argparse.Namespace) -> int:
    from gateway.clock import utc_text
    from gateway.ring import Gap

    from_seq = ring.tail_seq if args.from_seq is None else args.from_seq
    if args.last is not None:
        from_seq = max(from_seq, ring.head_seq - args.last)
    for item in _items(ring, from_seq):
        if args.json:
            content = dataclasses.asdict(item) if isinstance(item, Gap) else dict(zip(COLUMNS, _row(item), strict=True))
            print(json.dumps({"gap": content} if isinstance(item, Gap) else content, ensure_ascii=False))
        elif isinstance(item, Gap):
            print(f"{item.seq_first:>9}  -- {item.count} records missing up to {item.seq_last}: {item.cause.value}")
        else:
            reading = item.reading
            name = f"{reading.device_id} {reading.observed_property}"
            print(
                f"{item.seq:>9}  {utc_text(reading.phenomenon_time_ms)}  {name}  {reading.value!r} {reading.unit}"
                f"  {reading.quality.name.lower()}"
            )
    return EXIT_FAILED if ring.damaged_blocks else EXIT_OK


def _verify(ring: "Ring", args: argparse.Namespace) -> int:
    from gateway.ring import Gap, GapCause

    records = 0
    gaps: list[Gap] = []
    for item in _items(ring, 0, "checking"):
        if isinstance(item, Gap):
            gaps.append(item)
        else:
            records += 1
    events = [event for event in ring.events if event.code != "ring.size_differs"]
    damaged = bool(events) or any(gap.cause is GapCause.CORRUPT for gap in gaps)
    if args.json:
        print(json.dumps({
            "records": records, "damaged": damaged, "gaps": [dataclasses.asdict(gap) for gap in gaps],
            "findings": [dataclasses.asdict(event) for event in events],
        }))  # fmt: skip
    else:
        print(f"{records:,} records are whole")
        for gap in gaps:
            print(f"{gap.count:,} records are missing, {gap.seq_first} to {gap.seq_last}: {gap.cause.value}")
        for event in events:
            print(event.text)
    return EXIT_FAILED if damaged else EXIT_OK


def _export(ring: "Ring", args: argparse.Namespace) -> int:
    from gateway.ring import Gap

    rows = (_row(item) for item in _items(ring, ring.tail_seq, "exporting") if not isinstance(item, Gap))
    out: pathlib.Path = args.out
    if out.suffix == ".parquet":
        try:
            count = _write_parquet(out, rows)
        except ImportError:
            print("litfass ring: Parquet needs the extra: pip install 'litfass[parquet]'", file=sys.stderr)
            return EXIT_FAILED
    else:
        with out.open("w", newline="", encoding="utf-8") as file:
            count = _write_csv(file, rows)
    print(f"{out}: {count:,} readings", file=sys.stderr)
    return EXIT_FAILED if ring.damaged_blocks else EXIT_OK


def _write_csv(file: TextIO, rows: Iterable[tuple[Any, ...]]) -> int:
    writer = csv.writer(file)
    writer.writerow(COLUMNS)
    count = 0
    for row in rows:
        writer.writerow(row)
        count += 1
    return count


def _write_parquet(out: pathlib.Path, rows: Iterable[tuple[Any, ...]]) -> int:
    """Write a Parquet file; numbers and truth values go to ``value``, texts to ``value_text``."""
    import pyarrow as pa
    from pyarrow import parquet

    names = [*COLUMNS[:5], "value_text", *COLUMNS[5:]]
    text, whole, real, flag = pa.string(), pa.int64(), pa.float64(), pa.bool_()
    types = [whole, whole, text, text, real, text, text, whole, whole, whole, whole, real, real, whole, flag]
    schema = pa.schema(list(zip(names, types, strict=True)))
    count = 0
    with parquet.ParquetWriter(out, schema) as writer:
        batch: list[tuple[Any, ...]] = []

        def flush() -> None:
            columns = [pa.array(column, kind) for column, kind in zip(zip(*batch, strict=True), types, strict=True)]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
            batch.clear()

        for row in rows:
            value = row[4]
            is_text = isinstance(value, str)
            number = None if is_text or value is None else float(value)
            batch.append((*row[:4], number, value if is_text else None, *row[5:]))
            count += 1
            if len(batch) == PARQUET_ROWS:
                flush()
        if batch:
            flush()
    return count


def _resize(ring: "Ring", args: argparse.Namespace) -> int:
    from gateway.ring import copy_ring

    if args.out.exists():
        print(f"litfass ring: {args.out} exists already", file=sys.stderr)
        return EXIT_FAILED
    copied = copy_ring(ring, args.out, args.size)
    print(f"{args.out}: {copied:,} records; stop the gateway and put it in the place of {args.path}", file=sys.stderr)
    return EXIT_FAILED if ring.damaged_blocks else EXIT_OK
