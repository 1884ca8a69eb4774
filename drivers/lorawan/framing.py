"""Frames of a wired sensor node: PHYPayloads on a serial line. Octets in, frames out; no I/O.

    COBS( PHYPayload | CRC-16, big endian ) | 00        CRC-16/CCITT-FALSE: x^16+x^12+x^5+1, start FFFF, over PHYPayload

COBS (Cheshire and Baker, 1999) takes every zero out of a frame, so a zero can only mean its end: whatever is lost or
added, the receiver is in step again at the next zero. The CRC is for noise on the line; against forgery stands the MIC.
"""

import binascii
from collections.abc import Iterator

from cobs import cobs

from drivers.lorawan.mac import PHY_PAYLOAD_SIZE_MAX
from gateway.driver import FrameError, FrameReason

DELIMITER = b"\0"
CRC_SIZE = 2
BODY_SIZE_MAX = PHY_PAYLOAD_SIZE_MAX + CRC_SIZE
ENCODED_SIZE_MAX = BODY_SIZE_MAX + -(-BODY_SIZE_MAX // 254)  # COBS adds one octet for every 254


def crc16(octets: bytes) -> int:
    """Return the CRC-16/CCITT-FALSE of ``octets``; of ``b"123456789"`` it is 0x29B1."""
    return binascii.crc_hqx(octets, 0xFFFF)


def encode_frame(phy_payload: bytes) -> bytes:
    """Return what a node writes on the line for one PHYPayload, the closing zero included."""
    return bytes(cobs.encode(phy_payload + crc16(phy_payload).to_bytes(CRC_SIZE, "big"))) + DELIMITER


class Deframer:
    """Cuts what arrives on the line into frames. Holds at most ENCODED_SIZE_MAX octets, whatever arrives."""

    def __init__(self) -> None:
        self._frame = bytearray()
        self._is_too_long = False

    def feed(self, octets: bytes) -> Iterator[bytes | FrameError]:
        """Yield each PHYPayload that ``octets`` complete, and an error for each frame that is none."""
        *ends, rest = octets.split(DELIMITER)
        for piece in ends:
            self._keep(piece)
            if self._is_too_long:
                yield FrameError("", FrameReason.MALFORMED, f"frame on the line: over {ENCODED_SIZE_MAX} octets")
            elif self._frame:  # two zeros in a row are a node that clears the line
                yield _open(bytes(self._frame))
            self._frame.clear()
            self._is_too_long = False
        self._keep(rest)

    def _keep(self, piece: bytes) -> None:
        if self._is_too_long or len(self._frame) + len(piece) > ENCODED_SIZE_MAX:
            self._is_too_long = True
            self._frame.clear()
        else:
            self._frame += piece


def _open(encoded: bytes) -> bytes | FrameError:
    try:
        body = bytes(cobs.decode(encoded))
    except cobs.DecodeError:
        return FrameError("", FrameReason.MALFORMED, f"frame on the line: {len(encoded)} octets that are no COBS")
    phy_payload, crc = body[:-CRC_SIZE], body[-CRC_SIZE:]
    if not phy_payload or crc16(phy_payload) != int.from_bytes(crc, "big"):
        return FrameError("", FrameReason.CHECKSUM, f"frame on the line: {len(body)} octets, wrong CRC-16")
    return phy_payload
