"""The way to the city fails: broker killed, broker hung, gateway restarted meanwhile. Nothing acknowledged is lost."""

from tests.integration.bench import Settings, judge, sensors, until_all_arrived
from tests.support.city import City
from tests.support.loop import LoopThread
from tests.support.mosquitto import Mosquitto
from tests.support.process import GatewayProcess
from tests.support.proxy import SwallowingProxy
from tests.support.sensors import Forwarder


def test_p3_broker_killed_and_started_again_during_traffic(settings: Settings, broker: Mosquitto) -> None:
    street = sensors(1, 4)
    gateway = GatewayProcess(settings.lora(*street).uplink(broker).write())
    with City(broker) as city, gateway, Forwarder(settings.udp_port, *street) as forwarder:
        broker.save()  # the city's subscription outlives the kills
        for _ in range(3):
            forwarder.await_acknowledged(50)
            broker.freeze()  # so that messages are on their way, unacknowledged, when it dies
            forwarder.await_acknowledged(50)
            broker.kill()
            gateway.until_status(lambda s: s["uplinks"]["city"]["state"] == "down", "it does not notice")
            forwarder.await_acknowledged(50)
            broker.start()
            gateway.until_status(lambda s: s["uplinks"]["city"]["state"] == "up", "it does not come back")
        forwarder.finish()
        until_all_arrived(gateway, city)
        assert gateway.status()["uplinks"]["city"]["connections"] >= 4
    verdict = judge(city, street)
    assert verdict.is_good, str(verdict)
    assert city.gaps == []


def test_f88_restarted_and_killed_again_while_the_broker_is_away(settings: Settings, broker: Mosquitto) -> None:
    street = sensors(1, 4)
    gateway = GatewayProcess(settings.lora(*street).uplink(broker).write())
    with City(broker) as city, Forwarder(settings.udp_port, *street) as forwarder:
        broker.save()
        with gateway:
            forwarder.await_acknowledged(30)
            broker.kill()
            forwarder.await_acknowledged(30)
        for _ in range(2):  # killed, started, never connected, killed again
            with gateway:
                forwarder.await_acknowledged(30)
                assert gateway.status()["uplinks"]["city"]["connections"] == 0
        broker.start()
        with gateway:
            forwarder.finish()
            until_all_arrived(gateway, city)
    verdict = judge(city, street)
    assert verdict.is_good, str(verdict)


def test_f61_a_half_open_connection_is_noticed_and_all_of_it_sent_again(settings: Settings, broker: Mosquitto) -> None:
    street = sensors(1, 4)
    with LoopThread() as loop, City(broker) as city:
        proxy = SwallowingProxy(broker.port)
        loop.call(proxy.__aenter__())
        try:
            gateway = GatewayProcess(settings.lora(*street).uplink(broker, port=proxy.port, keepalive="5s").write())
            with gateway, Forwarder(settings.udp_port, *street) as forwarder:
                forwarder.await_acknowledged(50)
                gateway.until_status(lambda s: s["uplinks"]["city"]["batches_delivered"] > 0, "it delivers nothing")
                loop.soon(proxy.swallow)  # no FIN, no RST: for TCP all is well
                forwarder.await_acknowledged(50)
                gateway.until_status(lambda s: s["uplinks"]["city"]["batches_resent"] > 0, "it does not notice")
                forwarder.finish()
                until_all_arrived(gateway, city)
                assert proxy.connections == 2
        finally:
            loop.call(proxy.__aexit__())
    verdict = judge(city, street)
    assert verdict.is_good, str(verdict)


def test_p3_a_refused_puback_delivers_nothing_and_loses_nothing(settings: Settings, broker: Mosquitto) -> None:
    acl = broker.acl
    street = sensors(1)
    gateway = GatewayProcess(settings.lora(*street).uplink(broker).write())
    broker.set_acl(acl.replace("pattern write litfass/%u/readings\n", ""))
    broker.reload()
    with City(broker) as city, Forwarder(settings.udp_port, *street) as forwarder:
        with gateway:
            forwarder.await_acknowledged(20)
            status = gateway.until_status(lambda s: s["uplinks"]["city"]["refused"] > 0, "nobody refuses")
            assert status["uplinks"]["city"]["records_delivered"] == 0
            assert "0x87" in status["uplinks"]["city"]["last_refusal"]
            assert gateway.logged("uplink.refused")
        broker.set_acl(acl)
        broker.reload()
        with gateway:  # a technician mended the ACL; the cursor had not moved, so everything comes
            forwarder.finish()
            until_all_arrived(gateway, city)
    verdict = judge(city, street)
    assert verdict.is_good, str(verdict)
