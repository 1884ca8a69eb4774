"""Log lines are one line each, whatever a frame put into them, and a burst is one line."""

import io
import json
import logging

import pytest

from gateway.log import BURST_S, BurstLog, JsonFormatter, event
from tests.fakes.clock import FakeClock


@pytest.fixture
def lines() -> tuple[logging.Logger, io.StringIO]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.Logger("test")  # noqa: LOG001  # one of its own, with one handler
    logger.addHandler(handler)
    return logger, stream


def test_f75_a_hostile_text_stays_on_one_line(lines: tuple[logging.Logger, io.StringIO]) -> None:
    logger, stream = lines
    event(logger, logging.WARNING, "frame.malformed", "a\nb\x00c\x1b[31m\u202ed %s {}" + "x" * 10_000, device="p\n1")
    (line,) = stream.getvalue().splitlines()
    found = json.loads(line)
    assert len(found["message"]) == 500
    assert found["message"].startswith("a b c [31m d %s {}xx")
    assert (found["level"], found["code"], found["device"]) == ("warning", "frame.malformed", "p\n1")


def test_f85_a_burst_is_one_line_and_a_count(lines: tuple[logging.Logger, io.StringIO]) -> None:
    logger, stream = lines
    clock = FakeClock()
    bursts = BurstLog(logger, clock)
    for _ in range(1000):
        bursts.event(logging.WARNING, "frame.mic", "pegel-3", "bad MIC")
    bursts.event(logging.WARNING, "frame.mic", "pegel-4", "bad MIC")
    clock.pass_time(BURST_S)
    bursts.event(logging.WARNING, "frame.mic", "pegel-3", "bad MIC")
    messages = [json.loads(line)["message"] for line in stream.getvalue().splitlines()]
    assert messages == ["bad MIC", "bad MIC", "bad MIC (and 999 more like it)"]


def test_f76_a_flood_of_names_costs_no_memory(lines: tuple[logging.Logger, io.StringIO]) -> None:
    logger, _ = lines
    bursts = BurstLog(logger, FakeClock())
    for number in range(5000):
        bursts.event(logging.WARNING, "frame.mic", f"device-{number}", "bad MIC")
    assert len(bursts._bursts) <= 1024
