"""LoRaWAN 1.0.x data frames: octets <-> fields, integrity code, encryption. Pure functions, no I/O, no state.

    PHYPayload   MHDR | DevAddr | FCtrl | FCnt | FOpts | FPort | FRMPayload | MIC      (LoRaWAN L2 1.0.4, 4)
    octets         1       4        1      2     0..15   0..1     0..242       4

    MHDR   bits 7-5 MType, 1-0 Major (0)          FCtrl, uplink   7 ADR  6 ADRACKReq  5 ACK  4 ClassB  3-0 FOptsLen

All numbers on air are little endian. Only the low 16 bits of the 32-bit frame counter travel; the receiver finds the
rest (`f_cnt_candidates`), and the MIC, computed over all 32, tells whether it guessed right.
"""

import enum
import hmac
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.cmac import CMAC

from gateway.driver import FrameError, FrameReason

PHY_PAYLOAD_SIZE_MAX = 255  # a LoRa radio's length field is one octet
DATA_FRAME_SIZE_MIN = 12  # MHDR, DevAddr, FCtrl, FCnt, MIC
JOIN_REQUEST_SIZE = 23
FRM_PAYLOAD_SIZE_MAX = 242  # largest of all data rates (RP002-1.0.4, 2.5.6)
FOPTS_SIZE_MAX = 15
FCNT_MAX = 0xFFFFFFFF
FPORT_APPLICATION_MAX = 223  # above: test protocol and reserved (L2 1.0.4, 4.3.2)
KEY_SIZE = 16
MIC_SIZE = 4
_BLOCK_SIZE = 16
_FCNT_ON_AIR = 1 << 16


class MType(enum.IntEnum):
    """What a PHYPayload is (L2 1.0.4, 4.2.1)."""

    JOIN_REQUEST = 0
    JOIN_ACCEPT = 1
    UNCONFIRMED_UP = 2
    UNCONFIRMED_DOWN = 3
    CONFIRMED_UP = 4
    CONFIRMED_DOWN = 5
    REJOIN_REQUEST = 6
    PROPRIETARY = 7


class Direction(enum.IntEnum):
    """The direction octet of the blocks that MIC and cipher are computed from."""

    UP = 0
    DOWN = 1


@dataclass(frozen=True, slots=True)
class DataFrame:
    """An uplink data frame as it stands on air: nothing checked by key, payload still encrypted.

    Attributes:
        phy_payload: All its octets.
        dev_addr: DevAddr; several devices may share one.
        is_confirmed: The device wants an acknowledgement.
        has_adr: It lets the network choose its data rate.
        wants_adr_ack: It has heard nothing for long and asks for any downlink.
        is_ack: It acknowledges a downlink.
        f_cnt_on_air: The low 16 bits of its frame counter.
        f_opts: MAC commands in the header.
        f_port: Port, None where the frame carries no payload field.
        frm_payload: Encrypted payload.
        mic: Message integrity code.
    """

    phy_payload: bytes
    dev_addr: int
    is_confirmed: bool
    has_adr: bool
    wants_adr_ack: bool
    is_ack: bool
    f_cnt_on_air: int
    f_opts: bytes
    f_port: int | None
    frm_payload: bytes
    mic: bytes


def m_type(phy_payload: bytes) -> MType:
    """Return what a PHYPayload says it is.

    Raises:
        FrameError: It is empty, too long, or of another major version.
    """
    if not 0 < len(phy_payload) <= PHY_PAYLOAD_SIZE_MAX:
        raise _malformed(phy_payload, 0, f"PHYPayload: {len(phy_payload)} octets, expected 1 to {PHY_PAYLOAD_SIZE_MAX}")
    if phy_payload[0] & 0x03:
        message = f"MHDR 0x{phy_payload[0]:02x}: major version {phy_payload[0] & 0x03}, expected 0"
        raise FrameError("", FrameReason.TYPE, message, frame=phy_payload, offset=0)
    return MType(phy_payload[0] >> 5)


