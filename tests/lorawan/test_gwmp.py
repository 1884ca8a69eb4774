"""gwmp.py: hand-written datagrams in all flavours, and hostile ones (F45)."""

import base64
import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.lorawan import gwmp
from gateway.driver import FrameError, FrameReason
from tests.lorawan.vectors import uplink

EUI = bytes.fromhex("0016c001ff10a2b3")
FRAME = uplink("first frame").phy_payload
# As Semtech's forwarder writes it; the numbers are invented.
ENTRY: dict[str, Any] = {
    "tmst": 3512348611, "time": "2025-10-09T08:53:20.118002Z", "tmms": 1444035218118, "chan": 2, "rfch": 0,
    "freq": 868.100000, "stat": 1, "modu": "LORA", "datr": "SF7BW125", "codr": "4/5", "rssi": -97, "lsnr": 5.2,
    "size": len(FRAME), "data": base64.b64encode(FRAME).decode(),
}  # fmt: skip


def push_data(body: object) -> bytes:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return bytes.fromhex("021f2e00") + EUI + text


def parse(entry: object) -> gwmp.PushData:
    return gwmp.parse_push_data(push_data({"rxpk": [entry]}))


def test_published_headers_and_answers() -> None:
    push = gwmp.parse_header(bytes.fromhex("021f2e000016c001ff10a2b3"))
    assert push == gwmp.Header(gwmp.Type.PUSH_DATA, bytes.fromhex("1f2e"), EUI)
    assert gwmp.encode_push_ack(push.token).hex() == "021f2e01"
    pull = gwmp.parse_header(bytes.fromhex("023344020016c001ff10a2b3"))
    assert pull.type is gwmp.Type.PULL_DATA
    assert gwmp.encode_pull_ack(pull.token).hex() == "02334404"
    assert gwmp.encode_pull_data(pull.token, EUI).hex() == "023344020016c001ff10a2b3"


def test_rxpk_is_read_whole() -> None:
    assert parse(ENTRY).packets == [
        gwmp.RxPacket(
            phy_payload=FRAME,
            tmst_us=3512348611,
            time_ms=1760000000118,
            frequency_hz=868_100_000,
            data_rate="SF7BW125",
            rssi_dbm=-97.0,
            snr_db=5.2,
        )
    ]


def test_f47_bare_minimum_is_enough() -> None:
    assert parse({"data": ENTRY["data"]}).packets == [gwmp.RxPacket(FRAME)]


def test_fsk_has_a_number_for_data_rate() -> None:
    assert parse({**ENTRY, "modu": "FSK", "datr": 50000}).packets[0].data_rate == "50000"


def test_strongest_antenna_counts() -> None:
    antennas = [{"ant": 0, "rssic": -110, "lsnr": -3}, {"ant": 1, "rssic": -90, "lsnr": 7.5}, {"ant": 2}]
    packet = parse({"data": ENTRY["data"], "rsig": antennas}).packets[0]
    assert (packet.rssi_dbm, packet.snr_db) == (-90.0, 7.5)
    packet = parse({**ENTRY, "rssi": -80, "rsig": antennas}).packets[0]
    assert (packet.rssi_dbm, packet.snr_db) == (-80.0, 5.2)


@pytest.mark.parametrize("size", range(1, 20))
def test_all_flavours_of_base64(size: int) -> None:
    octets = bytes((0xFB + 5 * place) & 0xFF for place in range(size))  # fb ff: "+" and "/" in the standard alphabet
    for text in (base64.b64encode(octets).decode(), base64.urlsafe_b64encode(octets).decode()):
        assert gwmp.decode_base64(text) == octets
        assert gwmp.decode_base64(text.rstrip("=")) == octets


@pytest.mark.parametrize(
    "text", ["A", "AAAAA", "AA=A", "AAAA===", "====", "A A=", "AAAÄ", "AA\n=", "%%%%", None, 7, b""]
)
def test_what_is_no_base64(text: object) -> None:
    with pytest.raises(FrameError):
        gwmp.decode_base64(text)


@pytest.mark.parametrize("stat", [-1, 0, 2, None, "1", True, 1.5, []])
def test_f44_only_frames_with_a_right_checksum(stat: object) -> None:
    parsed = parse({**ENTRY, "stat": stat})
    assert (parsed.packets, parsed.bad_crc_count, parsed.faults) == ([], 1, [])


