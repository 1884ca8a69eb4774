"""Look into a ring: of a running, stopped or damaged gateway; nothing is changed."""

import argparse
import csv
import json
import pathlib
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

from gateway.cli import EXIT_FAILED, EXIT_OK
from gateway.cli._service import print_table

if TYPE_CHECKING:
    from gateway.ring import Gap, Record, Ring

EXAMPLES = """\
  litfass ring stat /var/lib/litfass/ring.lfr             fill, span in time, octets per reading, who has what
  litfass ring dump ring.lfr --last 20                    the newest readings
  litfass ring dump ring.lfr --json | jq .value           all of them, one object a line
  litfass ring verify ring.lfr                            read everything; exit code 1 where damage is found
  litfass ring export ring.lfr --csv readings.csv         for a spreadsheet

PATH is the ring's file, or the state folder it lies in."""

BATCH_RECORDS = 1000
PROGRESS_EVERY_S = 0.2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(title="actions", dest="action", required=True, metavar="ACTION")
    for name, summary in (
        ("stat", "what it holds and how full it is"),
        ("dump", "print its readings and gaps"),
        ("verify", "read every block and check its sums"),
        ("export", "write its readings as CSV"),
    ):
        action = actions.add_parser(name, help=summary, description=f"{summary[:1].upper()}{summary[1:]}.")
        action.add_argument("path", metavar="PATH", type=pathlib.Path, help="the ring's file or its folder")
        if name == "export":
            action.add_argument("--csv", metavar="FILE", type=pathlib.Path, help="where to; default: standard output")
            continue
        action.add_argument("--json", action="store_true", help="machine-readable output")
        if name == "dump":
            action.add_argument("--last", metavar="N", type=int, help="only the newest N records")


def run(args: argparse.Namespace) -> int:
    from gateway.errors import RingError
    from gateway.ring import Ring

    path = args.path / "ring.lfr" if args.path.is_dir() else args.path
    try:
        with Ring.open_read_only(path) as ring:
            return {"stat": _stat, "dump": _dump, "verify": _verify, "export": _export}[args.action](ring, args)
    except RingError as error:
        print(f"litfass ring: {error}", file=sys.stderr)
        return EXIT_FAILED


def _items(ring: "Ring", from_seq: int) -> "Iterator[Record | Gap]":
    """Yield records and gaps from ``from_seq`` to the head, with progress on a terminal."""
    next_seq, head = from_seq, ring.synced_seq
    shown_s = 0.0
    is_shown = sys.stderr.isatty()
    while next_seq < head:
        items = ring.read(next_seq, BATCH_RECORDS)
        if not items:
            break
        yield from items
        last = items[-1]
        next_seq = (last.seq if hasattr(last, "seq") else last.seq_last) + 1
        if is_shown and time.monotonic() - shown_s > PROGRESS_EVERY_S:
            shown_s = time.monotonic()
            print(f"\r{(next_seq - from_seq) / max(1, head - from_seq):4.0%} ", end="", file=sys.stderr, flush=True)
    if is_shown:
        print("\r      \r", end="", file=sys.stderr)


def _stat(ring: "Ring", args: argparse.Namespace) -> int:
    from gateway.clock import utc_text

    stat = ring.stat()
    if args.json:
        print(json.dumps({**asdict(stat), "events": [asdict(found) for found in ring.events]}))
        return EXIT_FAILED if stat.damaged_blocks else EXIT_OK
    span = f"{utc_text(stat.from_ms)} to {utc_text(stat.to_ms)}" if stat.from_ms and stat.to_ms else "nothing yet"
    print(f"{stat.path}: {stat.size / 2**20:g} MiB, {stat.fill:.0%} full, epoch {stat.epoch}")
    print(f"readings  {stat.records:,} of {stat.series} series, seq {stat.tail_seq} to {stat.head_seq - 1}")
    print(f"time      {span}")
    print(f"density   {stat.bytes_per_reading:.2f} octets a reading")
    if stat.damaged_blocks:
        print(f"DAMAGED   {stat.damaged_blocks} blocks; their readings are told as gaps")
    rows = [
        [c.name, str(c.cursor), f"{c.backlog_records:,}", utc_text(c.oldest_unsent_ms) if c.oldest_unsent_ms else ""]
        for c in stat.consumers
    ]
    print_table(["CONSUMER", "CURSOR", "BACKLOG", "OLDEST UNSENT"], rows)
    return EXIT_FAILED if stat.damaged_blocks else EXIT_OK


def _row(record: "Record") -> dict[str, object]:
    from gateway.clock import utc_text

    reading = record.reading
    return {
        "epoch": record.epoch,
        "seq": record.seq,
        "time": utc_text(reading.phenomenon_time_ms),
        "received": utc_text(reading.received_time_ms),
        "clock_known": record.clock_known,
        "device": reading.device_id,
        "property": reading.observed_property,
        "value": reading.value,
        "unit": reading.unit,
        "quality": reading.quality.name.lower(),
        "reasons": int(reading.reasons),
        "rssi_dbm": reading.rssi_dbm,
        "snr_db": reading.snr_db,
    }


def _gap_row(gap: "Gap") -> dict[str, object]:
    return {"gap": {**asdict(gap), "cause": gap.cause.value}}


def _dump(ring: "Ring", args: argparse.Namespace) -> int:
    from gateway.ring import Gap

    first = ring.tail_seq if args.last is None else max(ring.tail_seq, ring.synced_seq - args.last)
    for item in _items(ring, first):
        if args.json:
            print(json.dumps(_gap_row(item) if isinstance(item, Gap) else _row(item), ensure_ascii=False))
        elif isinstance(item, Gap):
            print(f"{item.seq_first}\tgap of {item.count}: {item.cause.value}")
        else:
            row = _row(item)
            value = "missing" if row["value"] is None else row["value"]
            print(
                f"{row['seq']}\t{row['time']}\t{row['device']}\t{row['property']}\t{value}\t{row['unit']}\t{row['quality']}"
            )
    return EXIT_OK


def _verify(ring: "Ring", args: argparse.Namespace) -> int:
    from gateway.ring import Gap, GapCause

    readings = corrupt = 0
    for item in _items(ring, ring.tail_seq):
        if not isinstance(item, Gap):
            readings += 1
        elif item.cause is GapCause.CORRUPT:
            corrupt += item.count
    damaged = ring.stat().damaged_blocks
    is_sound = not corrupt and not damaged
    if args.json:
        print(json.dumps({"ok": is_sound, "readings": readings, "corrupt": corrupt, "damaged_blocks": damaged}))
    elif is_sound:
        print(f"sound: {readings:,} readings, every sum is right")
    else:
        print(
            f"DAMAGED: {damaged} blocks, {corrupt:,} readings lost; {readings:,} readings are sound and stay readable"
        )
    return EXIT_OK if is_sound else EXIT_FAILED


def _export(ring: "Ring", args: argparse.Namespace) -> int:
    from gateway.ring import Gap

    try:
        out = args.csv.open("w", newline="", encoding="utf-8") if args.csv else sys.stdout
    except OSError as error:
        print(f"litfass ring: {args.csv}: {error.strerror}", file=sys.stderr)
        return EXIT_FAILED
    try:
        writer: csv.DictWriter[str] | None = None
        for item in _items(ring, ring.tail_seq):
            if isinstance(item, Gap):
                print(f"gap of {item.count} readings: {item.cause.value}", file=sys.stderr)
                continue
            row = _row(item)
            if writer is None:
                writer = csv.DictWriter(out, list(row))
                writer.writeheader()
            writer.writerow(row)
    finally:
        if args.csv:
            out.close()
    return EXIT_OK
