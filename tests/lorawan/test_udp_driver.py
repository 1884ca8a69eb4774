"""The lorawan-udp driver on a real socket: frames of lora-packet in, readings and acknowledgements out."""

import asyncio
import contextlib
import json
import socket
import time
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivers.lorawan import gwmp, mac
from drivers.lorawan.receiver import Reception, UplinkReceiver
from drivers.lorawan.settings import DEV_ADDR_SHARED_MAX, UdpSettings
from drivers.lorawan.udp_driver import INBOX_DATAGRAMS_MAX, phenomenon_time_ms
from gateway.driver import FrameError, FrameReason, LinkError, LinkReason, ReplayError, Secret
from tests.fakes.sink import RecordingSink
from tests.lorawan.street import (
    APP_SKEY,
    DEV_ADDR,
    EUI,
    FRAMES,
    NOW_MS,
    NWK_SKEY,
    BrokenSink,
    GatedSink,
    MovableClock,
    PacketForwarder,
    device,
    pull_ack,
    pull_data,
    push_ack,
    push_data,
    running,
    rxpk,
    udp_driver,
)
from tests.lorawan.vectors import load, uplinks

N_KEY, S_KEY = "f_cnt_up/isar-pegel-3", "session/isar-pegel-3"


def frame(f_cnt: int, payload: bytes = bytes.fromhex("016700d2"), **changes: Any) -> bytes:
    fields: dict[str, Any] = {"nwk_skey": NWK_SKEY, "app_skey": APP_SKEY, "dev_addr": DEV_ADDR, "f_port": 1}
    return mac.encode_uplink(**{**fields, "f_cnt": f_cnt, "payload": payload, **changes})


def values(sink: RecordingSink) -> list[tuple[str, object]]:
    return [(reading.observed_property, reading.value) for reading in sink.readings]


async def deliver(sink: RecordingSink, *phy_payloads: bytes, clock: MovableClock | None = None, **changes: Any) -> None:
    """Start a driver, deliver each frame in a datagram of its own, stop the driver."""
    driver = udp_driver(device(**changes), clock=clock)
    async with running(driver, sink):
        with PacketForwarder(sink) as forwarder:
            for token, phy_payload in enumerate(phy_payloads):
                await forwarder.deliver(token, rxpk(phy_payload))


# ---- the main job ----------------------------------------------------------------------------------------------------


async def test_frame_becomes_readings_with_time_and_signal() -> None:
    sink = RecordingSink()
    async with running(udp_driver(), sink):
        with PacketForwarder(sink) as forwarder:
            await forwarder.deliver(7, rxpk(FRAMES[0].phy_payload, time="2025-10-09T08:53:19.118002Z"))
    first, second = sink.readings
    assert (first.device_id, first.observed_property, first.value, first.unit) == (
        "isar-pegel-3", "temperature/1", 21.0, "Cel",
    )  # fmt: skip
    assert (second.observed_property, second.value, second.unit) == ("relative_humidity/2", 57.5, "%")
    for reading in sink.readings:
        assert (reading.phenomenon_time_ms, reading.received_time_ms) == (NOW_MS - 882, NOW_MS)
        assert (reading.rssi_dbm, reading.snr_db) == (-97.0, 5.2)
    assert sink.memory[N_KEY] == 1
    assert sink.rejected == []


async def test_all_frames_of_lora_packet_are_taken() -> None:
    sink = RecordingSink()
    near = [vector for f_cnt, vector in sorted(FRAMES.items()) if f_cnt <= 131072]
    await deliver(sink, *(vector.phy_payload for vector in near))
    assert len(sink.appended) == len(near) == 22
    lpp = [vector for vector in near if vector.plaintext[:2] == b"\x01\x67"]
    assert len(sink.readings) == 2 * len(lpp)
    assert sink.memory[N_KEY] == 131073
    # what is no Cayenne LPP, and the test port, are refused after their counter was remembered
    assert [str(error).partition(" octet")[0] for error in sink.rejected] == [
        "isar-pegel-3: FCnt 11, FPort 223:",
        "isar-pegel-3: FPort 224: expected 1 to 223",
        *(f"isar-pegel-3: FCnt {f_cnt}, FPort 10:" for f_cnt in range(13, 18)),
    ]