@pytest.mark.parametrize(
    "change",
    [
        {"size": len(FRAME) + 1},
        {"size": "20"},
        {"size": True},
        {"size": None},
        {"size": 10**300},
        {"data": "", "size": 0},
        {"data": base64.b64encode(bytes(256)).decode(), "size": 256},
        {"data": "?"},
        {"data": None},
    ],
)
def test_wrong_entry_leaves_its_neighbours(change: dict[str, Any]) -> None:
    parsed = gwmp.parse_push_data(push_data({"rxpk": [ENTRY, {**ENTRY, **change}, 5, ENTRY]}))
    assert [packet.phy_payload for packet in parsed.packets] == [FRAME, FRAME]
    assert [str(fault)[:7] for fault in parsed.faults] == ["rxpk 1:", "rxpk 2:"]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("tmst", [-1, 1 << 32, "5", True, 1.5, None]),
        ("time", ["", "yesterday", "2025-13-01T00:00:00Z", "2025-02-29T00:00:00Z", "2025-10-09T08:53:20", 5, None, {}]),
        ("freq", [-1, 1e9, "868.1", None, 10**400]),
        ("datr", ["SF9BW125\n", "x" * 40, "", -5, True, None, 10**400]),
        ("rssi", [-1000, 99, "-97", None, True, 10**400]),
        ("lsnr", [-1000, 99, "5", None, True, 10**400]),
    ],
)
def test_odd_metadata_is_left_out_and_the_frame_kept(name: str, values: list[object]) -> None:
    attribute = {
        "tmst": "tmst_us", "time": "time_ms", "freq": "frequency_hz", "datr": "data_rate", "rssi": "rssi_dbm",
        "lsnr": "snr_db",
    }[name]  # fmt: skip
    for value in values:
        packet = parse({**ENTRY, name: value}).packets[0]
        assert packet.phy_payload == FRAME
        assert getattr(packet, attribute) is None, value


@pytest.mark.parametrize(
    ("text", "time_ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2025-10-09T08:53:20Z", 1760000000000),
        ("2025-10-09T08:53:20.5Z", 1760000000500),
        ("2025-10-09T08:53:20.118999999Z", 1760000000118),
        ("2025-10-09T08:53:20.118+00:00", 1760000000118),
        ("2016-12-31T23:59:60Z", 1483228800000),  # a leap second
    ],
)
def test_times(text: str, time_ms: int) -> None:
    assert gwmp.parse_time_ms(text) == time_ms


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"rxpk"',
        b"null",
        b'{"rxpk":{}}',
        b'{"rxpk":null}',
        b'{"rxpk":[{"rssi":NaN}]}',
        b'{"rxpk":[{"rssi":-Infinity}]}',
        b'{"rxpk":[' + b"9" * 5000 + b"]}",
        b"\xff\xfe{}",
        b"\xef\xbb\xbf{}",
        b'{"a":' * 7000 + b"1" + b"}" * 5000,
        b"[" * 40_000,
        json.dumps({"rxpk": [0] * (gwmp.RXPK_COUNT_MAX + 1)}).encode(),
    ],
    ids=range(15),
)
def test_f45_wrong_bodies(body: bytes) -> None:
    with pytest.raises(FrameError) as caught:
        gwmp.parse_push_data(push_data(body))
    assert caught.value.reason is FrameReason.MALFORMED
    assert len(str(caught.value)) < 100
    assert len(caught.value.frame) <= gwmp.HEADER_SIZE


@pytest.mark.parametrize("stat_only", [{}, {"stat": {"time": "2025-10-09 08:53:20 GMT", "rxnb": 2}}, {"rxpk": []}])
def test_status_report_holds_no_frames(stat_only: object) -> None:
    assert gwmp.parse_push_data(push_data(stat_only)) == gwmp.PushData([], 0, [])


