"""Semtech UDP packet-forwarder protocol, version 2: octets <-> values. Pure functions, no I/O.

    octet   0        1-2     3      4-11           12-
            version  token   type   gateway EUI    JSON            forwarder -> server
            02       token   type   ·              JSON            server -> forwarder

    PUSH_DATA 00  JSON {"rxpk": [...], "stat": {...}}   answered by PUSH_ACK 01
    PULL_DATA 02  nothing                               answered by PULL_ACK 04
    TX_ACK    05  optional JSON {"txpk_ack": {...}}

(PROTOCOL.TXT of Semtech's packet_forwarder, sections 3 to 6.) The protocol authenticates nobody: whatever stands in a
datagram is a claim, bounded here, and believed only as far as a LoRaWAN MIC inside it goes.
"""

import base64
import binascii
import calendar
import datetime as dt
import enum
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from drivers.lorawan.mac import PHY_PAYLOAD_SIZE_MAX
from gateway.driver import FrameError, FrameReason

VERSION = 2
HEADER_SIZE = 12
RXPK_COUNT_MAX = 64  # Semtech's forwarder sends 8 at most, SX1302 ones what 4 KiB of radio buffer held
DATAGRAM_SIZE_MAX = 40_960  # RXPK_COUNT_MAX objects of 540 octets, the forwarder's own bound, and a stat
RSSI_DBM_BOUNDS = (-200.0, 50.0)  # beyond: nonsense, not a signal strength
SNR_DB_BOUNDS = (-60.0, 60.0)

_NAME = re.compile(r"[A-Z0-9_-]{1,32}")  # data rates and error names; the longest known has 17 characters
_BASE64 = re.compile(r"[A-Za-z0-9+/]*")
_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))?(?:Z|[+]00:?00)", re.ASCII)


class Type(enum.IntEnum):
    """The fourth octet of every datagram."""

    PUSH_DATA = 0
    PUSH_ACK = 1
    PULL_DATA = 2
    PULL_RESP = 3
    PULL_ACK = 4
    TX_ACK = 5


@dataclass(frozen=True, slots=True)
class Header:
    """What a forwarder's datagram says about itself; cheap to read, so strangers cost little.

    Attributes:
        type: PUSH_DATA, PULL_DATA or TX_ACK.
        token: Two octets to be repeated in the answer.
        gateway_eui: Eight octets, first one as printed on the gateway.
    """

    type: Type
    token: bytes
    gateway_eui: bytes


@dataclass(frozen=True, slots=True)
class RxPacket:
    """One frame as a concentrator heard it, its checksum right.

    Attributes:
        phy_payload: The frame.
        tmst_us: The concentrator's counter at its end, 32 bit, wraps every 71.6 min; None if missing.
        time_ms: UTC by the concentrator's GNSS receiver, ms since 1970; None without one.
        frequency_hz: Where it was heard, None if missing.
        data_rate: As in ``SF9BW125``, None if missing.
        rssi_dbm: Signal strength of the best antenna, None if missing.
        snr_db: Its signal-to-noise ratio, None if missing (FSK has none).
    """

    phy_payload: bytes
    tmst_us: int | None = None
    time_ms: int | None = None
    frequency_hz: int | None = None
    data_rate: str | None = None
    rssi_dbm: float | None = None
    snr_db: float | None = None


@dataclass(frozen=True, slots=True)
class PushData:
    """What a PUSH_DATA carries.

    Attributes:
        packets: Frames whose checksum was right, in the order given.
        bad_crc_count: Frames the concentrator itself marks as damaged; not looked into.
        faults: Entries that are malformed; their neighbours are not touched.
    """

    packets: Sequence[RxPacket]
    bad_crc_count: int
    faults: Sequence[FrameError]


def parse_header(datagram: bytes) -> Header:
    """Return the header of a datagram from a forwarder.

    Raises:
        FrameError: It is too short or long, of another version, or of a type forwarders do not send.
    """
    if not HEADER_SIZE <= len(datagram) <= DATAGRAM_SIZE_MAX:
        size = f"{len(datagram)} octets, expected {HEADER_SIZE} to {DATAGRAM_SIZE_MAX}"
        raise _malformed(f"datagram: {size}", datagram)
    if datagram[0] != VERSION:
        raise _malformed(f"protocol version {datagram[0]}, expected {VERSION}", datagram)
    if datagram[3] not in (Type.PUSH_DATA, Type.PULL_DATA, Type.TX_ACK):
        message = f"datagram type {datagram[3]}, expected PUSH_DATA 0, PULL_DATA 2 or TX_ACK 5"
        raise FrameError("", FrameReason.TYPE, message, frame=datagram[:HEADER_SIZE], offset=3)
    return Header(Type(datagram[3]), datagram[1:3], datagram[4:HEADER_SIZE])