async def test_counter_of_a_device_taken_over_may_be_high() -> None:
    sink = RecordingSink()
    await deliver(sink, FRAMES[16909060].phy_payload, f_cnt_up=16909000)
    assert values(sink)[0] == ("temperature/1", 21.4)
    assert sink.memory[N_KEY] == 16909061
    sink = RecordingSink()
    await deliver(sink, FRAMES[4294967295].phy_payload, f_cnt_up=4294967295)
    assert sink.memory[N_KEY] == 4294967296


async def test_mic_tells_devices_that_share_an_address() -> None:
    other = device("isar-pegel-4", 2, nwk_skey=Secret(bytes(16), "plain:…"), app_skey=Secret(bytes(16), "plain:…"))
    sink = RecordingSink()
    async with running(udp_driver(other, device()), sink):
        with PacketForwarder(sink) as forwarder:
            await forwarder.deliver(1, rxpk(FRAMES[0].phy_payload))
            await forwarder.deliver(2, rxpk(frame(9, nwk_skey=bytes(16), app_skey=bytes(16))))
            await forwarder.deliver(3, rxpk(frame(10, nwk_skey=bytes(15) + b"\1", app_skey=bytes(16))))
    assert [reading.device_id for reading in sink.readings] == ["isar-pegel-3", "isar-pegel-3", "isar-pegel-4"]
    (error,) = sink.rejected
    assert error.device_id == ""  # nobody can say whose it was


@pytest.mark.parametrize(
    "f_cnt", [7, 8, 9, 10], ids=["no port", "no port, FOpts", "empty payload", "MAC commands on port 0"]
)
async def test_frame_without_application_payload_moves_the_counter_only(f_cnt: int) -> None:
    sink = RecordingSink()
    await deliver(sink, FRAMES[f_cnt].phy_payload)
    assert sink.appended == [[]]
    assert sink.memory[N_KEY] == f_cnt + 1
    assert sink.rejected == []
    assert sink.counters["no_readings"] == 1


async def test_missed_frames_are_counted() -> None:
    sink = RecordingSink()
    await deliver(sink, frame(100), frame(101), frame(110), frame(20_000))
    assert sink.counters["missed"] == 8 + 19_889
    assert sink.counters["f_cnt_jump"] == 1


async def test_status_report_alone_is_acknowledged() -> None:
    sink = RecordingSink()
    async with running(udp_driver(), sink):
        with PacketForwarder(sink) as forwarder:
            await forwarder.deliver(3)
    assert sink.appended == []


async def test_keep_alive_and_downlink_report() -> None:
    sink = RecordingSink()
    async with running(udp_driver(), sink):
        with PacketForwarder(sink) as forwarder:
            await forwarder.send(b"\x02\x00\x01\x05" + EUI + b'{"txpk_ack":{"error":"TOO_LATE"}}')
            await forwarder.send(b"\x02\x00\x01\x05" + EUI + b'{"txpk_ack":')
            await forwarder.send(pull_data(0x3344))
            assert await forwarder.answer() == pull_ack(0x3344)
    assert sink.counters["tx_ack"] == 1
    assert len(sink.rejected) == 1


# ---- acknowledge what you own ----------------------------------------------------------------------------------------


async def test_no_push_ack_before_append_returned() -> None:
    sink = GatedSink()
    async with running(udp_driver(), sink):
        with PacketForwarder(sink) as forwarder:
            await forwarder.send(push_data(1, rxpk(FRAMES[0].phy_payload)))
            await sink.entered.wait()
            await forwarder.send(pull_data(2))  # answered at once: the loop is not held up, and no PUSH_ACK came before
            assert await forwarder.answer() == pull_ack(2)
            assert not forwarder.has_answer()
            sink.gate.set()
            assert await forwarder.answer() == push_ack(1)
    assert len(sink.readings) == 2


async def test_f08_no_push_ack_while_the_disk_fails() -> None:
    sink = RecordingSink()
    sink.is_disk_sound = False
    async with running(udp_driver(), sink):
        with PacketForwarder(sink) as forwarder:
            await forwarder.send(push_data(1, rxpk(FRAMES[0].phy_payload)))
            await forwarder.send(push_data(2))  # nothing to store, so it is acknowledged, and in order
            assert await forwarder.answer() == push_ack(2)
            assert not forwarder.has_answer()
    assert len(sink.readings) == 2, "kept in memory all the same"


