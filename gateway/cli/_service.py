"""What `status`, `devices` and `top` share: finding the running service and asking it."""

import argparse
import os
import pathlib
import sys
import time

RUNTIME_SOCKET = pathlib.Path("/run/litfass/control.sock")


def add_service_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare how to find the service."""
    parser.add_argument("--socket", metavar="PATH", type=pathlib.Path, help="control socket of the service")
    parser.add_argument("--config", "-c", metavar="FILE", type=pathlib.Path, help="find the socket by these settings")
    parser.add_argument("--json", action="store_true", help="machine-readable output")


def socket_path(args: argparse.Namespace) -> pathlib.Path:
    """Return the control socket: as given, by ``--config``, by LITFASS_SOCKET, else the system service's."""
    if args.socket:
        return pathlib.Path(args.socket)
    if args.config:
        import tomllib

        table = tomllib.loads(args.config.read_text(encoding="utf-8")).get("gateway", {})
        folder = args.config.resolve().parent
        if "control_socket" in table:
            return pathlib.Path(folder / table["control_socket"])
        return pathlib.Path(folder / table.get("state_dir", "/var/lib/litfass") / "control.sock")
    return pathlib.Path(os.environ.get("LITFASS_SOCKET", RUNTIME_SOCKET))


def ask_service(args: argparse.Namespace, request: str) -> object | None:
    """Return the service's answer, or None after saying why there is none (exit code 3)."""
    from gateway.control import ask

    try:
        path = socket_path(args)
        return ask(path, request)
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        print(f"litfass is not running, or not here ({reason}: {socket_path_text(args)})", file=sys.stderr)
        print("Start it with `litfass run --config FILE`, or name its socket with --socket.", file=sys.stderr)
        return None


def socket_path_text(args: argparse.Namespace) -> str:
    """Return where was looked, for a message."""
    try:
        return str(socket_path(args))
    except (OSError, ValueError):
        return str(args.config)


def span_text(seconds: float) -> str:
    """Return a time span for people: ``3.2 s``, ``5 min``, ``2 h 10 min``, ``4 d``."""
    if seconds < 60:
        return f"{max(0.0, seconds):.1f} s"
    minutes = int(seconds // 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d"


def ago_text(then_ms: int | None, now_ms: int | None = None) -> str:
    """Return how long ago a UTC time in ms was; ``never`` for None."""
    if then_ms is None:
        return "never"
    now_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    return f"{span_text((now_ms - then_ms) / 1000)} ago"


def print_table(headings: list[str], rows: list[list[str]]) -> None:
    """Print a table: aligned and ruled on a terminal, tab-separated when piped."""
    if not sys.stdout.isatty():
        for row in [headings, *rows]:
            print("\t".join(row))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(*headings, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
