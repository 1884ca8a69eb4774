"""The verdict at the end of the show, and how it looks."""

import dataclasses
import io
import pathlib

import pytest
from rich.console import Console

from drivers.simulated.city import Arrival
from drivers.simulated.screen import PlainScreen, Row, View, age_text, clock_text, value_text
from drivers.simulated.street import Resident
from drivers.simulated.terminal import TerminalScreen, draw_svg
from drivers.simulated.verdict import judge
from gateway.driver import SystemClock

PEGEL = Resident("pegel", "lorawan-udp", "a water gauge")
LUFT = Resident("luft", "ble", "classroom air")
RESIDENTS = (PEGEL, LUFT)
ARRIVAL = Arrival(0, "pegel", "water_level", 1.84, "m", 1000.0, 1000.1)
VIEW = View(
    now="All is well.",
    broker="Mosquitto",
    is_down=False,
    wall_s=1002.5,
    elapsed_s=12.0,
    total_s=60.0,
    news=[(1.0, "the first reading is at the city")],
    rows=[Row(PEGEL, ARRIVAL), Row(PEGEL, dataclasses.replace(ARRIVAL, observed_property="water_temperature"))],
    silent=[LUFT],
    stored_count=500,
    received_count=30,
    pack_count=7,
    repeat_count=1,
    missing_count=0,
)


def test_all_is_well_when_all_that_was_taken_and_stored_is_at_the_city() -> None:
    verdict = judge(RESIDENTS, {"pegel": 4, "luft": 3}, {"pegel": 4, "luft": 3}, {"pegel": 4, "luft": 3})
    assert verdict.is_ok
    assert [(line.driver, line.sent_count, line.remark) for line in verdict.lines] == [
        ("lorawan-udp", 4, "delivered"),
        ("ble", 3, "delivered"),
    ]


def test_p1_what_the_gateway_acknowledged_and_the_city_has_not_is_lost() -> None:
    verdict = judge(RESIDENTS, {"pegel": 5}, {"pegel": 4, "luft": 3}, {"pegel": 4, "luft": 3})
    assert (verdict.is_ok, verdict.lost_count) == (False, 1)
    assert verdict.lines[0].remark == "1 lost"


def test_what_the_ring_has_and_the_city_has_not_is_lost_too() -> None:
    verdict = judge(RESIDENTS, {}, {"pegel": 4, "luft": 3}, {"pegel": 4, "luft": 1})
    assert (verdict.is_ok, verdict.lost_count) == (False, 2)


def test_a_driver_without_a_reading_at_the_city_is_named() -> None:
    verdict = judge(RESIDENTS, {}, {"pegel": 4}, {"pegel": 4})
    assert not verdict.is_ok
    assert [(line.driver, line.remark) for line in verdict.lines if not line.is_ok] == [("ble", "delivered nothing")]


def test_holes_and_faults_are_not_well() -> None:
    counts = {"pegel": 1, "luft": 1}
    assert not judge(RESIDENTS, counts, counts, counts, hole_count=1).is_ok
    assert not judge(RESIDENTS, counts, counts, counts, faults=["the node ended"]).is_ok


def test_texts_are_made_for_people() -> None:
    assert [value_text(value) for value in (101320.00000000001, 0.463, 1.84, 21.0, 2e-05, 0.0, True, "missing")] == [
        "101,320", "0.463", "1.84", "21", "2e-05", "0", "yes", "missing",
    ]  # fmt: skip
    assert [age_text(seconds) for seconds in (-0.1, 0.44, 12.3, 300)] == ["0.0 s", "0.4 s", "12 s", "5 min"]
    assert [clock_text(77, 120), clock_text(77, None)] == ["01:17 of 02:00", "01:17, Ctrl-C ends it"]


def test_a_pipe_gets_plain_text() -> None:
    out = io.StringIO()
    screen = PlainScreen(out, SystemClock())
    screen.open(["An introduction."], RESIDENTS)
    screen.tell("something happened")
    screen.arrived(VIEW.rows)
    verdict = judge(RESIDENTS, {}, {"pegel": 2, "luft": 1}, {"pegel": 2})
    screen.close(VIEW, verdict.lines, ["1 lost."])
    text = out.getvalue()
    assert "\x1b" not in text
    assert text.isascii()
    assert "pegel via lorawan-udp: water_level 1.84 m, water_temperature 1.84 m\n" in text
    assert "  pegel   lorawan-udp  water_level         1.84  m     2.5 s\n" in text
    assert "  ble             1            0  delivered nothing  luft\n" in text


def test_a_low_terminal_shows_every_device_and_hides_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")  # a dumb terminal gets plain lines
    out = io.StringIO()
    screen = TerminalScreen(Console(file=out, force_terminal=True, width=100, height=24))
    screen.open(["An introduction."], RESIDENTS)
    rows = [
        Row(PEGEL, dataclasses.replace(ARRIVAL, observed_property=f"temperature/{number}")) for number in range(1, 31)
    ]
    screen.refresh(dataclasses.replace(VIEW, rows=rows, is_down=True))
    live = out.getvalue()
    assert live.count("\n") < 30
    assert "and 21 more" in live
    assert "nothing yet" in live
    screen.close(VIEW, judge(RESIDENTS, {}, {}, {}).lines, ["The end."])
    assert "The end." in out.getvalue()


def test_the_picture_asks_nothing_of_the_web(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "demo.svg"
    draw_svg(path, VIEW, judge(RESIDENTS, {}, {"pegel": 2}, {"pegel": 2}).lines)
    picture = path.read_text()
    assert picture.startswith("<svg")
    assert "water_level" in picture
    assert "url(http" not in picture
