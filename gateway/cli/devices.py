"""Show the listed devices of the running gateway with their newest values."""

import argparse
import json
from typing import Any, cast

from gateway.cli import EXIT_NOT_RUNNING, EXIT_OK
from gateway.cli._service import add_service_arguments, ago_text, ask_service, print_table

EXAMPLES = """\
  litfass devices                             newest value of each series
  litfass devices isar-pegel-3                one device
  litfass devices --json                      for scripts; the keys are stable

Exit code 3: the gateway is not running."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("device", nargs="?", help="show this device only")
    add_service_arguments(parser)


def run(args: argparse.Namespace) -> int:
    answer = ask_service(args, "devices")
    if answer is None:
        return EXIT_NOT_RUNNING
    devices = [device for device in cast("list[dict[str, Any]]", answer) if args.device in (None, device["id"])]
    if args.json:
        print(json.dumps(devices, ensure_ascii=False))
        return EXIT_OK
    rows = []
    for device in devices:
        head = [device["id"], device["driver"], ago_text(device["heard_ms"])]
        if not device["newest"]:
            rows.append([*head, "", device["last_error"] or "nothing heard yet", "", ""])
        for reading in device["newest"]:
            value = "missing" if reading["value"] is None else str(reading["value"])
            rows.append([*head, reading["property"], value, reading["unit"], reading["quality"]])
            head = ["", "", ""]
    print_table(["DEVICE", "DRIVER", "HEARD", "PROPERTY", "VALUE", "UNIT", "QUALITY"], rows)
    return EXIT_OK
