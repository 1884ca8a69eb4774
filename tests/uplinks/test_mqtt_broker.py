"""The MQTT uplink against a real Mosquitto: what counts as delivered, and what happens when it is not."""

import asyncio
import dataclasses
import pathlib
import random
from collections.abc import Iterator

import pytest

from tests.support.city import City
from tests.support.mosquitto import Mosquitto, Pki
from tests.support.proxy import SwallowingProxy
from tests.uplinks.gateway import GATEWAY_ID, running, settings_for

ACL = """\
user city
topic readwrite litfass/#
pattern write litfass/%u/readings
pattern write litfass/%u/gap
pattern write litfass/%u/status
"""
ACL_WITHOUT_READINGS = ACL.replace("pattern write litfass/%u/readings\n", "")


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def secure(tmp_path: pathlib.Path, pki: Pki) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker", pki=pki, acl=ACL) as broker:
        yield broker


@pytest.fixture
def plain(tmp_path: pathlib.Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker") as broker:
        yield broker


async def until_received(city: City, count: int) -> None:
    """Wait, off the loop, until the city has ``count`` different readings."""
    await asyncio.to_thread(city.wait_for, lambda: len(set(city.identities)) >= count)


async def test_readings_arrive_over_tls_1_3_with_a_client_certificate(
    tmp_path: pathlib.Path, secure: Mosquitto
) -> None:
    with City(secure) as city:
        async with running(tmp_path, settings_for(secure)) as bench:
            await bench.append(range(600))
            await until_received(city, 600)
            await bench.until(lambda: bench.cursor == bench.store.readable_seq)
        records = list(city.by_identity().values())
        assert [record["v"] for record in records] == [number / 1000 for number in range(600)]
        assert records[7] == {
            "name": "urn:dev:org:32473-gw-test:pegel-1:water_level", "time": 1_760_000_007.0, "u": "m", "v": 0.007,
        }  # fmt: skip
        assert len(city.packs) <= 4, "many readings travel in one message"
        assert {pack.topic for pack in city.packs} == {f"litfass/{GATEWAY_ID}/readings"}


async def test_p3_a_refused_puback_moves_no_cursor(tmp_path: pathlib.Path, secure: Mosquitto) -> None:
    secure.set_acl(ACL_WITHOUT_READINGS)
    secure.reload()
    with City(secure) as city:
        async with running(tmp_path, settings_for(secure)) as bench:
            start = bench.cursor
            await bench.append(range(10))
            await bench.until(lambda: bench.state == "refused")
            assert "PUBACK 0x87, not authorized" in bench.detail
            assert bench.cursor == start
            assert city.packs == []
            status = bench.uplink.status()
            assert status["records_delivered"] == 0
            assert status["backlog_records"] == 10
            secure.set_acl(ACL)
            secure.reload()
            await until_received(city, 10)
            await bench.until(lambda: bench.cursor == start + 10)


async def test_p3_broker_restarted_during_traffic(tmp_path: pathlib.Path) -> None:
    total = 3000
    keeping = f"persistence true\npersistence_location {tmp_path}/\n"  # what it acknowledged outlives its restart
    with Mosquitto(tmp_path / "broker", extra=keeping) as broker, City(broker) as city:
        async with running(tmp_path, settings_for(broker)) as bench:
            for round_number in range(3):
                first = round_number * total // 3
                for number in range(first, first + total // 3, 50):
                    await bench.append(range(number, number + 50))
                    if number == first + 500:
                        city.forget_subscription()
                        await asyncio.to_thread(broker.stop)
                        await asyncio.to_thread(broker.start)
                        await asyncio.to_thread(city.await_subscribed)
            await until_received(city, total)
        values = [record["v"] for record in city.by_identity().values()]
    assert sorted(values) == [number / 1000 for number in range(total)]


async def test_f64_what_was_in_flight_is_sent_again_octet_for_octet(tmp_path: pathlib.Path, plain: Mosquitto) -> None:
    with City(plain) as city:
        async with SwallowingProxy(plain.port) as proxy:
            settings = settings_for(plain, url=f"mqtt://127.0.0.1:{proxy.port}")
            async with running(tmp_path, settings) as bench:
                bench.uplink._sender.progress_timeout_s = 0.5
                await bench.append(range(100))
                await until_received(city, 100)
                await bench.until(lambda: bench.cursor == bench.store.readable_seq)
                proxy.swallow()  # no RST, no FIN: TCP looks alive
                await bench.append(range(100, 150))
                await bench.until(lambda: bench.uplink.status()["batches_resent"] == 1)
                await until_received(city, 150)
                assert proxy.connections == 2
        assert [record["v"] for record in city.by_identity().values()] == [number / 1000 for number in range(150)]


async def test_last_will_and_goodbye(tmp_path: pathlib.Path, plain: Mosquitto) -> None:
    with City(plain) as city:
        async with SwallowingProxy(plain.port) as proxy:
            url = f"mqtt://127.0.0.1:{proxy.port}"
            async with running(tmp_path, settings_for(plain, url=url)):
                await asyncio.to_thread(city.wait_for, lambda: [s["state"] for s in city.statuses] == ["online"])
        await asyncio.to_thread(city.wait_for, lambda: city.statuses[-1]["state"] == "offline")
        async with running(tmp_path, settings_for(plain)) as bench:
            await bench.append(range(20))
            await bench.uplink.drain(5.0)
            assert bench.cursor == bench.store.readable_seq, "what was synced left before the goodbye"
        await asyncio.to_thread(city.wait_for, lambda: city.statuses[-1]["state"] == "stopped")
        assert len(city.by_identity()) == 20


@pytest.mark.filterwarnings("ignore:.*unclosed <ssl.SSLSocket")  # paho leaves a failed hand-shake to the collector
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("unknown authority", "certificate verify failed"),
        ("wrong name", "IP address mismatch, certificate is not valid for '127.0.0.2'"),
        ("no client certificate", "does it want a client certificate?"),
        ("another's key", "certificate or key unusable"),
    ],
)
async def test_f58_no_connection_is_better_than_an_unverified_one(
    tmp_path: pathlib.Path, pki: Pki, fault: str, message: str
) -> None:
    stranger = Pki(tmp_path / "stranger")
    host = "127.0.0.2" if fault == "wrong name" else "127.0.0.1"
    with Mosquitto(tmp_path / "broker", pki=pki, host=host) as broker:
        keys = {"url": f"mqtts://{host}:{broker.port}"}
        if fault == "unknown authority":
            keys["ca"] = str(stranger.ca_path)
        if fault == "another's key":
            keys["key"] = f"file:{stranger.client(GATEWAY_ID)[1]}"
        settings = settings_for(broker, **keys)
        if fault == "no client certificate":
            settings = dataclasses.replace(settings, cert=None, key=None)
        async with running(tmp_path, settings) as bench:
            await bench.append(range(3))
            start = bench.cursor
            await bench.until(lambda: bench.state == "down")
            assert message in bench.detail
            assert bench.cursor == start
            assert bench.uplink.status()["records_delivered"] == 0