async def test_push_ack_waits_for_every_frame_of_the_datagram() -> None:
    class SteppedSink(RecordingSink):
        """Stores one frame for each release of ``steps``."""

        steps = asyncio.Semaphore(0)

        async def append(self, readings: Any, *, memory: Any = None) -> bool:
            await self.steps.acquire()
            return await super().append(readings, memory=memory)

    sink = SteppedSink()
    async with running(udp_driver(), sink):
        with PacketForwarder(sink) as forwarder:
            await forwarder.send(push_data(1, *(rxpk(FRAMES[f_cnt].phy_payload) for f_cnt in (0, 1, 2))))
            for stored in range(3):
                await sink.until(lambda sink, stored=stored: len(sink.appended) == stored)  # type: ignore[misc]
                await forwarder.send(pull_data(2))
                assert await forwarder.answer() == pull_ack(2)
                sink.steps.release()
            assert await forwarder.answer() == push_ack(1)
    assert len(sink.appended) == 3


async def test_frames_refused_for_good_do_not_hold_the_ack_back() -> None:
    sink = RecordingSink()
    wrong_mic = FRAMES[1].phy_payload[:-1] + b"\0"
    stranger = frame(5, dev_addr=0x01020304)
    entries = [
        rxpk(wrong_mic), rxpk(stranger), rxpk(FRAMES[0].phy_payload), rxpk(b"junk"), {"data": "?"},
        rxpk(FRAMES[1].phy_payload, stat=-1), rxpk(FRAMES[2].phy_payload),
    ]  # fmt: skip
    async with running(udp_driver(), sink):
        with PacketForwarder(sink) as forwarder:
            await forwarder.deliver(9, *entries)
    assert len(sink.appended) == 2
    assert [error.reason for error in sink.rejected if isinstance(error, FrameError)] == [
        FrameReason.MALFORMED, FrameReason.MIC,
    ]  # fmt: skip
    assert (sink.counters["unlisted"], sink.counters["not_lorawan"], sink.counters["bad_crc"]) == (1, 1, 1)


async def test_failed_append_is_not_acknowledged_and_the_frame_may_come_again() -> None:
    driver, broken = udp_driver(), BrokenSink()
    task = asyncio.create_task(driver.run(broken))
    await broken.until(lambda sink: sink.links)
    with PacketForwarder(broken) as forwarder:
        await forwarder.send(push_data(1, rxpk(FRAMES[0].phy_payload)))
        with pytest.raises(RuntimeError, match="the store is closed"):
            await task
        assert not forwarder.has_answer()
    sink = RecordingSink()
    async with running(driver, sink):
        with PacketForwarder(sink) as forwarder:
            await forwarder.deliver(2, rxpk(FRAMES[0].phy_payload))
    assert len(sink.readings) == 2


async def test_append_that_failed_once_leaves_the_counter_within_the_run() -> None:
    receiver, clock = UplinkReceiver([device()], MovableClock()), MovableClock()
    reception = Reception(FRAMES[0].phy_payload, clock.wall_ms(), clock.wall_ms())
    with pytest.raises(RuntimeError):
        await receiver.take(reception, BrokenSink())
    sink = RecordingSink()
    await receiver.take(reception, sink)
    assert len(sink.readings) == 2


async def test_cancelled_append_leaves_the_counter() -> None:
    driver, sink = udp_driver(), GatedSink()
    async with running(driver, sink):
        with PacketForwarder(sink) as forwarder:
            await forwarder.send(push_data(1, rxpk(FRAMES[0].phy_payload)))
            await sink.entered.wait()
    assert sink.appended == []
    sink.gate.set()
    async with running(driver, sink):
        with PacketForwarder(sink) as forwarder:
            await forwarder.deliver(1, rxpk(FRAMES[0].phy_payload))
    assert len(sink.readings) == 2


async def test_slow_ring_bounds_what_waits() -> None:
    sink = GatedSink()
    async with running(udp_driver(), sink):
        with PacketForwarder(sink) as forwarder:
            await forwarder.send(push_data(0, rxpk(FRAMES[0].phy_payload)))
            await sink.entered.wait()
            for token in range(1, INBOX_DATAGRAMS_MAX + 6):
                await forwarder.send(push_data(token))
            await sink.until(lambda sink: sink.counters["overrun"] == 5)
            sink.gate.set()
            answers = [await forwarder.answer() for _ in range(INBOX_DATAGRAMS_MAX + 1)]
            assert answers == [push_ack(token) for token in range(INBOX_DATAGRAMS_MAX + 1)]
            await forwarder.deliver(99)


