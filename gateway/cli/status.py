"""Show how the running gateway is: drivers, ring, uplinks, backlog, clock."""

import argparse
import json
from typing import Any, cast

from gateway.cli import EXIT_NOT_RUNNING, EXIT_OK
from gateway.cli._service import add_service_arguments, ago_text, ask_service, print_table, span_text

EXAMPLES = """\
  litfass status                              the system's service
  litfass status --config litfass.toml        the one started with these settings
  litfass status --json | jq .uplinks         for scripts; the keys are stable

Exit code 3: it is not running."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_service_arguments(parser)


def run(args: argparse.Namespace) -> int:
    answer = ask_service(args, "status")
    if answer is None:
        return EXIT_NOT_RUNNING
    if args.json:
        print(json.dumps(answer, ensure_ascii=False))
        return EXIT_OK
    _show(cast("dict[str, Any]", answer))
    return EXIT_OK


def _show(status: dict[str, Any]) -> None:
    now_ms = status["now_ms"]
    clock = "known" if status["clock_known"] else "NOT SYNCHRONISED: readings are flagged until it is"
    up = span_text((now_ms - status["started_ms"]) / 1000)
    print(f"Gateway {status['gateway']}, Litfass {status['version']}, up {up}")
    print(f"Clock   {clock}")
    ring = status["ring"]
    span = ""
    if ring["from_ms"] is not None and ring["to_ms"] is not None:
        span = f" over {span_text((ring['to_ms'] - ring['from_ms']) / 1000)}"
    written = ring["bytes_written_per_day"] / 1e6
    fill = f"{ring['fill']:.0%} full, {written:,.0f} MB written a day"
    print(f"Ring    {ring['state']}, {ring['records']:,} readings{span}, {fill}")
    if ring["last_error"]:
        print(f"        {ring['last_error']}")
    print()
    rows = []
    for name, driver in status["drivers"].items():
        counters = ", ".join(f"{count} {what}" for what, count in sorted(driver["counters"].items()))
        rows.append([name, driver["state"], ago_text(driver["since_ms"], now_ms), driver["detail"], counters])
    print_table(["DRIVER", "STATE", "SINCE", "DETAIL", "COUNTERS"], rows)
    print()
    rows = [
        [name, uplink["state"], f"{uplink['records_delivered']:,}", f"{uplink['backlog_records']:,}",
         ago_text(uplink["last_delivery_ms"], now_ms), uplink["detail"] or uplink["url"]]
        for name, uplink in status["uplinks"].items()
    ]  # fmt: skip
    print_table(["UPLINK", "STATE", "DELIVERED", "BACKLOG", "LAST", "DETAIL"], rows)
