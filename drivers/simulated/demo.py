"""Show a virtual street: emulated sensors, the real gateway, and what the city receives.

Needs no settings, no root and no hardware. Real drivers read emulated sensors over pseudo-terminals, UDP and BLE
adverts; the gateway keeps every reading in its ring and sends it to an MQTT broker on this machine.
"""

import argparse
import importlib.util
import pathlib
import sys

EXAMPLES = """\
  litfass demo                          until Ctrl-C
  litfass demo --seconds 20             exit code 0 when every driver delivered
  litfass demo --outage --seconds 60    the broker is away for a while; nothing is lost
  litfass demo --port 1884              with a broker port you know, to look on:
                                        mosquitto_sub -V 5 -p 1884 -t 'litfass/#' -F '%t %p'"""

NEEDED = ("bleak", "bthome_ble", "cobs", "cryptography", "pymodbus", "ruuvitag_ble", "serial")
OUTAGE_SECONDS_DEFAULT = 60.0
OUTAGE_SECONDS_MIN = 12.0  # less leaves no time for the broker to be away


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "--seconds", type=seconds, metavar="N", help="end after N seconds with a verdict (default: at Ctrl-C)"
    )
    parser.add_argument(
        "--outage",
        action="store_true",
        help=f"stop the broker for a while in the middle (then N is {OUTAGE_SECONDS_DEFAULT:g} if not given)",
    )
    parser.add_argument(
        "--port", type=port, default=0, metavar="P", help="TCP port of the broker (default: a free one)"
    )
    parser.add_argument(
        "--broker",
        choices=("auto", "mosquitto", "embedded"),
        default="auto",
        help="which broker plays the city's: Mosquitto where installed, or a small one of our own (default: auto)",
    )
    parser.add_argument("--svg", type=pathlib.Path, metavar="FILE", help="also draw the last moment as a picture")


def run(args: argparse.Namespace) -> int:
    """Run the show; return 0 when every driver delivered and nothing was lost, else 1."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        print(f"litfass demo needs {', '.join(missing)}: pip install 'litfass[demo]'", file=sys.stderr)
        return 1
    from drivers.simulated.show import Options, run_show

    duration_s = args.seconds
    if args.outage:
        duration_s = max(OUTAGE_SECONDS_MIN, duration_s or OUTAGE_SECONDS_DEFAULT)
    return run_show(Options(duration_s, args.outage, args.port, args.broker, args.svg))


def seconds(text: str) -> float:
    """Return how long the show lasts."""
    value = float(text)
    if not 1 <= value <= 1e6:
        raise argparse.ArgumentTypeError("expected 1 to 1000000 seconds")
    return value


def port(text: str) -> int:
    """Return a TCP port."""
    value = int(text)
    if not 0 <= value <= 65535:
        raise argparse.ArgumentTypeError("expected 0 to 65535")
    return value