async def test_answer_to_a_forwarder_that_is_gone_harms_nobody() -> None:
    sink = GatedSink()
    async with running(udp_driver(), sink):
        with PacketForwarder(sink) as gone:
            await gone.send(push_data(1, rxpk(FRAMES[0].phy_payload)))
            await sink.entered.wait()
        sink.gate.set()
        with PacketForwarder(sink) as forwarder:
            await forwarder.deliver(2, rxpk(FRAMES[1].phy_payload))
    assert len(sink.appended) == 2


# ---- duplicates, order, replay ---------------------------------------------------------------------------------------


async def test_f39_copy_within_2_s_and_retransmission_after_60_s_are_stored_once() -> None:
    sink, clock = RecordingSink(), MovableClock()
    async with running(udp_driver(clock=clock), sink):
        with PacketForwarder(sink) as forwarder, PacketForwarder(sink) as second:
            await forwarder.deliver(1, rxpk(FRAMES[0].phy_payload))
            clock.move(1.5)
            await second.deliver(2, rxpk(FRAMES[0].phy_payload, rssi=-60), eui=bytes(8))
            clock.move(60)
            await forwarder.deliver(3, rxpk(FRAMES[0].phy_payload))
    assert len(sink.appended) == 1
    assert sink.counters["duplicate"] == 2
    assert sink.rejected == []


async def test_f39_best_signal_of_one_datagram_is_kept() -> None:
    sink = RecordingSink()
    copies = [(-97, 5.2), (-80, 7.0), (None, None), (-90, 9.0)]
    async with running(udp_driver(), sink):
        with PacketForwarder(sink) as forwarder:
            entries = [rxpk(FRAMES[0].phy_payload, rssi=rssi, lsnr=snr) for rssi, snr in copies]
            await forwarder.deliver(1, *entries)
    assert [(reading.rssi_dbm, reading.snr_db) for reading in sink.readings] == [(-80.0, 7.0)] * 2
    assert sink.counters["duplicate"] == 3


async def test_f40_frame_that_was_overtaken_is_stored_once() -> None:
    sink = RecordingSink()
    frames = [frame(f_cnt, bytes([f_cnt, 0x67, 0, 0xD2])) for f_cnt in (10, 12, 11, 11, 13)]
    await deliver(sink, *frames)
    assert [name for name, _ in values(sink)] == [f"temperature/{f_cnt}" for f_cnt in (10, 12, 11, 13)]
    assert sink.memory[N_KEY] == 14
    assert (sink.counters["late"], sink.counters["duplicate"]) == (1, 1)


async def test_f40_across_the_rollover() -> None:
    sink = RecordingSink()
    await deliver(sink, frame(65534), frame(65536), frame(65535), frame(65537))
    assert len(sink.appended) == 4
    assert sink.memory[N_KEY] == 65538


async def test_f41_replay_is_refused_also_after_a_restart() -> None:
    sink, clock = RecordingSink(), MovableClock()
    await deliver(sink, *(FRAMES[f_cnt].phy_payload for f_cnt in range(6)), clock=clock)
    clock.move(30)
    again = RecordingSink(sink.memory)
    await deliver(again, *(FRAMES[f_cnt].phy_payload for f_cnt in (5, 4, 3, 2)), clock=clock)
    assert again.appended == []
    assert again.counters["duplicate"] == 1  # the very last one: a retransmission
    replays = [(error.f_cnt, error.f_cnt_last) for error in again.rejected if isinstance(error, ReplayError)]
    assert replays == [(4, 5), (3, 5), (2, 5)]
    await deliver(again, FRAMES[6].phy_payload)
    assert len(again.readings) == 2


async def test_f41_replay_without_a_restart() -> None:
    sink, clock = RecordingSink(), MovableClock()
    async with running(udp_driver(clock=clock), sink):
        with PacketForwarder(sink) as forwarder:
            for token, f_cnt in enumerate((3, 4, 5)):
                await forwarder.deliver(token, rxpk(FRAMES[f_cnt].phy_payload))
            clock.move(11)
            await forwarder.deliver(8, rxpk(FRAMES[3].phy_payload))
    assert len(sink.appended) == 3
    (error,) = sink.rejected
    assert isinstance(error, ReplayError)
    assert (error.device_id, error.f_cnt, error.f_cnt_last) == ("isar-pegel-3", 3, 5)


