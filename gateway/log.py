"""Logging: for people on a terminal, one JSON object a line otherwise. Bursts are one line, not thousands."""

import json
import logging
import sys
from dataclasses import dataclass

from gateway.clock import Clock, utc_text

BURST_S = 60.0  # the same code about the same thing is logged at most once in this time
BURST_KEYS_MAX = 1024  # hostile inputs invent no unbounded set of keys
TEXT_MAX = 500  # characters of one message; payload texts are not ours

_LEVEL_COLOURS = {"WARNING": "\033[33m", "ERROR": "\033[31m", "CRITICAL": "\033[31;1m"}


def event(logger: logging.Logger, level: int, code: str, message: str, **fields: object) -> None:
    """Log a message with a stable code (``uplink.down``) that machines can filter by, and further fields."""
    logger.log(level, "%s", _clean(message), extra={"code": code, "fields": fields})


def _clean(text: str) -> str:
    """Return text on one line without control characters, cut to a bound."""
    text = "".join(character if character.isprintable() else " " for character in text)
    return text if len(text) <= TEXT_MAX else text[: TEXT_MAX - 1] + "…"


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, code, message, and the event's fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, object] = {
            "time": utc_text(round(record.created * 1000)),
            "level": record.levelname.lower(),
            "code": getattr(record, "code", record.name),
            "message": record.getMessage(),
        }
        line.update(getattr(record, "fields", {}))
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class TerminalFormatter(logging.Formatter):
    """Local time, level by colour, message."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        colour = _LEVEL_COLOURS.get(record.levelname, "")
        line = f"{self.formatTime(record, '%H:%M:%S')} {colour}{record.getMessage()}{chr(27) + '[0m' if colour else ''}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def set_up_logging(*, verbose: bool = False) -> None:
    """Send all logging to stderr in the form that fits whoever reads it."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(TerminalFormatter() if sys.stderr.isatty() else JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if verbose else logging.INFO)
    for noisy in ("asyncio", "mqtt", "bleak", "pymodbus", "pymodbus.logging"):
        logging.getLogger(noisy).setLevel(logging.INFO if verbose else logging.WARNING)
    if not verbose:  # the client library logs what we log better
        logging.getLogger("mqtt").setLevel(logging.CRITICAL)


@dataclass
class _Burst:
    began_s: float
    suppressed: int = 0


class BurstLog:
    """Logs the first of a burst at once, then one line with the count when the next burst begins."""

    def __init__(self, logger: logging.Logger, clock: Clock) -> None:
        self._logger = logger
        self._clock = clock
        self._bursts: dict[tuple[str, str], _Burst] = {}

    def event(self, level: int, code: str, about: str, message: str, **fields: object) -> None:
        """Log ``message`` unless the same code about the same thing was logged within ``BURST_S``."""
        now_s = self._clock.elapsed_s()
        key = (code, about)
        burst = self._bursts.get(key)
        if burst and now_s - burst.began_s < BURST_S:
            burst.suppressed += 1
            return
        if burst and burst.suppressed:
            message += f" (and {burst.suppressed} more like it)"
        if len(self._bursts) >= BURST_KEYS_MAX:
            self._bursts.pop(next(iter(self._bursts)))
        self._bursts.pop(key, None)
        self._bursts[key] = _Burst(now_s)
        event(self._logger, level, code, message, **fields)
