"""What a client sends may be anything: the broker's readers answer with a packet or a ProtocolError."""

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.simulated import mqtt5
from drivers.simulated.mqtt5 import ProtocolError, Reader, ReasonCode

READERS: list[Callable[[bytes], object]] = [
    mqtt5.read_connect,
    lambda body: mqtt5.read_publish(0b0010, body),
    mqtt5.read_subscribe,
    mqtt5.read_unsubscribe,
    mqtt5.read_puback,
    mqtt5.read_disconnect,
]
CONNECT = bytes.fromhex(
    "0004" + b"MQTT".hex() + "05" + "26" + "003c"  # flags: clean start, a retained will of quality 0
    "08" + "11" + "0000003c" + "21" + "0005"  # session expiry 60 s, receive maximum 5
    "0002" + b"gw".hex() +  # client id
    "0a" + "18" + "00000005" + "03" + "0002" + b"tx".hex() +  # will: delay 5 s, content type
    "0001" + b"t".hex() + "0003" + b"off".hex()
)  # fmt: skip


def test_connect_is_read_as_the_standard_lays_it_out() -> None:
    connect = mqtt5.read_connect(CONNECT)
    assert (connect.client_id, connect.is_clean_start, connect.keepalive_s) == ("gw", True, 60)
    assert (connect.session_expiry_s, connect.receive_maximum) == (60, 5)
    assert connect.will is not None
    assert (connect.will.topic, connect.will.payload, connect.will.qos) == ("t", b"off", 0)
    assert connect.will.is_retained
    assert connect.will.properties == b"\x03\0\x02tx"  # the delay is the broker's business alone


@pytest.mark.parametrize("end", range(len(CONNECT)))
def test_a_packet_cut_anywhere_is_malformed(end: int) -> None:
    with pytest.raises(ProtocolError) as error:
        mqtt5.read_connect(CONNECT[:end])
    assert error.value.code is ReasonCode.MALFORMED_PACKET


def test_another_version_is_refused_by_its_own_code() -> None:
    with pytest.raises(ProtocolError) as error:
        mqtt5.read_connect(CONNECT.replace(b"MQTT\5", b"MQTT\4"))
    assert error.value.code is ReasonCode.UNSUPPORTED_PROTOCOL_VERSION


@pytest.mark.parametrize("number", [0, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 268_435_455])
def test_variable_numbers_come_back(number: int) -> None:  # the bounds of MQTT 5.0, table 1-1
    assert Reader(mqtt5.variable_number(number)).variable_number() == number


@given(reader=st.sampled_from(READERS), body=st.binary(max_size=80) | st.binary(max_size=40).map(CONNECT[:14].__add__))
def test_any_octets_give_a_packet_or_a_protocol_error(reader: Callable[[bytes], object], body: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        reader(body)
