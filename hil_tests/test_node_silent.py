"""One sensor falls silent: its neighbours are heard as before, and a look at the gateway tells since when."""

from hil_tests.protocols import Parts


def test_a_silent_node_holds_up_nobody_and_is_heard_again(bench: Parts) -> None:
    bench.sensors["pegel-1"].silence()
    bench.city.await_more("pegel-2", 20)
    before = bench.gateway.devices()["pegel-1"]
    bench.city.await_more("pegel-2", 20)
    bench.city.await_more("pumpwerk-zaehler")
    after = bench.gateway.devices()
    assert after["pegel-1"]["heard_ms"] == before["heard_ms"]
    assert after["pegel-1"]["readings"] == before["readings"]
    assert after["pegel-2"]["heard_ms"] > after["pegel-1"]["heard_ms"]
    bench.sensors["pegel-1"].speak()
    bench.city.await_more("pegel-1")
    bench.city.settle()
    assert bench.city.complaint() == ""