@pytest.mark.parametrize("delay_ms", [step / 4 for step in range(24)])
async def test_f29_a_stop_in_the_middle_of_connecting_is_heard(
    tmp_path: pathlib.Path, plain: Mosquitto, delay_ms: float
) -> None:
    async with asyncio.timeout(10), running(tmp_path, settings_for(plain)):
        await asyncio.sleep(delay_ms / 1000)  # the moment is what is tried here, not waited for


async def test_f65_a_broker_that_takes_only_small_packets(tmp_path: pathlib.Path) -> None:
    with Mosquitto(tmp_path / "broker", extra="max_packet_size 2000\n") as broker, City(broker) as city:
        async with running(tmp_path, settings_for(broker)) as bench:
            await bench.append(range(500))
            await until_received(city, 500)
        assert max(len(pack.payload) for pack in city.packs) <= 2000


async def test_f66_a_second_gateway_with_our_id_is_named(tmp_path: pathlib.Path, plain: Mosquitto) -> None:
    async with running(tmp_path / "one", settings_for(plain)) as one:
        await one.until(lambda: one.state == "up")
        async with running(tmp_path / "two", settings_for(plain)) as two:
            named = f"does a second gateway use the id {GATEWAY_ID}?"
            await one.until(lambda: named in one.detail or named in two.detail)


async def test_f17_what_the_ring_could_not_keep_is_told(tmp_path: pathlib.Path, plain: Mosquitto) -> None:
    plain.stop()
    async with running(tmp_path, settings_for(plain), ring_size=1 << 20) as bench:
        first, noise = bench.cursor, random.Random(1)
        for number in range(0, 2_000_000, 500):
            await bench.append(range(number, number + 500), noise)
            if bench.store.status().ring.tail_seq > first + 20_000:
                break
        else:
            pytest.fail("the ring never wrapped")
        total = bench.store.readable_seq - first
        plain.start()
        with City(plain) as city:
            await asyncio.to_thread(
                city.wait_for,
                lambda: sum(g["count"] for g in city.gaps) + len(set(city.identities)) >= total,
                60,
            )
            (gap,) = city.gaps
            assert gap["cause"] == "overwritten"
            assert gap["first"] == first
            assert gap["last"] == gap["first"] + gap["count"] - 1
            assert min(seq for _, seq in city.identities) == gap["last"] + 1
