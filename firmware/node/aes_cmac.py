"""AES-CMAC (RFC 4493) on the AES of `cryptolib`: boards have AES in ROM or silicon, but no CMAC."""

from cryptolib import aes
from micropython import const

BLOCK_SIZE = const(16)

_MODE_ECB = const(1)  # by number: only some ports name it
_RB = const(0x87)  # RFC 4493, 2.3: what leaves a 128-bit block on the left comes back as this


def aes_cmac(key: bytes, message: bytes) -> bytes:
    """Return the 16 octets of the message authentication code.

    Args:
        key: 16 octets.
        message: Any length, also empty.
    """
    cipher = aes(key, _MODE_ECB)
    subkey = bytearray(cipher.encrypt(bytes(BLOCK_SIZE)))
    _double(subkey)  # K1, for a last block that is full
    state = bytearray(BLOCK_SIZE)
    size = len(message)
    last = (size - 1) // BLOCK_SIZE * BLOCK_SIZE if size else 0
    for offset in range(0, last, BLOCK_SIZE):
        _xor(state, message, offset, BLOCK_SIZE)
        cipher.encrypt(state, state)
    tail_size = size - last
    if tail_size < BLOCK_SIZE:
        _double(subkey)  # K2, for a last block that needs padding
        subkey[tail_size] ^= 0x80  # the padding: one 1 bit, then zeros
    _xor(state, message, last, tail_size)
    _xor(state, subkey, 0, BLOCK_SIZE)
    cipher.encrypt(state, state)
    return bytes(state)


def _xor(state: bytearray, octets: bytes | bytearray, offset: int, count: int) -> None:
    for index in range(count):
        state[index] ^= octets[offset + index]


def _double(block: bytearray) -> None:
    """Multiply by x in GF(2^128), in place: a shift to the left, and `_RB` if a bit fell out."""
    fallen = block[0] & 0x80
    for index in range(BLOCK_SIZE - 1):
        block[index] = block[index] << 1 & 0xFF | block[index + 1] >> 7
    block[BLOCK_SIZE - 1] = block[BLOCK_SIZE - 1] << 1 & 0xFF
    if fallen:
        block[BLOCK_SIZE - 1] ^= _RB
