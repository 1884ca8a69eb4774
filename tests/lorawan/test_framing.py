"""framing.py: whole, byte by byte, with garbage, lossy."""

import random

import pytest
from cobs import cobs
from hypothesis import given
from hypothesis import strategies as st

from drivers.lorawan import framing
from gateway.driver import FrameError
from tests.lorawan.vectors import uplinks

FRAMES = [vector.phy_payload for vector in uplinks()]


def phy_payloads(results: list[bytes | FrameError]) -> list[bytes]:
    return [result for result in results if isinstance(result, bytes)]


def test_crc_is_ccitt_false() -> None:
    assert framing.crc16(b"123456789") == 0x29B1


def test_published_frame() -> None:
    # CRC-16/CCITT-FALSE of "123456789" is 29B1; COBS of eleven octets without a zero begins with 0c
    assert framing.encode_frame(b"123456789").hex() == "0c" + b"123456789".hex() + "29b1" + "00"


@pytest.mark.parametrize("step", [1, 2, 3, 7, 64, 10_000])
def test_frames_arrive_in_any_pieces(step: int) -> None:
    line = b"".join(framing.encode_frame(frame) for frame in FRAMES)
    deframer = framing.Deframer()
    results = [result for at in range(0, len(line), step) for result in deframer.feed(line[at : at + step])]
    assert results == FRAMES


def test_garbage_between_frames_costs_no_frame() -> None:
    deframer = framing.Deframer()
    line = b"boot: ready\r\n\0" + framing.encode_frame(FRAMES[0]) + b"\0\0\0" + framing.encode_frame(FRAMES[1])
    results = list(deframer.feed(line + b"\xff\xff\0" + framing.encode_frame(FRAMES[2])))
    assert phy_payloads(results) == FRAMES[:3]
    assert len(results) == 5


def test_endless_noise_stays_bounded_and_is_one_error() -> None:
    deframer = framing.Deframer()
    assert [result for _ in range(1000) for result in deframer.feed(b"\x55" * 500)] == []
    assert len(deframer._frame) <= framing.ENCODED_SIZE_MAX
    results = list(deframer.feed(b"\0" + framing.encode_frame(FRAMES[0])))
    assert isinstance(results[0], FrameError)
    assert results[1:] == [FRAMES[0]]


@pytest.mark.parametrize("size", [254, 255])
def test_largest_frame_passes(size: int) -> None:
    for fill in (b"\0", b"\x55"):
        assert list(framing.Deframer().feed(framing.encode_frame(fill * size))) == [fill * size]


@pytest.mark.parametrize("body", [b"", b"\x1d", b"\xff\xff"])
def test_frame_without_content_is_an_error(body: bytes) -> None:
    (result,) = framing.Deframer().feed(bytes(cobs.encode(body)) + b"\0")
    assert isinstance(result, FrameError)


def test_every_flipped_bit_is_noticed() -> None:
    line = framing.encode_frame(FRAMES[0])
    for bit in range((len(line) - 1) * 8):
        flipped = bytearray(line)
        flipped[bit // 8] ^= 1 << bit % 8
        assert phy_payloads(list(framing.Deframer().feed(bytes(flipped)))) == [], f"bit {bit}"


def test_lossy_line_gives_only_true_frames_and_recovers() -> None:
    dice = random.Random(47)
    sent = [dice.choice(FRAMES) for _ in range(400)]
    line = b"".join(framing.encode_frame(frame) for frame in sent)
    lossy = bytes(octet for octet in line if dice.random() > 0.005)
    received = phy_payloads(list(framing.Deframer().feed(lossy)))
    assert set(received) <= set(FRAMES)
    assert len(sent) // 3 < len(received) < len(sent)


@given(st.lists(st.binary(max_size=600), max_size=20))
def test_any_octets_give_frames_or_errors(pieces: list[bytes]) -> None:
    deframer = framing.Deframer()
    count = sum(1 for piece in pieces for _ in deframer.feed(piece))
    assert count <= sum(piece.count(0) for piece in pieces)
    assert len(deframer._frame) <= framing.ENCODED_SIZE_MAX