def parse_uplink(phy_payload: bytes) -> DataFrame:
    """Return the fields of an uplink data frame; no key is needed and nothing is proven yet.

    Raises:
        FrameError: It is malformed, or of a type other than data up.
    """
    kind = m_type(phy_payload)
    if kind not in (MType.UNCONFIRMED_UP, MType.CONFIRMED_UP):
        message = f"MType {kind.name}: expected a data uplink"
        raise FrameError("", FrameReason.TYPE, message, frame=phy_payload, offset=0)
    if len(phy_payload) < DATA_FRAME_SIZE_MIN:
        message = f"data frame: {len(phy_payload)} octets, expected at least {DATA_FRAME_SIZE_MIN}"
        raise _malformed(phy_payload, len(phy_payload), message)
    f_ctrl = phy_payload[5]
    f_opts_end = 8 + (f_ctrl & 0x0F)
    end = len(phy_payload) - MIC_SIZE
    if f_opts_end > end:
        raise _malformed(phy_payload, 5, f"FOptsLen {f_ctrl & 0x0F}: expected at most {end - 8} in this frame")
    f_opts = phy_payload[8:f_opts_end]
    f_port = phy_payload[f_opts_end] if f_opts_end < end else None
    if f_port == 0 and f_opts:  # L2 1.0.4, 4.3.1.6: never both
        raise _malformed(phy_payload, f_opts_end, "FPort 0 beside FOpts: expected MAC commands in one place")
    return DataFrame(
        phy_payload=phy_payload,
        dev_addr=int.from_bytes(phy_payload[1:5], "little"),
        is_confirmed=kind is MType.CONFIRMED_UP,
        has_adr=bool(f_ctrl & 0x80),
        wants_adr_ack=bool(f_ctrl & 0x40),
        is_ack=bool(f_ctrl & 0x20),
        f_cnt_on_air=int.from_bytes(phy_payload[6:8], "little"),
        f_opts=f_opts,
        f_port=f_port,
        frm_payload=phy_payload[f_opts_end + 1 : end],
        mic=phy_payload[end:],
    )


def join_request_dev_eui(phy_payload: bytes) -> bytes:
    """Return the DevEUI of a join request, first octet as printed on the device.

    Raises:
        FrameError: It has not the size of one (L2 1.0.4, 6.2.5).
    """
    if len(phy_payload) != JOIN_REQUEST_SIZE:
        message = f"join request: {len(phy_payload)} octets, expected {JOIN_REQUEST_SIZE}"
        raise _malformed(phy_payload, min(len(phy_payload), JOIN_REQUEST_SIZE), message)
    return phy_payload[16:8:-1]


def f_cnt_full(f_cnt_next: int, f_cnt_on_air: int) -> int:
    """Return the 32-bit counter most likely meant: the last one again, else the nearest not below ``f_cnt_next``.

    Args:
        f_cnt_next: Next counter expected, 0 where nothing was heard yet.
        f_cnt_on_air: Low 16 bits from the frame.
    """
    if f_cnt_next and f_cnt_on_air == (f_cnt_next - 1) % _FCNT_ON_AIR:
        return f_cnt_next - 1
    return f_cnt_next + (f_cnt_on_air - f_cnt_next) % _FCNT_ON_AIR


def f_cnt_candidates(f_cnt_next: int, f_cnt_on_air: int) -> Sequence[int]:
    """Return the 32-bit counters a frame may have, likeliest first; the MIC decides.

    Besides `f_cnt_full` these are the same low bits one round earlier (a late or repeated frame) and the bare 16 bits
    (a device that started over), so that such frames are named for what they are and not taken for a wrong key.
    """
    full = f_cnt_full(f_cnt_next, f_cnt_on_air)
    wanted = (full, full - _FCNT_ON_AIR, f_cnt_on_air)
    return [f_cnt for f_cnt in dict.fromkeys(wanted) if 0 <= f_cnt <= FCNT_MAX]


def aes_cmac(key: bytes, message: bytes) -> bytes:
    """Return the AES-CMAC of ``message`` (RFC 4493), 16 octets."""
    mac = CMAC(algorithms.AES(key))
    mac.update(message)
    return mac.finalize()


def data_mic(nwk_skey: bytes, direction: Direction, dev_addr: int, f_cnt: int, message: bytes) -> bytes:
    """Return the MIC of a data frame (L2 1.0.4, 4.4); ``message`` is MHDR to FRMPayload."""
    block = _block(0x49, direction, dev_addr, f_cnt, len(message))
    return aes_cmac(nwk_skey, block + message)[:MIC_SIZE]


