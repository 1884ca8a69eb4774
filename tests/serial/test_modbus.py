import json
import pathlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.serial.modbus import BUFFER_SIZE_MAX, AnswerFinder, ExceptionReplyError, Function, Request
from gateway.driver import FrameError, FrameReason, NoReplyError
from tests.serial.slave import crc16, framed, registers_answer

VECTORS = json.loads((pathlib.Path(__file__).parents[1] / "vectors/modbus/frames.json").read_text())["vectors"]
ASKED = Request(1, Function.INPUT_REGISTERS, 0x10, 4)
ANSWER = registers_answer(ASKED.encode())
VALUES = [1016, 1017, 1018, 1019]


def request_of(vector: dict[str, Any]) -> Request:
    return Request(vector["unit"], Function(vector["function"]), vector["address"], vector["count"])


def on_line(vector: dict[str, Any], what: str) -> bytes:
    return framed(vector["unit"], *bytes.fromhex(vector[f"{what}_pdu"]))


def heard(request: Request, octets: bytes) -> list[int] | None:
    return AnswerFinder(request, "m").feed(octets)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
class TestVectors:
    def test_request(self, vector: dict[str, Any]) -> None:
        assert request_of(vector).encode() == on_line(vector, "request")
        if "request_frame" in vector:
            assert request_of(vector).encode() == bytes.fromhex(vector["request_frame"])

    def test_answer_whole_byte_by_byte_and_with_octets_behind(self, vector: dict[str, Any]) -> None:
        answer = on_line(vector, "answer")
        if "answer_frame" in vector:
            assert answer == bytes.fromhex(vector["answer_frame"])
        for parts in (
            [answer],
            [answer[i : i + 1] for i in range(len(answer))],
            [answer + b"\0"],
            [b"\0\xff" + answer],
        ):
            finder = AnswerFinder(request_of(vector), "m")
            if "exception" in vector:
                with pytest.raises(ExceptionReplyError) as caught:
                    [finder.feed(part) for part in parts]
                assert caught.value.code == vector["exception"]
            else:
                found = [finder.feed(part) for part in parts]
                assert found[-1] == vector["values"]
                assert found[:-1] == [None] * (len(found) - 1)

    def test_flipped_bit_is_never_an_answer(self, vector: dict[str, Any]) -> None:
        answer = on_line(vector, "answer")
        for bit in range(8 * len(answer)):
            damaged = bytearray(answer)
            damaged[bit // 8] ^= 1 << bit % 8
            assert heard(request_of(vector), bytes(damaged)) is None

    def test_cut_answer_is_none(self, vector: dict[str, Any]) -> None:
        answer = on_line(vector, "answer")
        for size in range(len(answer)):
            assert heard(request_of(vector), answer[:size]) is None


@pytest.mark.parametrize(
    "stranger",
    [
        Request(2, Function.INPUT_REGISTERS, 0x10, 4),
        Request(1, Function.HOLDING_REGISTERS, 0x10, 4),
        Request(1, Function.INPUT_REGISTERS, 0x10, 3),
        Request(1, Function.INPUT_REGISTERS, 0x10, 40),
    ],
    ids=["unit", "function", "shorter", "longer"],
)
def test_f36_answer_to_another_question_is_not_taken(stranger: Request) -> None:
    finder = AnswerFinder(ASKED, "m")
    late = registers_answer(stranger.encode())
    assert finder.feed(late) is None
    fault = finder.fault(1.0)
    assert isinstance(fault, FrameError)
    assert fault.reason is FrameReason.TYPE
    assert f"unit {stranger.unit}, function {stranger.function.value}" in str(fault)
    assert finder.feed(ANSWER) == VALUES  # the right one may still come
    assert finder.late_count == 1


def test_f36_exception_of_another_unit_is_not_taken() -> None:
    finder = AnswerFinder(ASKED, "m")
    assert finder.feed(framed(2, 0x84, 2)) is None
    assert finder.feed(framed(1, 0x83, 2)) is None
    assert finder.feed(ANSWER) == VALUES


def test_f35_echo_alone_is_no_answer() -> None:
    finder = AnswerFinder(ASKED, "m")
    assert finder.feed(ASKED.encode()) is None
    fault = finder.fault(1.0)
    assert isinstance(fault, FrameError)
    assert "echo" in str(fault)
    assert finder.echo_count == 1


def test_f35_answer_behind_an_echo_is_found_byte_by_byte() -> None:
    finder = AnswerFinder(ASKED, "m")
    octets = b"\xff" + ASKED.encode() + ANSWER
    found = [finder.feed(octets[i : i + 1]) for i in range(len(octets))]
    assert found == [None] * (len(octets) - 1) + [VALUES]
    assert finder.echo_count == 1


def test_f35_echo_that_could_pass_for_an_answer_is_none() -> None:
    """Address 0x02xx of one register: the echo begins like an answer of two octets, and here even its CRC fits."""
    lookalikes = []
    for unit in range(1, 248):
        for low in range(256):
            request = Request(unit, Function.HOLDING_REGISTERS, 0x0200 + low, 1)
            echo = request.encode()
            if crc16(echo[:5]) == echo[5:7]:
                lookalikes.append(request)
    assert lookalikes
    for request in lookalikes:
        assert heard(request, request.encode()) is None
        assert heard(request, b"\0" + request.encode()) is None
        finder = AnswerFinder(request)
        assert [finder.feed(bytes([octet])) for octet in request.encode()] == [None] * 8


def test_silence_noise_and_cut_are_told_apart() -> None:
    assert isinstance(AnswerFinder(ASKED, "m").fault(0.5), NoReplyError)
    cut = AnswerFinder(ASKED, "m")
    cut.feed(ANSWER[:6])
    fault = cut.fault(0.5)
    assert isinstance(fault, FrameError)
    assert (fault.reason, fault.offset) == (FrameReason.MALFORMED, 6)
    noise = AnswerFinder(ASKED, "m")
    noise.feed(ANSWER[:-1] + b"?")
    fault = noise.fault(0.5)
    assert isinstance(fault, FrameError)
    assert fault.reason is FrameReason.CHECKSUM
    assert noise.is_full


@settings(deadline=None)  # a loaded machine is no fault
@given(st.lists(st.binary(max_size=300), max_size=6))
def test_f34_garbage_is_never_an_answer_and_stays_bounded(parts: list[bytes]) -> None:
    finder = AnswerFinder(ASKED, "m")
    for part in parts:
        assert finder.feed(part) is None
        assert len(finder._heard) <= BUFFER_SIZE_MAX
    assert str(finder.fault(1.0))


def test_f34_flood_stays_bounded_and_the_answer_behind_it_is_found() -> None:
    finder = AnswerFinder(ASKED, "m")
    for _ in range(100):
        assert finder.feed(bytes(200)) is None
        assert len(finder._heard) <= BUFFER_SIZE_MAX
    assert finder.feed(ANSWER) == VALUES


@settings(deadline=None)  # a loaded machine is no fault
@given(st.binary(max_size=BUFFER_SIZE_MAX - len(ANSWER)))
def test_f34_answer_behind_garbage_is_found(garbage: bytes) -> None:
    assert heard(ASKED, garbage + ANSWER) == VALUES


@settings(deadline=None)  # a loaded machine is no fault
@given(
    st.integers(1, 247),
    st.sampled_from([Function.HOLDING_REGISTERS, Function.INPUT_REGISTERS]),
    st.integers(0, 65000),
    st.integers(1, 125),
)
def test_any_register_request_and_its_answer(unit: int, function: Function, address: int, count: int) -> None:
    request = Request(unit, function, address, count)
    frame = request.encode()
    assert frame == framed(unit, function, *address.to_bytes(2, "big"), *count.to_bytes(2, "big"))
    found = heard(request, registers_answer(frame))
    assert found == [(1000 * unit + address + i) % 65536 for i in range(count)]


def test_s26_only_reading_can_be_asked() -> None:
    assert sorted(Function) == [1, 2, 3, 4]
    for code in (5, 6, 15, 16, 22, 23):
        with pytest.raises(ValueError, match="is not a valid Function"):
            Function(code)
