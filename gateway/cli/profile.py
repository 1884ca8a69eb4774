"""List, show and test device profiles."""

import argparse
import pathlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from gateway.cli import EXIT_FAILED, EXIT_OK, EXIT_USAGE
from gateway.cli._service import print_table

if TYPE_CHECKING:
    from gateway.profile import Decoder, Example, Profile

EXAMPLES = """\
  litfass profile list                        all device types that are known
  litfass profile show eastron-sdm630         what it yields, in which unit and range
  litfass profile test --all                  run the examples inside all profiles
  litfass profile test my-sensor.toml         one file of your own"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(title="actions", dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="all device types")
    show = actions.add_parser("show", help="what a device type yields")
    show.add_argument("profile", help="name or file")
    test = actions.add_parser("test", help="run the examples inside profiles")
    test.add_argument("profile", nargs="*", help="names or files")
    test.add_argument("--all", action="store_true", help="all known profiles")


def run(args: argparse.Namespace) -> int:
    from gateway.errors import ConfigErrors

    decoders = _decoders()
    names = {"list": None, "show": [args.profile] if args.action == "show" else []}.get(args.action)
    if args.action == "test":
        names = None if args.all else args.profile
        if not names and not args.all:
            print("Name a profile, or say --all.", file=sys.stderr)
            return EXIT_USAGE
    profiles, failed = [], 0
    for path in _paths(names):
        try:
            profiles.append(_load(path, decoders))
        except ConfigErrors as errors:
            print(errors, file=sys.stderr)
            failed += 1
    if args.action == "list":
        rows = [[p.name, p.decoder, p.title, str(len(p.fields)), str(len(p.examples))] for p in profiles]
        print_table(["PROFILE", "DECODER", "TITLE", "FIELDS", "EXAMPLES"], rows)
    elif args.action == "show":
        for profile in profiles:
            _show(profile)
    else:
        failed += sum(_test(profile, decoders[profile.decoder]) for profile in profiles)
    return EXIT_FAILED if failed else EXIT_OK


def _decoders() -> "dict[str, Decoder]":
    from gateway.config import installed_driver_types

    decoders = {}
    for name, entry in installed_driver_types().items():
        try:
            driver_type = entry.load()
        except ImportError as error:
            print(f"note: profiles of driver type {name} are left out: {error}", file=sys.stderr)
            continue
        decoders.update({decoder.name: decoder for decoder in driver_type.decoders})
    return decoders


def _paths(names: list[str] | None) -> Iterator[pathlib.Path]:
    from gateway.files import config_folder

    folder = config_folder() / "devices"
    if names is None:
        yield from sorted(folder.glob("*.toml"))
        return
    for name in names:
        yield pathlib.Path(name) if name.endswith(".toml") else folder / f"{name}.toml"


def _load(path: pathlib.Path, decoders: "dict[str, Decoder]") -> "Profile":
    from gateway.profile import load_profile
    from gateway.properties import standard_properties

    return load_profile(path, decoders, standard_properties())


def _show(profile: "Profile") -> None:
    print(f"{profile.name}: {profile.title} ({profile.maker})")
    print(f"source: {profile.source}\ndecoder: {profile.decoder}")
    rows = [
        [f.source, f.observed_property, f.unit, "" if f.low is None else f"{f.low:g} to {f.high:g}"]
        for f in profile.fields
    ]
    print_table(["FROM", "PROPERTY", "UNIT", "PLAUSIBLE"], rows)


def _test(profile: "Profile", decoder: "Decoder") -> int:
    """Run the examples of one profile; return how many failed."""
    failed = 0
    for example in profile.examples:
        problem = example_problem(profile, decoder, example)
        print(f"{'FAILED' if problem else 'ok'}\t{profile.name}\t{example.name}" + (f"\t{problem}" if problem else ""))
        failed += bool(problem)
    if not profile.examples:
        print(f"FAILED\t{profile.name}\tit has no [[example]]")
        failed += 1
    return failed


def example_problem(profile: "Profile", decoder: "Decoder", example: "Example") -> str:
    """Return what is wrong with the outcome of an example, empty if it is as expected."""
    from gateway.errors import DeviceError

    try:
        measurements = decoder.run_example(profile, example.options)
        readings = profile.to_readings("example", measurements, phenomenon_time_ms=0, received_time_ms=0)
    except DeviceError as error:
        if example.error is None:
            return f"unexpected error: {error}"
        return "" if example.error in str(error) else f"error {str(error)!r}, expected {example.error!r}"
    if example.error is not None:
        return f"{len(readings)} readings, expected the error {example.error!r}"
    found = [(reading.observed_property, reading.value) for reading in readings]
    expected = [(row.get("property"), row.get("value")) for row in example.expect]
    missing = [pair for pair in expected if pair not in found]
    extra = [pair for pair in found if pair not in expected]
    if missing or extra:
        return f"found {extra}, expected {missing}"
    return ""
