"""LoRaWAN uplinks of a device activated by personalisation (ABP): encrypt, sign, done.

    PHYPayload (LoRaWAN L2 1.0.4, 4)

    | MHDR | DevAddr | FCtrl | FCnt | FPort | FRMPayload | MIC |
    |  1   |   4 LE  |   1   | 2 LE |   1   |    0..n    |  4  |
                                              encrypted with AppSKey (4.3.3)
      <------------ signed with NwkSKey --------------->     (4.4)

The air carries 16 bits of the frame counter; key stream and MIC use all 32.
"""

from aes_cmac import BLOCK_SIZE, aes_cmac
from cryptolib import aes
from micropython import const

F_CNT_MAX = const(0xFFFFFFFF)
PAYLOAD_SIZE_MAX = const(242)  # octets at the fastest data rates (RP002-1.0.4, 2.5.6); slow ones carry 51

_MODE_ECB = const(1)
_MHDR_UNCONFIRMED_UP = const(0x40)  # message type 010, major version 0
_F_CTRL_ADR = const(0x80)
_DIRECTION_UP = const(0)
_MIC_SIZE = const(4)


class Session:
    """What an ABP device and its network share.

    Attributes:
        dev_addr: 32-bit device address.
        nwk_skey: 16 octets, signs.
        app_skey: 16 octets, encrypts.
    """

    def __init__(self, dev_addr: int, nwk_skey: bytes, app_skey: bytes) -> None:
        if not 0 <= dev_addr <= 0xFFFFFFFF:
            raise ValueError("DevAddr: expected 32 bits")
        if len(nwk_skey) != BLOCK_SIZE or len(app_skey) != BLOCK_SIZE:
            raise ValueError("session keys: expected 16 octets each")
        self.dev_addr = dev_addr
        self.nwk_skey = nwk_skey
        self.app_skey = app_skey


def encode_uplink(session: Session, f_cnt: int, f_port: int, payload: bytes, adr: bool = False) -> bytes:
    """Return the PHYPayload of an unconfirmed data uplink.

    Args:
        session: Address and keys.
        f_cnt: 32-bit frame counter. Never twice under the same keys: two frames with one key stream give both away.
        f_port: 1 to 223, tells the application how to read the payload.
        payload: In the clear, at most `PAYLOAD_SIZE_MAX` octets.
        adr: The network may choose the data rate.

    Raises:
        ValueError: A number or the payload is out of bounds.
    """
    if not 0 <= f_cnt <= F_CNT_MAX:
        raise ValueError(f"FCnt {f_cnt}: expected 0 to {F_CNT_MAX}")
    if not 1 <= f_port <= 223:
        raise ValueError(f"FPort {f_port}: expected 1 to 223")
    if len(payload) > PAYLOAD_SIZE_MAX:
        raise ValueError(f"payload: {len(payload)} octets, at most {PAYLOAD_SIZE_MAX}")
    message = bytearray(9 + len(payload))
    message[0] = _MHDR_UNCONFIRMED_UP
    _put_le(message, 1, session.dev_addr, 4)
    message[5] = _F_CTRL_ADR if adr else 0
    _put_le(message, 6, f_cnt & 0xFFFF, 2)
    message[8] = f_port
    _encrypt(session, f_cnt, payload, message, 9)
    block = _block(0x49, session.dev_addr, f_cnt)  # B0
    block[15] = len(message)
    return bytes(message) + aes_cmac(session.nwk_skey, bytes(block + message))[:_MIC_SIZE]


def _encrypt(session: Session, f_cnt: int, payload: bytes, into: bytearray, offset: int) -> None:
    """Write ``payload`` xor the key stream S1 | S2 | … to ``into`` from ``offset`` on (4.3.3)."""
    cipher = aes(session.app_skey, _MODE_ECB)
    block = _block(0x01, session.dev_addr, f_cnt)  # A
    stream = bytearray(BLOCK_SIZE)
    for index, octet in enumerate(payload):
        place = index % BLOCK_SIZE
        if place == 0:
            block[15] = index // BLOCK_SIZE + 1
            cipher.encrypt(block, stream)
        into[offset + index] = octet ^ stream[place]


def _block(first: int, dev_addr: int, f_cnt: int) -> bytearray:
    """Return A or B0: first | 4 x 0 | direction | DevAddr | FCnt, 32 bits | 0 | 0, the last for a number or size."""
    block = bytearray(BLOCK_SIZE)
    block[0] = first
    block[5] = _DIRECTION_UP
    _put_le(block, 6, dev_addr, 4)
    _put_le(block, 10, f_cnt, 4)
    return block


def _put_le(into: bytearray, offset: int, number: int, size: int) -> None:
    for index in range(size):
        into[offset + index] = number >> 8 * index & 0xFF
