"""Check settings, profiles and secrets; name every mistake with its line."""

import argparse
import json
import sys

from gateway.cli import EXIT_OK, EXIT_USAGE
from gateway.cli.run import add_config_argument

EXAMPLES = """\
  litfass check --config litfass.toml
  litfass check --config litfass.toml --json       for scripts: a list of mistakes with file and line

Exit code 0: the gateway will start with these settings. 2: it will not; every mistake is listed at once."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_argument(parser)
    parser.add_argument("--json", action="store_true", help="machine-readable output")


def run(args: argparse.Namespace) -> int:
    from gateway.config import load_config
    from gateway.errors import ConfigError, ConfigErrors

    errors: list[ConfigError] = []
    warnings: tuple[str, ...] = ()
    summary = ""
    try:
        config = load_config(args.config)
        warnings = config.warnings
        summary = (
            f"{args.config}: good. Gateway {config.gateway.id}: {len(config.drivers)} drivers,"
            f" {len(config.devices)} devices, {len(config.uplinks)} uplinks"
        )
    except ConfigErrors as found:
        errors = found.errors
    if args.json:
        mistakes = [{"file": e.file, "line": e.line, "found": e.found, "expected": e.expected} for e in errors]
        print(json.dumps({"ok": not errors, "errors": mistakes, "warnings": list(warnings)}, ensure_ascii=False))
        return EXIT_USAGE if errors else EXIT_OK
    for error in errors:
        print(error)
    for warning in warnings:
        print(f"note: {warning}", file=sys.stderr)
    if errors:
        print(f"{args.config}: {len(errors)} mistake{'s' if len(errors) > 1 else ''}", file=sys.stderr)
        return EXIT_USAGE
    print(summary)
    return EXIT_OK
