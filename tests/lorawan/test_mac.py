"""mac.py against RFC 4493, the project's published frames, and frames of npm lora-packet."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.lorawan import mac
from gateway.driver import FrameError
from tests.lorawan.vectors import Uplink, load, uplink, uplinks

STANDARDS = load("standards.json")
KEY_A, KEY_B = bytes(range(16)), bytes(range(16, 32))


@pytest.mark.parametrize("vector", STANDARDS["aes_cmac"], ids=lambda vector: vector["name"])
def test_aes_cmac_is_rfc_4493(vector: dict[str, str]) -> None:
    assert mac.aes_cmac(bytes.fromhex(vector["key"]), bytes.fromhex(vector["message"])).hex() == vector["mac"]


@pytest.mark.parametrize("vector", uplinks(), ids=lambda vector: vector.name)
def test_frames_of_other_implementations_are_read(vector: Uplink) -> None:
    frame = mac.parse_uplink(vector.phy_payload)
    assert frame.dev_addr == vector.dev_addr
    assert frame.f_cnt_on_air == vector.f_cnt % 65536
    assert (frame.f_port, frame.f_opts) == (vector.f_port, vector.f_opts)
    flags = (frame.is_confirmed, frame.has_adr, frame.wants_adr_ack, frame.is_ack)
    assert flags == (vector.confirmed, vector.adr, vector.adr_ack_req, vector.ack)
    assert mac.has_valid_mic(frame, vector.nwk_skey, vector.f_cnt)
    assert mac.decrypt_uplink(frame, vector.nwk_skey, vector.app_skey, vector.f_cnt) == vector.plaintext


# Emulated devices hear no downlinks, so they never set ACK or ADRACKReq.
ENCODABLE = [vector for vector in uplinks() if not (vector.ack or vector.adr_ack_req)]


@pytest.mark.parametrize("vector", ENCODABLE, ids=lambda vector: vector.name)
def test_encoded_frames_equal_those_of_other_implementations(vector: Uplink) -> None:
    encoded = mac.encode_uplink(
        nwk_skey=vector.nwk_skey,
        app_skey=vector.app_skey,
        dev_addr=vector.dev_addr,
        f_cnt=vector.f_cnt,
        f_port=vector.f_port,
        payload=vector.plaintext,
        confirmed=vector.confirmed,
        adr=vector.adr,
        f_opts=vector.f_opts,
    )
    assert encoded.hex() == vector.phy_payload.hex()


@pytest.mark.parametrize("vector", STANDARDS["not_uplinks"], ids=lambda vector: vector["name"])
def test_other_frames_are_refused_with_their_reason(vector: dict[str, str]) -> None:
    with pytest.raises(FrameError) as caught:
        mac.parse_uplink(bytes.fromhex(vector["hex"]))
    assert caught.value.reason.value == vector["reason"]


def test_f44_every_flipped_bit_breaks_the_mic() -> None:
    vector = uplink("LinkCheckReq in FOpts")
    for bit in range(len(vector.phy_payload) * 8):
        flipped = bytearray(vector.phy_payload)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            frame = mac.parse_uplink(bytes(flipped))
        except FrameError:
            continue
        candidates = mac.f_cnt_candidates(vector.f_cnt, frame.f_cnt_on_air)
        assert not any(mac.has_valid_mic(frame, vector.nwk_skey, f_cnt) for f_cnt in candidates), f"bit {bit}"


def test_every_truncation_is_refused_or_fails_its_mic() -> None:
    vector = uplink("fifteen octets of FOpts")
    for size in range(len(vector.phy_payload)):
        try:
            frame = mac.parse_uplink(vector.phy_payload[:size])
        except FrameError:
            continue
        assert size >= mac.DATA_FRAME_SIZE_MIN
        assert not mac.has_valid_mic(frame, vector.nwk_skey, vector.f_cnt), f"{size} octets"


def test_trailing_octets_break_the_mic() -> None:
    vector = uplink("first frame")
    frame = mac.parse_uplink(vector.phy_payload + b"\0")
    assert not mac.has_valid_mic(frame, vector.nwk_skey, vector.f_cnt)


@given(st.binary(max_size=300))
def test_any_octets_give_a_frame_or_a_frame_error(octets: bytes) -> None:
    try:
        frame = mac.parse_uplink(octets)
    except FrameError:
        return
    assert len(frame.f_opts) <= mac.FOPTS_SIZE_MAX
    port = b"" if frame.f_port is None else bytes([frame.f_port])
    assert octets[8:-4] == frame.f_opts + port + frame.frm_payload


@given(
    st.integers(0, 0xFFFFFFFF),
    st.integers(0, mac.FCNT_MAX),
    st.integers(1, 255),
    st.binary(max_size=mac.FRM_PAYLOAD_SIZE_MAX - 15),
    st.binary(max_size=15),
)
def test_what_is_encoded_is_read_back(dev_addr: int, f_cnt: int, f_port: int, payload: bytes, f_opts: bytes) -> None:
    octets = mac.encode_uplink(
        nwk_skey=KEY_A, app_skey=KEY_B, dev_addr=dev_addr, f_cnt=f_cnt, f_port=f_port, payload=payload, f_opts=f_opts
    )
    frame = mac.parse_uplink(octets)
    assert mac.has_valid_mic(frame, KEY_A, f_cnt)
    assert not mac.has_valid_mic(frame, KEY_B, f_cnt)
    assert mac.decrypt_uplink(frame, KEY_A, KEY_B, f_cnt) == payload


@pytest.mark.parametrize(
    "wrong",
    [
        {"f_port": None, "payload": b"1"},
        {"f_port": 0, "f_opts": b"\2"},
        {"payload": bytes(243)},
        {"f_opts": bytes(16)},
        {"f_cnt": 1 << 32},
        {"f_cnt": -1},
    ],
)
def test_fields_that_do_not_fit_are_not_encoded(wrong: dict[str, Any]) -> None:
    fields: dict[str, Any] = {"dev_addr": 1, "f_cnt": 0, "f_port": 1, "payload": b""}
    with pytest.raises(ValueError, match=r"FCnt|port"):
        mac.encode_uplink(nwk_skey=KEY_A, app_skey=KEY_B, **{**fields, **wrong})


@pytest.mark.parametrize("vector", STANDARDS["frame_counters"], ids=str)
def test_f42_counter_is_completed_to_32_bits(vector: dict[str, int]) -> None:
    assert mac.f_cnt_full(vector["next"], vector["on_air"]) == vector["full"]


@given(st.integers(0, mac.FCNT_MAX - 65536), st.integers(0, 65534))
def test_f42_any_counter_up_to_65534_ahead_is_found(f_cnt_next: int, ahead: int) -> None:
    f_cnt = f_cnt_next + ahead
    assert mac.f_cnt_full(f_cnt_next, f_cnt % 65536) == f_cnt


@given(st.integers(1, mac.FCNT_MAX), st.integers(0, 65535))
def test_candidates_cover_repeats_late_frames_and_restarts(f_cnt_next: int, on_air: int) -> None:
    candidates = mac.f_cnt_candidates(f_cnt_next, on_air)
    assert len(candidates) <= 3
    assert all(f_cnt % 65536 == on_air and 0 <= f_cnt <= mac.FCNT_MAX for f_cnt in candidates)
    assert on_air in candidates  # started over
    late = f_cnt_next - 1 - (f_cnt_next - 1 - on_air) % 65536  # newest counter below next with these low bits
    assert late < 0 or late in candidates


def test_join_request_names_its_device() -> None:
    octets = bytes.fromhex(STANDARDS["not_uplinks"][0]["hex"])
    assert mac.join_request_dev_eui(octets).hex() == "a840410000000042"
    with pytest.raises(FrameError):
        mac.join_request_dev_eui(octets[:-1])
