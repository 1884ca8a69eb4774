"""Measure what Litfass costs, side by side with what one would use instead."""

import argparse
import importlib
import json
import os
import pathlib
import platform
import sys

from gateway.cli import EXIT_OK

EXAMPLES = """\
  litfass bench                               all measurements, as a table
  litfass bench ring --json                   one subject, for scripts; the keys are stable
  litfass bench --write docs/benchmarks.md    put them into the documentation

Timings vary from machine to machine: quote ratios and CPU time."""

SUBJECTS = ("ring", "service")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("subject", nargs="*", metavar="SUBJECT", help=f"one of {', '.join(SUBJECTS)}; default: all")
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    parser.add_argument("--write", metavar="FILE", type=pathlib.Path, help="write the tables as a Markdown page")


def run(args: argparse.Namespace) -> int:
    from gateway.cli import EXIT_USAGE
    from gateway.cli._service import print_table

    unknown = [name for name in args.subject if name not in SUBJECTS]
    if unknown:
        print(f"litfass bench: unknown subject {unknown[0]!r}; known: {', '.join(SUBJECTS)}", file=sys.stderr)
        return EXIT_USAGE
    pages, figures = [], {}
    for name in args.subject or SUBJECTS:
        print(f"measuring {name} ...", file=sys.stderr)
        module = importlib.import_module(f"gateway.bench.{name}")
        found = module.run()
        figures.update(found)
        rows = "\n".join(f"| `{key}` | {value:g} |" for key, value in found.items())
        pages.append(f"## {module.TITLE}\n\n{_method(module.__doc__ or '')}\n\n| figure | value |\n|---|---|\n{rows}\n")
    if args.write:
        args.write.write_text(_page(pages), encoding="utf-8")
        print(f"{args.write}: written", file=sys.stderr)
    if args.json:
        print(json.dumps(figures))
    else:
        print_table(["FIGURE", "VALUE"], [[key, f"{value:g}"] for key, value in figures.items()])
    return EXIT_OK


def _method(docstring: str) -> str:
    """Return the docstring as paragraphs."""
    return docstring.strip().replace("``", "`")


def _page(pages: list[str]) -> str:
    machine = (
        f"{platform.machine()}, {os.cpu_count()} cores, {platform.python_implementation()} {platform.python_version()}"
    )
    head = (
        "# Benchmarks\n\nWritten by `make bench`; asserted nowhere. Timings vary: compare side by side, quote ratios."
        f"\n\nMachine: {machine}, {platform.system()} {platform.release()}.\n"
    )
    return "\n".join([head, *pages])