def parse_push_data(datagram: bytes) -> PushData:
    """Return the frames in a PUSH_DATA whose header was read.

    Raises:
        FrameError: The JSON is none, is no object, or holds too many frames.
    """
    entries = _object(datagram).get("rxpk", [])
    if not isinstance(entries, list):
        raise _malformed(f"rxpk: {_kind(entries)}, expected a list", datagram)
    if len(entries) > RXPK_COUNT_MAX:
        raise _malformed(f"rxpk: {len(entries)} frames, expected at most {RXPK_COUNT_MAX}", datagram)
    packets, bad_crc_count, faults = [], 0, []
    for index, entry in enumerate(entries):
        try:
            packet = _rx_packet(entry)
        except FrameError as error:
            faults.append(FrameError("", error.reason, f"rxpk {index}: {error}"))
            continue
        if packet is None:
            bad_crc_count += 1
        else:
            packets.append(packet)
    return PushData(packets, bad_crc_count, faults)


def parse_tx_ack(datagram: bytes) -> str:
    """Return a TX_ACK's verdict on a downlink: ``NONE`` or a name such as ``TOO_LATE``.

    Raises:
        FrameError: There is a body, but not the JSON expected.
    """
    if len(datagram) <= HEADER_SIZE or not datagram[HEADER_SIZE:].strip(b"\0 \r\n\t"):
        return "NONE"
    verdict = _object(datagram).get("txpk_ack", {})
    error = verdict.get("error", "NONE") if isinstance(verdict, dict) else None
    if not isinstance(error, str) or not _NAME.fullmatch(error):
        raise _malformed("txpk_ack: no error name", datagram)
    return error


def encode_push_ack(token: bytes) -> bytes:
    """Return the answer to a PUSH_DATA: what it brought is ours now."""
    return bytes([VERSION]) + token + bytes([Type.PUSH_ACK])


def encode_pull_ack(token: bytes) -> bytes:
    """Return the answer to a PULL_DATA: the server is there."""
    return bytes([VERSION]) + token + bytes([Type.PULL_ACK])


def encode_pull_data(token: bytes, gateway_eui: bytes) -> bytes:
    """Return a forwarder's keep-alive, for emulated forwarders."""
    return bytes([VERSION]) + token + bytes([Type.PULL_DATA]) + gateway_eui


def encode_push_data(token: bytes, gateway_eui: bytes, packets: Sequence[RxPacket]) -> bytes:
    """Return the datagram in which a forwarder hands over what it heard, for emulated forwarders.

    Args:
        token: Two octets; the PUSH_ACK repeats them.
        gateway_eui: Eight octets.
        packets: At most RXPK_COUNT_MAX; members that are None are left out.
    """
    assert len(token) == 2
    assert len(gateway_eui) == 8
    body = json.dumps({"rxpk": [_rxpk(packet) for packet in packets]}, separators=(",", ":"))
    return bytes([VERSION]) + token + bytes([Type.PUSH_DATA]) + gateway_eui + body.encode()


def _rxpk(packet: RxPacket) -> dict[str, object]:
    modulation = "FSK" if packet.data_rate is not None and packet.data_rate.isdigit() else "LORA"
    members: dict[str, object | None] = {
        "tmst": packet.tmst_us,
        "time": None if packet.time_ms is None else _time_text(packet.time_ms),
        "freq": None if packet.frequency_hz is None else packet.frequency_hz / 1e6,
        "stat": 1,
        "modu": modulation,
        "datr": int(packet.data_rate) if modulation == "FSK" and packet.data_rate else packet.data_rate,
        "codr": "4/5" if modulation == "LORA" else None,
        "rssi": packet.rssi_dbm,
        "lsnr": packet.snr_db,
        "size": len(packet.phy_payload),
        "data": base64.b64encode(packet.phy_payload).decode(),
    }
    return {name: value for name, value in members.items() if value is not None}