async def test_f41_replay_of_an_earlier_round_of_the_counter() -> None:
    sink = RecordingSink({N_KEY: 65600})
    await deliver(sink, frame(65550), frame(20))
    assert sink.appended == []
    assert [error.f_cnt for error in sink.rejected if isinstance(error, ReplayError)] == [65550, 20]


async def test_f41_counter_and_readings_share_one_append() -> None:
    class Pairs(RecordingSink):
        async def append(self, readings: Any, *, memory: Any = None) -> bool:
            assert memory is not None
            assert memory[N_KEY] == len(self.appended) + 1
            assert len(readings) == 2
            return await super().append(readings, memory=memory)

    sink = Pairs()
    await deliver(sink, FRAMES[0].phy_payload, FRAMES[1].phy_payload)
    assert len(sink.appended) == 2


async def test_f42_counter_goes_on_past_65535() -> None:
    sink = RecordingSink()
    await deliver(sink, *(FRAMES[f_cnt].phy_payload for f_cnt in (65535, 65536)))
    assert values(sink) == [
        ("temperature/1", 21.0), ("relative_humidity/2", 57.5), ("temperature/1", 21.1), ("relative_humidity/2", 57.5),
    ]  # fmt: skip
    again = RecordingSink(sink.memory)
    await deliver(again, FRAMES[131071].phy_payload, FRAMES[131072].phy_payload)
    assert again.memory[N_KEY] == 131073


async def test_f43_device_that_counts_from_the_start_again_is_named() -> None:
    sink = RecordingSink({N_KEY: 70_000})
    await deliver(sink, *(FRAMES[f_cnt].phy_payload for f_cnt in (0, 1, 2)))
    assert sink.appended == []
    assert sink.memory[N_KEY] == 70_000
    assert sink.counters["f_cnt_reset"] == 3
    assert [str(error).partition(":")[2][:38] for error in sink.rejected] == [
        f" FCnt {f_cnt} after 69999: the device counts" for f_cnt in (0, 1, 2)
    ]
    assert all(isinstance(error, ReplayError) for error in sink.rejected)


async def test_f43_new_keys_begin_a_new_count() -> None:
    sink = RecordingSink()
    await deliver(sink, FRAMES[17].phy_payload)
    new_key = bytes(range(16))
    again = RecordingSink(sink.memory)
    await deliver(again, frame(0, nwk_skey=new_key), nwk_skey=Secret(new_key, "plain:…"))
    assert again.memory[N_KEY] == 1
    assert len(again.readings) == 1
    assert again.memory[S_KEY] != sink.memory[S_KEY]
    third = RecordingSink(again.memory)
    await deliver(third, frame(0, nwk_skey=new_key), nwk_skey=Secret(new_key, "plain:…"))
    assert third.appended == []


async def test_s20_relaxed_counter_is_counted_loudly() -> None:
    sink = RecordingSink({N_KEY: 70_000})
    await deliver(sink, FRAMES[0].phy_payload, FRAMES[0].phy_payload, FRAMES[1].phy_payload, f_cnt_check=False)
    assert len(sink.appended) == 2
    assert sink.memory[N_KEY] == 2
    assert (sink.counters["f_cnt_unchecked"], sink.counters["duplicate"]) == (1, 1)


# ---- what is not ours ------------------------------------------------------------------------------------------------


async def test_f44_wrong_mic_unknown_address_and_bad_crc_decode_nothing() -> None:
    sink = RecordingSink()
    whole = FRAMES[0].phy_payload
    flipped = [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(1, len(whole))]
    async with running(udp_driver(), sink):
        with PacketForwarder(sink) as forwarder:
            for token, phy_payload in enumerate(flipped):
                await forwarder.deliver(token, rxpk(phy_payload))
            for token, stat in enumerate((-1, 0)):
                await forwarder.deliver(100 + token, rxpk(whole, stat=stat))
    assert sink.appended == []
    assert sink.counters["unlisted"] == 4  # DevAddr flipped
    assert sink.counters["bad_crc"] == 2
    # FCtrl bit 0 makes a FOptsLen of 1, every other octet another frame: all fail by MIC
    assert len(sink.rejected) == len(flipped) - 4
    assert {type(error) for error in sink.rejected} == {FrameError}
    assert {error.device_id for error in sink.rejected} == {"isar-pegel-3"}


