"""Somebody pulls the RS-485 cable in the pumping station, and puts it back an hour later."""

from hil_tests.protocols import Parts

METER = "pumpwerk-zaehler"


def test_a_pulled_cable_stops_nothing_else_and_heals_by_itself(bench: Parts) -> None:
    bench.cables["rs485"].pull()
    down = bench.gateway.wait_until(lambda s: bool(s["drivers"]["rs485"]["state"] == "down"), "the cable is not missed")
    assert down["drivers"]["lora"]["state"] == "up"
    bench.city.await_more("pegel-1")
    bench.city.await_more("pegel-2")
    bench.cables["rs485"].plug()
    bench.city.await_more(METER)
    assert bench.gateway.status()["drivers"]["rs485"]["state"] == "up"
    bench.city.settle()
    assert bench.city.complaint() == ""
