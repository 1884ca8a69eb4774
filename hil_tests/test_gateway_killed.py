"""The power goes, again and again, while frames come in: every frame the gateway acknowledged arrives."""

from hil_tests.protocols import Parts

POWER_CUTS = 5


def test_no_acknowledged_frame_is_lost_when_the_power_goes(bench: Parts) -> None:
    sensor = bench.sensors["pegel-1"]
    for _ in range(POWER_CUTS):
        bench.gateway.power_off()
        bench.gateway.power_on()
        sensor.await_acknowledged(20)
    bench.city.await_more("pumpwerk-zaehler")
    bench.city.settle()
    assert bench.city.complaint() == ""