async def test_f44_wrong_key_is_told_as_such() -> None:
    sink = RecordingSink()
    await deliver(sink, FRAMES[0].phy_payload, nwk_skey=Secret(bytes(16), "plain:…"))
    (error,) = sink.rejected
    assert "DevAddr 26011bda: MIC wrong" in str(error)
    assert NWK_SKEY.hex() not in str(error)


async def test_wrong_app_key_gives_an_error_and_no_reading() -> None:
    sink = RecordingSink()
    await deliver(sink, FRAMES[0].phy_payload, app_skey=Secret(bytes(16), "plain:…"))
    assert sink.appended == [[]]
    (error,) = sink.rejected
    assert error.device_id == "isar-pegel-3"
    assert "unknown Cayenne LPP type" in str(error)


@pytest.mark.parametrize("vector", load("standards.json")["not_uplinks"], ids=lambda vector: vector["name"])
async def test_p9_other_traffic_leaves_a_counter_only(vector: dict[str, str]) -> None:
    sink = RecordingSink()
    receiver = UplinkReceiver([device()], MovableClock())
    await receiver.take(Reception(bytes.fromhex(vector["hex"]), NOW_MS, NOW_MS), sink)
    assert (sink.appended, sink.rejected) == ([], [])
    assert sum(sink.counters.values()) == 1


async def test_listed_device_that_asks_to_join_is_told_what_to_do() -> None:
    sink = RecordingSink()
    join = bytes.fromhex(load("standards.json")["not_uplinks"][0]["hex"])
    await deliver(sink, join, dev_eui=bytes.fromhex("a840410000000042"))
    (error,) = sink.rejected
    assert error.device_id == "isar-pegel-3"
    assert "set the device to ABP" in str(error)


@pytest.mark.slow
async def test_f76_flood_of_unknown_devices_costs_no_memory() -> None:
    sink = RecordingSink()
    receiver = UplinkReceiver([device()], MovableClock())
    template = FRAMES[0].phy_payload

    async def flood(first: int, count: int) -> None:
        for address in range(first, first + count):
            phy_payload = template[:1] + address.to_bytes(4, "little") + template[5:]
            await receiver.take(Reception(phy_payload, NOW_MS, NOW_MS), sink)

    await flood(0, 1000)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        await flood(1000, 99_000)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 20_000
    assert sink.counters == {"unlisted": 100_000}
    assert (sink.appended, sink.rejected) == ([], [])


# ---- hostile datagrams -----------------------------------------------------------------------------------------------

HOSTILE = [
    b"",
    b"\0",
    b"\x02\0\0\0",
    b"\xff" * 100,
    push_data(1)[:11],
    b"\x01" + push_data(1)[1:],
    push_data(1)[:12],
    push_data(1)[:12] + b"{",
    push_data(1)[:12] + b"[" * 40_000,
    push_data(1)[:12] + b'{"rxpk":' * 5000,
    push_data(1)[:12] + b'{"rxpk":[' + b"1" * 40_000 + b"]}",
    push_data(1)[:12] + b'{"rxpk":[{"data":"' + b"A" * 40_000 + b'"}]}',
    push_data(1)[:12] + b'{"rxpk":[{"data":"QA==","size":NaN}]}',
    push_data(1)[:12] + b'{"rxpk":[' + b",".join([b"{}"] * 10_000) + b"]}",
    push_data(1)[:12] + bytes(65507 - 12),
    push_data(1, *[{"data": "\n\0\u202e+#/"}] * 64),
    push_data(1, *[rxpk(FRAMES[0].phy_payload[:5])] * 64),
]


@pytest.mark.parametrize("datagram", HOSTILE, ids=range(len(HOSTILE)))
async def test_f45_hostile_datagram_is_dropped_and_the_next_frame_taken(datagram: bytes) -> None:
    sink = RecordingSink()
    async with running(udp_driver(), sink):
        with PacketForwarder(sink) as forwarder:
            await forwarder.send(datagram)
            await forwarder.send(push_data(0xBEEF, rxpk(FRAMES[0].phy_payload)))
            while await forwarder.answer() != push_ack(0xBEEF):
                pass  # a datagram whose entries alone are wrong is acknowledged too
    assert len(sink.readings) == 2
    assert all(str(error).isprintable() and len(str(error)) < 200 for error in sink.rejected)


