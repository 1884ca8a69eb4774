"""Run the gateway until Ctrl-C or SIGTERM."""

import argparse
import asyncio
import logging
import os
import pathlib
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

from gateway.cli import EXIT_FAILED, EXIT_OK, EXIT_USAGE

if TYPE_CHECKING:
    from gateway.config import Config

EXAMPLES = """\
  litfass run --config /etc/litfass/litfass.toml
  litfass run --config litfass.toml --verbose      every frame that is refused, every connection

Under systemd: `systemctl enable --now litfass` (see docs/install.md). It starts without working
drivers and without a reachable platform; only settings it cannot understand end it (exit code 2)."""

CONFIG_DEFAULT = "/etc/litfass/litfass.toml"


def add_config_argument(parser: argparse.ArgumentParser) -> None:
    """Declare ``--config FILE``."""
    parser.add_argument(
        "--config", "-c", metavar="FILE", type=pathlib.Path, default=pathlib.Path(CONFIG_DEFAULT),
        help=f"settings (default: {CONFIG_DEFAULT})",
    )  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_argument(parser)
    parser.add_argument("--verbose", "-v", action="store_true", help="log details")


def run(args: argparse.Namespace) -> int:
    from gateway import process_memory

    process_memory.limit()
    from gateway.config import load_config
    from gateway.errors import ConfigErrors
    from gateway.log import set_up_logging

    set_up_logging(verbose=args.verbose)
    try:
        config = load_config(args.config)
    except ConfigErrors as errors:
        for error in errors.errors:
            print(error, file=sys.stderr)
        print(f"{args.config}: {len(errors.errors)} mistakes; nothing was started", file=sys.stderr)
        return EXIT_USAGE
    for warning in config.warnings:
        logging.getLogger(__name__).warning("%s", warning, extra={"code": "config.warning"})
    return leave(run_service(config))


def leave(code: int) -> NoReturn:
    """End the process now: Python would wait for a thread in which a name look-up hangs; the ring is closed."""
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)


def run_service(config: "Config") -> int:
    """Run the gateway until SIGTERM or SIGINT and return the exit code."""
    from gateway.errors import RingError
    from gateway.log import event
    from gateway.service import Service

    async def serve() -> None:
        service = Service(config)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, service.stop)
        await service.run()

    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(serve())
    except (RingError, OSError) as error:
        event(logging.getLogger(__name__), logging.CRITICAL, "service.failed", str(error))
        return EXIT_FAILED
    return EXIT_OK