def _rx_packet(entry: object) -> RxPacket | None:
    """Return one ``rxpk`` entry, None if its checksum was wrong or absent on air.

    A missing ``stat`` is taken as right: some small forwarders leave it out, and the MIC decides anyway.
    """
    if not isinstance(entry, dict):
        raise _malformed(f"{_kind(entry)}, expected an object")
    stat = entry.get("stat", 1)
    if isinstance(stat, bool) or stat != 1:
        return None
    phy_payload = decode_base64(entry.get("data"))
    if not 0 < len(phy_payload) <= PHY_PAYLOAD_SIZE_MAX:
        raise _malformed(f"data: {len(phy_payload)} octets, expected 1 to {PHY_PAYLOAD_SIZE_MAX}")
    size = entry.get("size", len(phy_payload))
    if isinstance(size, bool) or size != len(phy_payload):
        claimed = size if isinstance(size, int) and abs(size) < 1e6 else _kind(size)
        raise _malformed(f"size {claimed}, but data has {len(phy_payload)} octets")
    rssi_dbm, snr_db = _best_signal(entry)
    tmst = entry.get("tmst")
    frequency = _number(entry.get("freq"), (0.0, 10_000.0))
    rate = entry.get("datr")
    return RxPacket(
        phy_payload=phy_payload,
        tmst_us=tmst if isinstance(tmst, int) and not isinstance(tmst, bool) and 0 <= tmst < 1 << 32 else None,
        time_ms=parse_time_ms(entry.get("time")),
        frequency_hz=None if frequency is None else round(frequency * 1e6),
        data_rate=_data_rate(rate),
        rssi_dbm=rssi_dbm,
        snr_db=snr_db,
    )


def decode_base64(text: object) -> bytes:
    """Return the octets of base64 text, padded or not, of the standard or the URL-safe alphabet (RFC 4648, 4 and 5).

    Raises:
        FrameError: It is no text or no base64.
    """
    if not isinstance(text, str):
        raise _malformed(f"data: {_kind(text)}, expected base64 text")
    bare = text.rstrip("=").replace("-", "+").replace("_", "/")
    if not _BASE64.fullmatch(bare) or len(bare) % 4 == 1 or len(text) - len(bare) > 2:
        raise _malformed(f"data: {len(text)} characters that are no base64")
    try:
        return base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except binascii.Error:
        raise _malformed(f"data: {len(text)} characters that are no base64") from None


def parse_time_ms(text: object) -> int | None:
    """Return an ISO 8601 UTC time in ms since 1970, None where it is none. Whether to believe it is another matter."""
    match = _TIME.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(match[group]) for group in range(1, 7))
    if not (1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second <= 60 and year >= 1970):
        return None
    if day > calendar.monthrange(year, month)[1]:
        return None
    seconds = calendar.timegm((year, month, day, hour, minute, second))
    return seconds * 1000 + int((match[7] or "0").ljust(3, "0")[:3])


def _time_text(time_ms: int) -> str:
    moment = dt.datetime.fromtimestamp(time_ms // 1000, dt.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{time_ms % 1000:03d}000Z"


def _best_signal(entry: Mapping[str, object]) -> tuple[float | None, float | None]:
    """Return RSSI and SNR, of the strongest antenna where ``rsig`` lists several."""
    best = (_number(entry.get("rssi"), RSSI_DBM_BOUNDS), _number(entry.get("lsnr"), SNR_DB_BOUNDS))
    antennas = entry.get("rsig")
    for antenna in antennas if isinstance(antennas, list) else []:
        if isinstance(antenna, dict):
            rssi_dbm = _number(antenna.get("rssic"), RSSI_DBM_BOUNDS)
            if rssi_dbm is not None and (best[0] is None or rssi_dbm > best[0]):
                best = (rssi_dbm, _number(antenna.get("lsnr"), SNR_DB_BOUNDS))
    return best


def _data_rate(rate: object) -> str | None:
    if isinstance(rate, int) and not isinstance(rate, bool) and 0 < rate < 1e6:
        return str(rate)  # FSK, bit/s
    return rate if isinstance(rate, str) and _NAME.fullmatch(rate) else None


def _number(value: object, bounds: tuple[float, float]) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not bounds[0] <= value <= bounds[1]:
        return None
    return float(value)


def _object(datagram: bytes) -> Mapping[str, object]:
    try:
        body = json.loads(datagram[HEADER_SIZE:].decode("utf-8"), parse_constant=_refuse_constant)
    except RecursionError:
        raise _malformed("JSON: nested too deeply", datagram) from None
    except ValueError:  # no UTF-8, no JSON, NaN, a number of thousands of digits
        raise _malformed("the body is no JSON", datagram) from None
    if not isinstance(body, dict):
        raise _malformed(f"JSON: {_kind(body)}, expected an object", datagram)
    return body


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)  # NaN and the infinities are no JSON (RFC 8259, 6)


def _kind(value: object) -> str:
    names = {"NoneType": "nothing", "str": "text", "dict": "an object", "list": "a list", "bool": "a truth value"}
    return names.get(type(value).__name__, "a number")


def _malformed(message: str, datagram: bytes = b"") -> FrameError:
    """Return the error; of the datagram only the header is kept: its body may name devices that are none of ours."""
    return FrameError("", FrameReason.MALFORMED, message, frame=datagram[:HEADER_SIZE], offset=-1)
