"""The city's broker is away for a while: nothing is lost, and the gateway says how much waits."""

from hil_tests.protocols import Parts

BACKLOG_RECORDS = 100


def test_what_was_measured_during_an_outage_arrives_afterwards(bench: Parts) -> None:
    bench.broker.stop()
    waiting = bench.gateway.wait_until(
        lambda s: bool(s["uplinks"]["city"]["backlog_records"] >= BACKLOG_RECORDS), "no backlog grows"
    )
    assert waiting["uplinks"]["city"]["state"] == "down"
    assert all(driver["state"] == "up" for driver in waiting["drivers"].values())
    bench.broker.start()
    bench.gateway.wait_until(lambda s: bool(s["uplinks"]["city"]["state"] == "up"), "it does not come back")
    bench.city.settle()
    assert bench.city.complaint() == ""