@pytest.fixture(scope="module")
def street() -> Iterator[tuple[asyncio.Runner, RecordingSink, PacketForwarder, asyncio.Task[None]]]:
    """One driver and one forwarder that live through all examples."""
    with asyncio.Runner() as runner, contextlib.ExitStack() as stack:
        sink = RecordingSink()

        async def start() -> tuple[PacketForwarder, asyncio.Task[None]]:
            task = asyncio.create_task(udp_driver().run(sink))
            await sink.until(lambda sink: sink.links)
            return stack.enter_context(PacketForwarder(sink)), task

        forwarder, task = runner.run(start())
        yield runner, sink, forwarder, task


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)
members = ["tmst", "time", "freq", "stat", "datr", "rssi", "lsnr", "size", "data", "rsig"]
near_rxpk = st.builds(
    lambda changes: {**rxpk(FRAMES[0].phy_payload[:-1] + b"\0"), **changes},
    st.dictionaries(st.sampled_from(members), json_values, max_size=3),
)
bodies = (
    st.binary(max_size=300)
    | json_values.map(lambda value: json.dumps(value).encode())
    | st.lists(near_rxpk | json_values, max_size=5).map(lambda entries: json.dumps({"rxpk": entries}).encode())
)
heads = st.binary(max_size=14) | st.builds(
    lambda kind, token, eui: b"\x02" + token + bytes([kind]) + eui,
    st.integers(0, 6),
    st.binary(min_size=2, max_size=2),
    st.binary(min_size=8, max_size=8),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(hostile=st.lists(st.builds(bytes.__add__, heads, bodies), min_size=1, max_size=4), token=st.integers(0, 65535))
def test_f45_nothing_sent_to_the_socket_stops_the_driver(
    street: tuple[asyncio.Runner, RecordingSink, PacketForwarder, asyncio.Task[None]],
    hostile: list[bytes],
    token: int,
) -> None:
    runner, sink, forwarder, task = street

    async def attack() -> None:
        for datagram in hostile:
            await forwarder.send(datagram)
        await forwarder.send(push_data(token))
        while await forwarder.answer() != push_ack(token):
            assert not task.done()
        while forwarder.has_answer():
            await forwarder.answer()

    cpu_s = time.process_time()
    runner.run(attack())
    assert time.process_time() - cpu_s < 1.0
    assert not task.done()
    assert sink.appended == []


async def test_s34_cost_of_the_worst_datagram_is_bounded() -> None:
    """Most frames, each under a DevAddr that the most devices share, no MIC right, three counters to try each."""
    devices = [
        device(f"d{number}", number, nwk_skey=Secret(bytes([number]) * 16, "plain:…"))
        for number in range(DEV_ADDR_SHARED_MAX)
    ]
    memory = {f"f_cnt_up/d{number}": 200_000 for number in range(DEV_ADDR_SHARED_MAX)}
    forged = [bytes([0x40]) + DEV_ADDR.to_bytes(4, "little") + bytes([0, n, 0, 1]) + b"n" * 246 for n in range(64)]
    datagram = push_data(1, *(rxpk(phy_payload, freq=None, codr=None, chan=None, rfch=None) for phy_payload in forged))
    assert len(datagram) <= gwmp.DATAGRAM_SIZE_MAX
    sink = RecordingSink({**memory})  # no memory lost between the lines
    async with running(udp_driver(*devices), sink):
        with PacketForwarder(sink) as forwarder:
            cpu_s = time.process_time()
            await forwarder.send(datagram)
            assert await forwarder.answer() == push_ack(1)
            cpu_s = time.process_time() - cpu_s
    assert len(sink.rejected) == 64
    assert cpu_s < 1.0  # about 0.03 s on a desk


# ---- forged forwarders, sockets --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("forwarders", "eui", "host", "heard"),
    [
        ((), bytes(8), "127.0.0.1", True),
        (("0016c001ff10a2b3",), EUI, "127.0.0.1", True),
        (("00:16:C0:01:FF:10:A2:B3",), EUI, "127.0.0.1", True),
        (("0016c001ff10a2b3",), bytes(8), "127.0.0.1", False),
        (("0016c001ff10a2b3@127.0.0.2",), EUI, "127.0.0.2", True),
        (("0016c001ff10a2b3@127.0.0.2",), EUI, "127.0.0.1", False),
        (("0016c001ff10a2b3@127.0.0.2",), bytes(8), "127.0.0.2", False),
        (("@127.0.0.2",), bytes(8), "127.0.0.2", True),
        (("@127.1.0.0/16",), EUI, "127.1.2.3", True),
        (("@127.1.0.0/16",), EUI, "127.2.2.3", False),
        (("ffffffffffffffff", "@127.0.0.3"), EUI, "127.0.0.3", True),
    ],
)
async def test_f46_only_listed_forwarders_are_heard(
    forwarders: tuple[str, ...], eui: bytes, host: str, heard: bool
) -> None:
    sink = RecordingSink()
    async with running(udp_driver(forwarders=("0000000000000001", *forwarders) if forwarders else ()), sink):
        with PacketForwarder(sink, host) as sender, PacketForwarder(sink) as known:
            await sender.send(push_data(1, rxpk(FRAMES[0].phy_payload), eui=eui))
            await sender.send(pull_data(2, eui=eui))
            # in order: once this one is answered, the others have been dealt with
            await known.deliver(3, eui=bytes(7) + b"\1" if forwarders else EUI)
            assert sender.has_answer() == heard
    assert len(sink.appended) == heard
    assert sink.counters["unlisted_forwarder"] == (0 if heard else 2)
    assert sink.rejected == []


