"""Both brokers of the street do for a client what the standard asks; a real client (aiomqtt) tells."""

import asyncio
import contextlib
import pathlib
from collections.abc import AsyncIterator

import aiomqtt
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from drivers.simulated.broker import HOST, Broker, make_broker, mosquitto_path, start_broker
from drivers.simulated.mqtt5 import matches

KINDS = [
    "embedded",
    pytest.param("mosquitto", marks=pytest.mark.skipif(not mosquitto_path(), reason="Mosquitto is not installed")),
]
LIMIT_S = 10.0


@pytest.fixture(params=KINDS)
async def broker(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> AsyncIterator[Broker]:
    broker = make_broker(request.param, tmp_path)
    await broker.start()
    async with asyncio.timeout(LIMIT_S * 3):
        yield broker
    await broker.stop()


def client(broker: Broker, identifier: str | None = None, **options: object) -> aiomqtt.Client:
    return aiomqtt.Client(
        HOST,
        broker.port,
        identifier=identifier,
        protocol=aiomqtt.ProtocolVersion.V5,
        timeout=LIMIT_S,
        **options,  # type: ignore[arg-type]
    )


def kept_client(broker: Broker) -> aiomqtt.Client:
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = 60
    return client(broker, "kept", clean_start=False, properties=properties)


def user_properties(**texts: str) -> Properties:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.ContentType = "application/senml+json"
    properties.UserProperty = list(texts.items())
    return properties


async def next_message(subscriber: aiomqtt.Client) -> aiomqtt.Message:
    async with asyncio.timeout(LIMIT_S):
        return await anext(subscriber.messages)


@pytest.mark.parametrize("qos", [0, 1])
async def test_a_message_arrives_with_its_properties(broker: Broker, qos: int) -> None:
    async with client(broker) as city, client(broker) as gateway:
        await city.subscribe("litfass/+/readings", qos=1)
        await gateway.publish("litfass/gw/readings", b"[]", qos=qos, properties=user_properties(epoch="1", count="2"))
        message = await next_message(city)
        assert (message.topic.value, message.payload, message.qos) == ("litfass/gw/readings", b"[]", qos)
        properties = vars(message.properties)
        assert properties["UserProperty"] == [("epoch", "1"), ("count", "2")]
        assert properties["ContentType"] == "application/senml+json"


async def test_a_large_message_arrives_whole(broker: Broker) -> None:
    payload = bytes(range(256)) * 1024
    async with client(broker) as city:
        await city.subscribe("#", qos=1)
        await city.publish("large", payload, qos=1)
        assert (await next_message(city)).payload == payload


async def test_a_later_subscriber_gets_the_retained_message(broker: Broker) -> None:
    async with client(broker) as gateway:
        await gateway.publish("a/status", b"old", qos=1, retain=True)
        await gateway.publish("a/status", b"online", qos=1, retain=True)
        await gateway.publish("b/status", b"online", qos=1, retain=True)
        await gateway.publish("b/status", b"", qos=1, retain=True)  # forgets it
        await gateway.subscribe("+/status", qos=1)
        message = await next_message(gateway)
        assert (message.topic.value, message.payload, message.retain) == ("a/status", b"online", True)
        await gateway.publish("c/end", b"", qos=1)
        await gateway.subscribe("c/end", qos=1)
        await gateway.publish("c/end", b"", qos=1)
        assert (await next_message(gateway)).topic.value == "c/end"


async def test_a_will_is_published_for_a_client_cut_off_and_not_after_a_goodbye(broker: Broker) -> None:
    will = aiomqtt.Will("gw/status", b"offline", qos=1)
    async with client(broker) as city:
        await city.subscribe("#", qos=1)
        async with client(broker, will=will):
            pass
        cut_off = client(broker, will=will)
        await cut_off.__aenter__()
        cut_off._client._sock_close()
        with contextlib.suppress(aiomqtt.MqttError):
            await cut_off.__aexit__(None, None, None)
        assert (await next_message(city)).payload == b"offline"
        await city.publish("end", b"", qos=1)
        assert (await next_message(city)).topic.value == "end"


async def test_what_is_published_while_a_kept_client_is_away_waits_for_it(broker: Broker) -> None:
    async with kept_client(broker) as city:
        await city.subscribe("readings", qos=1)
    async with client(broker) as gateway:
        for number in range(30):
            await gateway.publish("readings", str(number), qos=1)
    async with kept_client(broker) as city:
        assert [int((await next_message(city)).payload) for _ in range(30)] == list(range(30))


async def test_sessions_outlive_a_stop_of_the_broker(broker: Broker) -> None:
    async with kept_client(broker) as city:
        await city.subscribe("readings", qos=1)
    async with client(broker) as gateway:
        await gateway.publish("readings", b"before", qos=1)
    await broker.stop()
    with pytest.raises(aiomqtt.MqttError):
        await client(broker).__aenter__()
    await broker.start()
    async with client(broker) as gateway:
        await gateway.publish("readings", b"after", qos=1)
    async with kept_client(broker) as city:
        assert [(await next_message(city)).payload for _ in range(2)] == [b"before", b"after"]


async def test_a_stop_ends_the_connections(broker: Broker) -> None:
    connected = client(broker)
    await connected.__aenter__()
    await broker.stop()
    with pytest.raises(aiomqtt.MqttError):
        await next_message(connected)
    with contextlib.suppress(aiomqtt.MqttError):
        await connected.__aexit__(None, None, None)


async def test_a_port_in_use_is_told(broker: Broker, tmp_path: pathlib.Path) -> None:
    with pytest.raises(OSError, match="in use"):
        make_broker("embedded", tmp_path, broker.port)


@pytest.mark.parametrize(
    ("topic_filter", "topic", "expected"),
    [  # MQTT 5.0, 4.7.1: the examples of the standard
        ("sport/tennis/player1/#", "sport/tennis/player1", True),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", True),
        ("sport/#", "sport", True),
        ("#", "sport", True),
        ("sport/tennis/+", "sport/tennis/player1", True),
        ("sport/tennis/+", "sport/tennis/player1/ranking", False),
        ("sport/+", "sport", False),
        ("sport/+", "sport/", True),
        ("+/+", "/finance", True),
        ("/+", "/finance", True),
        ("+", "/finance", False),
        ("#", "$SYS/monitor", False),
        ("+/monitor/Clients", "$SYS/monitor/Clients", False),
        ("$SYS/#", "$SYS/monitor", True),
        ("a/b", "a/b", True),
        ("a/b", "a/bc", False),
    ],
)
def test_topic_filters_match_as_the_standard_says(topic_filter: str, topic: str, expected: bool) -> None:
    assert matches(topic_filter, topic) is expected


async def test_where_mosquitto_does_not_start_our_own_broker_takes_its_place(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drivers.simulated.broker.mosquitto_path", lambda: "/bin/false")
    with pytest.raises(OSError, match="exit code 1"):
        await start_broker("mosquitto", tmp_path)
    broker = await start_broker("auto", tmp_path)
    async with client(broker) as anybody:
        await anybody.publish("a", b"", qos=1)
    await broker.stop()


async def test_a_broker_that_is_not_there_is_told(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivers.simulated.broker.mosquitto_path", lambda: None)
    with pytest.raises(OSError, match="apt install mosquitto"):
        await start_broker("mosquitto", tmp_path)
