"""F30: the gateway is killed at any moment of its work; what it had acknowledged to a packet forwarder arrives."""

import os
import random
import time

import pytest

from tests.integration.bench import Settings, judge, sensors, until_all_arrived
from tests.support.city import City
from tests.support.mosquitto import Mosquitto
from tests.support.process import GatewayProcess
from tests.support.sensors import Forwarder

KILLS = int(os.environ.get("LITFASS_KILLS", "50"))
UP_S = (0.05, 0.8)  # lives this long after READY=1
STARTING_SHARE = 0.2  # of the lives end before READY=1
STARTING_S = (0.05, 0.7)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_p1_p3_fifty_kills_lose_no_acknowledged_frame(settings: Settings, broker: Mosquitto) -> None:
    seed = int(os.environ.get("LITFASS_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"LITFASS_SEED={seed}")  # noqa: T201  # the way back to a failure
    draw = random.Random(seed)
    street = sensors(1, 1, 3, 8)
    gateway = GatewayProcess(settings.lora(*street).uplink(broker).write())
    with City(broker) as city, Forwarder(settings.udp_port, *street) as forwarder:
        for number in range(KILLS):
            is_ready_first = number == 0 or draw.random() >= STARTING_SHARE
            gateway.start(is_awaited=is_ready_first)
            try:
                time.sleep(draw.uniform(*(UP_S if is_ready_first else STARTING_S)))  # the fault is the random moment
                assert gateway.is_running, gateway.log_text[-3000:]
            finally:
                gateway.kill()
        with gateway:
            forwarder.finish()
            until_all_arrived(gateway, city)
            assert gateway.terminate() == 0
    verdict = judge(city, street)
    frames = f"{forwarder.sent_count} frames made, {forwarder.acknowledged_count} acknowledged"
    print(f"{KILLS} kills, {frames}; {verdict}")  # noqa: T201
    assert verdict.is_good, f"seed {seed}: {verdict}"
    assert city.gaps == []
    assert all(len(sensor.acknowledged) > KILLS for sensor in street), "there was traffic all the time"
