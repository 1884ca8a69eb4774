"""Frames on the serial line between a node and the gateway's ``lorawan-serial`` driver.

    COBS( PHYPayload | CRC-16, big endian ) | 0x00

COBS (Cheshire and Baker, 1999) takes every zero out of the frame, so that a zero can only mean "end of frame": a
receiver that starts in the middle, or loses octets, is in step again at the next zero.
"""

from micropython import const

_CRC_START = const(0xFFFF)
_CRC_POLYNOMIAL = const(0x1021)  # x^16 + x^12 + x^5 + 1: CRC-16/CCITT-FALSE, also named CRC-16/IBM-3740
_RUN_MAX = const(254)  # octets without a zero that one COBS code can announce


def encode_frame(phy_payload: bytes) -> bytes:
    """Return what goes over the line for one PHYPayload."""
    crc = crc16(phy_payload)
    return cobs_encode(phy_payload + bytes((crc >> 8, crc & 0xFF))) + b"\x00"


def crc16(octets: bytes) -> int:
    """Return the CRC-16/CCITT-FALSE; of ``b"123456789"`` it is 0x29B1."""
    crc = _CRC_START
    for octet in octets:
        crc ^= octet << 8
        for _ in range(8):
            crc = (crc << 1 ^ _CRC_POLYNOMIAL if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc


def cobs_encode(octets: bytes) -> bytes:
    """Return ``octets`` with no zero among them: each zero gives its place to the distance to the next."""
    encoded = bytearray(1)
    code_index = 0  # where the length of the current run goes
    for octet in octets:
        if len(encoded) - code_index > _RUN_MAX:  # a full run: the next code stands for no zero
            encoded[code_index] = _RUN_MAX + 1
            code_index = len(encoded)
            encoded.append(0)
        if octet:
            encoded.append(octet)
        else:
            encoded[code_index] = len(encoded) - code_index
            code_index = len(encoded)
            encoded.append(0)
    encoded[code_index] = len(encoded) - code_index
    return bytes(encoded)
