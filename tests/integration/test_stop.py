"""F29: `systemctl stop` at a bad moment. The contract: exit code 0 within 10 s, everything delivered or kept."""

import signal

import pytest

from tests.integration.bench import Settings, judge, sensors, until_all_arrived
from tests.support.city import City
from tests.support.mosquitto import Mosquitto
from tests.support.process import GatewayProcess
from tests.support.sensors import Forwarder


def test_f29_stopped_while_publishing_a_backlog(settings: Settings, broker: Mosquitto) -> None:
    street = sensors(20, 20, 20)
    gateway = GatewayProcess(settings.lora(*street).uplink(broker).write())
    with City(broker) as city, Forwarder(settings.udp_port, *street, pause_s=0.0) as forwarder:
        broker.save()
        broker.stop()
        gateway.start()
        forwarder.await_acknowledged(3000)
        broker.start()
        gateway.until_status(lambda s: s["uplinks"]["city"]["batches_delivered"] > 0, "it delivers nothing")
        assert gateway.terminate() == 0  # new frames arrive all the while
        city.wait_for(lambda: city.statuses[-1]["state"] == "stopped")
        with gateway:
            forwarder.finish()
            until_all_arrived(gateway, city)
    verdict = judge(city, street)
    assert verdict.is_good, str(verdict)


def test_f29_what_was_acknowledged_leaves_before_the_goodbye(settings: Settings, broker: Mosquitto) -> None:
    street = sensors(1)
    gateway = GatewayProcess(settings.lora(*street).uplink(broker).write())
    with City(broker) as city:
        with gateway:
            gateway.until_status(lambda s: s["uplinks"]["city"]["state"] == "up", "it does not connect")
            with Forwarder(settings.udp_port, *street) as forwarder:
                forwarder.await_acknowledged(20)
                forwarder.finish()
            assert gateway.terminate() == 0
        city.wait_for(lambda: city.statuses[-1]["state"] == "stopped")
        verdict = judge(city, street)
        assert verdict.is_good, str(verdict)


@pytest.mark.parametrize("moment", ["connected", "connecting"])
def test_f29_stopped_while_the_broker_hangs(settings: Settings, broker: Mosquitto, moment: str) -> None:
    street = sensors(1, 5)
    gateway = GatewayProcess(settings.lora(*street).uplink(broker).write())
    with City(broker) as city, Forwarder(settings.udp_port, *street) as forwarder:
        if moment == "connecting":
            broker.freeze()
        gateway.start()
        if moment == "connected":
            gateway.until_status(lambda s: s["uplinks"]["city"]["batches_delivered"] > 0, "it delivers nothing")
            broker.freeze()
        forwarder.await_acknowledged(50)
        assert gateway.terminate() == 0
        broker.thaw()
        with gateway:
            forwarder.finish()
            until_all_arrived(gateway, city)
    verdict = judge(city, street)
    assert verdict.is_good, str(verdict)


def test_stopped_with_ctrl_c(settings: Settings) -> None:
    gateway = GatewayProcess(settings.write())
    gateway.start()
    gateway.signal(signal.SIGINT)
    assert gateway.await_end() == 0
    assert gateway.log[-1]["code"] == "service.stopped"