def has_valid_mic(frame: DataFrame, nwk_skey: bytes, f_cnt: int) -> bool:
    """Tell whether the owner of ``nwk_skey`` sent ``frame`` with the 32-bit counter ``f_cnt``."""
    expected = data_mic(nwk_skey, Direction.UP, frame.dev_addr, f_cnt, frame.phy_payload[:-MIC_SIZE])
    return hmac.compare_digest(expected, frame.mic)


def crypt_payload(key: bytes, direction: Direction, dev_addr: int, f_cnt: int, payload: bytes) -> bytes:
    """Return ``payload`` encrypted or, the same thing, decrypted (L2 1.0.4, 4.3.3). Proves nothing: check the MIC."""
    blocks = range(1, -(-len(payload) // _BLOCK_SIZE) + 1)
    counters = b"".join(_block(0x01, direction, dev_addr, f_cnt, index) for index in blocks)
    # The standard builds its counter mode from single blocks; ECB over distinct blocks is exactly that.
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305
    stream = encryptor.update(counters) + encryptor.finalize()
    return bytes(octet ^ mask for octet, mask in zip(payload, stream, strict=False))


def decrypt_uplink(frame: DataFrame, nwk_skey: bytes, app_skey: bytes, f_cnt: int) -> bytes:
    """Return the plain payload of an uplink whose MIC is right; port 0 is under the network's key."""
    key = nwk_skey if frame.f_port == 0 else app_skey
    return crypt_payload(key, Direction.UP, frame.dev_addr, f_cnt, frame.frm_payload)


def encode_uplink(
    *,
    nwk_skey: bytes,
    app_skey: bytes,
    dev_addr: int,
    f_cnt: int,
    f_port: int | None,
    payload: bytes,
    confirmed: bool = False,
    adr: bool = False,
    f_opts: bytes = b"",
) -> bytes:
    """Return the PHYPayload a device sends: the other end of `parse_uplink`, for emulated devices.

    Args:
        nwk_skey: Network session key, 16 octets.
        app_skey: Application session key, 16 octets.
        dev_addr: Device address.
        f_cnt: 32-bit frame counter; its low half travels.
        f_port: 1 to 223 for applications, 0 for MAC commands, None for no payload field at all.
        payload: In clear.
        confirmed: Ask for an acknowledgement.
        adr: Let the network choose the data rate.
        f_opts: MAC commands for the header.

    Raises:
        ValueError: A field does not fit.
    """
    if len(payload) > FRM_PAYLOAD_SIZE_MAX or len(f_opts) > FOPTS_SIZE_MAX or not 0 <= f_cnt <= FCNT_MAX:
        raise ValueError(f"{len(payload)} octets of payload, {len(f_opts)} of FOpts, FCnt {f_cnt}")
    if (f_port is None and payload) or (f_port == 0 and f_opts):
        raise ValueError("a payload needs a port, and port 0 excludes FOpts")
    kind = MType.CONFIRMED_UP if confirmed else MType.UNCONFIRMED_UP
    message = bytes([kind << 5]) + dev_addr.to_bytes(4, "little") + bytes([adr << 7 | len(f_opts)])
    message += (f_cnt % _FCNT_ON_AIR).to_bytes(2, "little") + f_opts
    if f_port is not None:
        key = nwk_skey if f_port == 0 else app_skey
        message += bytes([f_port]) + crypt_payload(key, Direction.UP, dev_addr, f_cnt, payload)
    return message + data_mic(nwk_skey, Direction.UP, dev_addr, f_cnt, message)


def _block(first: int, direction: Direction, dev_addr: int, f_cnt: int, last: int) -> bytes:
    """Return a block B0 (``first`` 0x49, ``last`` the length) or Ai (0x01, the block's number)."""
    return (
        bytes([first, 0, 0, 0, 0, direction])
        + dev_addr.to_bytes(4, "little")
        + f_cnt.to_bytes(4, "little")
        + bytes([0, last])
    )


def _malformed(frame: bytes, offset: int, message: str) -> FrameError:
    return FrameError("", FrameReason.MALFORMED, message, frame=frame, offset=offset)