def test_f46_default_is_loopback() -> None:
    assert UdpSettings().listen.is_loopback


async def test_port_in_use_is_a_link_error() -> None:
    sink = RecordingSink()
    async with running(udp_driver(), sink):
        port = int(sink.links[0].rpartition(" ")[2])
        with pytest.raises(LinkError) as caught:
            await udp_driver(port=port).run(RecordingSink())
    assert caught.value.reason is LinkReason.BUSY
    assert "ss -ulpn" in str(caught.value)


async def test_port_is_free_as_soon_as_the_driver_ended() -> None:
    sink = BrokenSink()

    async def run_and_bind_again() -> None:
        with pytest.raises(RuntimeError):
            await udp_driver().run(sink)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:  # before the loop turns again
            other.bind(("127.0.0.1", int(sink.links[0].rpartition(" ")[2])))

    task = asyncio.create_task(run_and_bind_again())
    await sink.until(lambda sink: sink.links)
    with PacketForwarder(sink) as forwarder:
        await forwarder.send(push_data(1, rxpk(FRAMES[0].phy_payload)))
        await task


# ---- time ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset_ms", "expected_offset_ms"),
    [
        (None, 0),
        (0, 0),
        (-350, -350),
        (-86_400_000, -86_400_000),
        (-86_400_001, 0),
        (1_500, 0),
        (18_000, 0),
        (-NOW_MS, 0),
    ],
    ids=["none", "now", "heard before", "a day old", "older", "clock behind", "GPS time for UTC", "1970"],
)
def test_f47_gnss_time_only_where_it_is_sane(offset_ms: int | None, expected_offset_ms: int) -> None:
    time_ms = None if offset_ms is None else NOW_MS + offset_ms
    assert phenomenon_time_ms(time_ms, NOW_MS) == NOW_MS + expected_offset_ms


@given(st.none() | st.integers(-(10**15), 10**15), st.integers(0, 10**14))
def test_f47_no_negative_ages(time_ms: int | None, received_time_ms: int) -> None:
    assert phenomenon_time_ms(time_ms, received_time_ms) <= received_time_ms


async def test_f47_tmst_wraps_and_arrival_counts() -> None:
    sink, clock = RecordingSink(), MovableClock()
    async with running(udp_driver(clock=clock), sink):
        with PacketForwarder(sink) as forwarder:
            await forwarder.deliver(1, rxpk(FRAMES[0].phy_payload, tmst=4294967295))
            clock.move(2)
            await forwarder.deliver(2, rxpk(FRAMES[1].phy_payload, tmst=1_999_999))
    times = sorted({reading.phenomenon_time_ms for reading in sink.readings})
    assert times == [NOW_MS, NOW_MS + 2000]


def test_the_vectors_are_all_there() -> None:
    assert len(uplinks()) == 28