@pytest.mark.parametrize(
    ("datagram", "reason"),
    [
        (b"", "malformed"),
        (bytes.fromhex("021f2e000016c001ff10a2"), "malformed"),
        (bytes.fromhex("011f2e000016c001ff10a2b3"), "malformed"),
        (bytes.fromhex("031f2e000016c001ff10a2b3"), "malformed"),
        (bytes.fromhex("021f2e010016c001ff10a2b3"), "type"),
        (bytes.fromhex("021f2e030016c001ff10a2b3"), "type"),
        (bytes.fromhex("021f2eff0016c001ff10a2b3"), "type"),
        (bytes.fromhex("021f2e00") + bytes(gwmp.DATAGRAM_SIZE_MAX), "malformed"),
    ],
)
def test_f45_wrong_headers(datagram: bytes, reason: str) -> None:
    with pytest.raises(FrameError) as caught:
        gwmp.parse_header(datagram)
    assert caught.value.reason.value == reason


@pytest.mark.parametrize(
    ("body", "verdict"),
    [
        (b"", "NONE"),
        (b"\0", "NONE"),
        (b'{"txpk_ack":{"error":"TOO_LATE"}}', "TOO_LATE"),
        (b'{"txpk_ack":{"warn":"TX_POWER","value":20}}', "NONE"),
    ],
)
def test_tx_ack(body: bytes, verdict: str) -> None:
    assert gwmp.parse_tx_ack(bytes.fromhex("021f2e050016c001ff10a2b3") + body) == verdict


@pytest.mark.parametrize(
    "body", [b"{", b'{"txpk_ack":5}', b'{"txpk_ack":{"error":5}}', b'{"txpk_ack":{"error":"a\\n"}}']
)
def test_wrong_tx_ack(body: bytes) -> None:
    with pytest.raises(FrameError):
        gwmp.parse_tx_ack(bytes.fromhex("021f2e050016c001ff10a2b3") + body)


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)
entries = st.fixed_dictionaries({}, optional=dict.fromkeys(ENTRY, json_values) | {"rsig": json_values})


@given(st.lists(entries | json_values, max_size=6))
def test_f45_any_json_gives_packets_or_faults(rxpk: list[Any]) -> None:
    body = json.dumps({"rxpk": rxpk}).encode()
    try:
        parsed = gwmp.parse_push_data(push_data(body))
    except FrameError:
        assert b"NaN" in body or b"Infinity" in body
        return
    assert len(parsed.packets) + parsed.bad_crc_count + len(parsed.faults) == len(rxpk)


@given(st.binary(max_size=200))
def test_f45_any_octets_give_a_frame_error_or_a_result(octets: bytes) -> None:
    for read in (gwmp.parse_header, gwmp.parse_push_data, gwmp.parse_tx_ack):
        with contextlib.suppress(FrameError):
            assert read(octets) is not None


def test_every_truncation_of_a_push_data_is_refused() -> None:
    whole = push_data({"rxpk": [ENTRY]})
    for size in range(len(whole)):
        with pytest.raises(FrameError):
            gwmp.parse_push_data(whole[:size])


packets = st.builds(
    gwmp.RxPacket,
    phy_payload=st.binary(min_size=1, max_size=255),
    tmst_us=st.none() | st.integers(0, (1 << 32) - 1),
    time_ms=st.none() | st.integers(0, 4102444800000),
    frequency_hz=st.none() | st.integers(100_000_000, 2_500_000_000),
    data_rate=st.sampled_from([None, "SF12BW125", "SF7BW250", "50000"]),
    rssi_dbm=st.none() | st.floats(*gwmp.RSSI_DBM_BOUNDS),
    snr_db=st.none() | st.floats(*gwmp.SNR_DB_BOUNDS),
)


@given(st.lists(packets, max_size=5))
def test_what_an_emulated_forwarder_sends_is_read_back(sent: list[gwmp.RxPacket]) -> None:
    datagram = gwmp.encode_push_data(b"ab", EUI, sent)
    assert gwmp.parse_header(datagram).gateway_eui == EUI
    assert gwmp.parse_push_data(datagram).packets == sent


def test_an_emulated_forwarder_writes_what_semtechs_does() -> None:
    packet = parse(ENTRY).packets[0]
    members = json.loads(gwmp.encode_push_data(b"ab", EUI, [packet])[gwmp.HEADER_SIZE :])["rxpk"][0]
    expected = {name: value for name, value in ENTRY.items() if name not in ("tmms", "chan", "rfch")}
    assert members == {**expected, "time": "2025-10-09T08:53:20.118000Z"}
