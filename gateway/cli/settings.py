"""Explain every key of the settings file: what it means, what it may be, what it is if left out."""

import argparse
from collections.abc import Iterator
from typing import Any

from gateway.cli import EXIT_OK, EXIT_USAGE

EXAMPLES = """\
  litfass settings                            all tables
  litfass settings ring                       one table
  litfass settings modbus-rtu                 the keys of one driver type and of its devices
  litfass settings --markdown                 as in docs/settings.md"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("table", nargs="?", help="a table, a driver type or an uplink type")
    parser.add_argument("--markdown", action="store_true", help="as a page of the documentation")


def run(args: argparse.Namespace) -> int:
    tables = [table for table in _tables() if args.table in (None, table[0])]
    if not tables:
        print(f'unknown: "{args.table}"; known: {", ".join(dict.fromkeys(name for name, *_ in _tables()))}')
        return EXIT_USAGE
    if args.markdown:
        print("# Settings\n\nOne TOML file. `litfass check` names every mistake with its line; this page is what")
        print("`litfass settings --markdown` prints. Relative paths count from the file's folder.")
    for _, heading, summary, settings_type in tables:
        _show(heading, summary, settings_type, markdown=args.markdown)
    return EXIT_OK


def _tables() -> Iterator[tuple[str, str, str, type[Any]]]:
    from gateway import config
    from gateway.uplinks import UPLINK_TYPES, load_uplink_type

    yield "gateway", "[gateway]", "the box itself", config.GatewaySettings
    yield "location", "location = { … }", "of the gateway or a device", config.Location
    yield "ring", "[ring]", "where readings are kept", config.RingSettings
    yield "driver", "[[driver]]", "one bus or radio; further keys by type below", config.DriverSettings
    yield "device", "[[device]]", "one listed device; further keys by its driver's type below", config.DeviceSettings
    yield "calibration", "calibration = { PROPERTY = { … } }", "of a device", config.Calibration
    for name, entry in sorted(config.installed_driver_types().items()):
        driver_type = entry.load()
        yield name, f'[[driver]] type = "{name}"', driver_type.summary, driver_type.settings
        yield name, f'[[device]] behind a "{name}"', "one device", driver_type.device_settings
    yield "uplink", "[[uplink]]", "one way to a platform; further keys by type below", config.UplinkSettings
    for name in UPLINK_TYPES:
        uplink_type = load_uplink_type(name)
        yield name, f'[[uplink]] type = "{name}"', uplink_type.summary, uplink_type.settings
    yield "aggregate", "[[aggregate]]", "checked; carried out by a later version", config.AggregateSettings
    yield "alarm", "[[alarm]]", "checked; carried out by a later version", config.AlarmSettings


def _show(heading: str, summary: str, settings_type: type[Any], *, markdown: bool) -> None:
    from gateway.settings import keys_of

    rows = []
    for key, field in keys_of(settings_type).items():
        default = field.metadata.get("default", "")
        left_out = "must be given" if "default" not in field.metadata else "–" if default is None else repr(default)
        rows.append((key, field.metadata["help"], field.metadata["kind"].expected, left_out.replace("'", '"')))
    if markdown:
        print(f"\n## `{heading}`\n\n{summary[:1].upper()}{summary[1:]}.\n")
        if rows:
            print("| key | what | may be | if left out |\n|---|---|---|---|")
        for row in rows:
            key, what, may_be, left_out = (cell.replace("|", "\\|") for cell in row)
            print(f"| `{key}` | {what} | {may_be} | {left_out} |")
        return
    print(f"\n{heading}    # {summary}")
    for key, what, may_be, left_out in rows:
        print(f"  {key:<16} {what}\n  {'':<16}   {may_be}; if left out: {left_out}")
