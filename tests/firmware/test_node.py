"""The sensor node's files, run by the real MicroPython against published vectors and independent implementations."""

import json
import os
import pathlib
import random
import subprocess

import pytest
from cobs import cobs
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

from drivers.line import SerialLine
from drivers.simulated.cable import Cable
from drivers.simulated.node import NodeKeys, running_node
from firmware import NODE_DIR
from tests.firmware.node import MICROPYTHON, needs_micropython, on_node

pytestmark = needs_micropython

VECTORS = pathlib.Path(__file__).parents[1] / "vectors" / "lorawan"

RFC4493_KEY = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
RFC4493_MESSAGE = bytes.fromhex(
    "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
    "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
)
RFC4493_MACS = {  # section 4, by the number of octets taken from the message
    0: "bb1d6929e95937287fa37d129b756746",
    16: "070a16b46b4d4144f79bdd9dd04a287c",
    40: "dfa66747de9ae63030ca32611497c827",
    64: "51f0bebf7e3b9d92fc49741779363cfe",
}
SESSION = (
    0x01AB23CD,
    bytes.fromhex("32e84ba4bc7bbb20235634d3c18b8ef7"),
    bytes.fromhex("fe39a62848a743ad75ea6644103fddbb"),
)


def test_aes_cmac_gives_the_codes_of_rfc_4493() -> None:
    macs = on_node([("aes_cmac.aes_cmac", RFC4493_KEY, RFC4493_MESSAGE[:size]) for size in RFC4493_MACS])
    assert [mac.hex() for mac in macs] == list(RFC4493_MACS.values())


def test_aes_cmac_agrees_with_openssl_for_every_length_of_three_blocks() -> None:
    rng = random.Random(4493)
    cases = [(rng.randbytes(16), rng.randbytes(size)) for size in range(50)]
    for (key, message), mac in zip(cases, on_node([("aes_cmac.aes_cmac", *case) for case in cases]), strict=True):
        reference = CMAC(AES(key))
        reference.update(message)
        assert mac == reference.finalize()


def test_uplinks_are_those_of_the_vectors_shared_with_the_gateway() -> None:
    vectors = json.loads((VECTORS / "lora-packet.json").read_text())["frames"]
    beyond_a_node = ("confirmed", "ack", "adr_ack_req", "f_opts")
    sent_by_a_node = [
        frame
        for frame in vectors
        if 1 <= (frame["f_port"] or 0) <= 223 and not any(frame[key] for key in beyond_a_node)
    ]
    assert len(sent_by_a_node) >= 16
    calls = [
        (
            *("encode_uplink", int(frame["dev_addr"], 16)),
            *(bytes.fromhex(frame[key]) for key in ("nwk_skey", "app_skey")),
            *(frame["f_cnt"], frame["f_port"], bytes.fromhex(frame["plaintext"]), frame["adr"]),
        )
        for frame in sent_by_a_node
    ]
    assert max(frame["f_cnt"] for frame in sent_by_a_node) > 0xFFFF
    assert [frame.hex() for frame in on_node(calls)] == [frame["hex"] for frame in sent_by_a_node]


def test_uplink_is_the_frame_a_second_implementation_computed() -> None:
    payload = bytes.fromhex("016700d2026873")  # keys and frames of an OTAA join worked out by hand and cross-checked
    frames = on_node([("encode_uplink", *SESSION, f_cnt, 2, payload, True) for f_cnt in (0, 65537)])
    assert [frame.hex() for frame in frames] == [
        "40cd23ab01800000025cb884908875675aead58a",
        "40cd23ab0180010002a8a933c991ba709ef0bad9",
    ]


@pytest.mark.parametrize(
    ("f_cnt", "f_port", "size", "found"),
    [
        (1 << 32, 1, 1, "ValueError: FCnt 4294967296: expected 0 to 4294967295"),
        (-1, 1, 1, "ValueError: FCnt -1: expected 0 to 4294967295"),
        (0, 0, 1, "ValueError: FPort 0: expected 1 to 223"),
        (0, 224, 1, "ValueError: FPort 224: expected 1 to 223"),
        (0, 1, 243, "ValueError: payload: 243 octets, at most 242"),
    ],
)
def test_uplink_refuses_what_the_air_cannot_carry(f_cnt: int, f_port: int, size: int, found: str) -> None:
    assert on_node([("encode_uplink", *SESSION, f_cnt, f_port, bytes(size), False)]) == [found]


def test_cobs_agrees_with_the_reference_around_every_length_of_a_run() -> None:
    rng = random.Random(254)
    cases = [bytes(size) for size in range(4)]
    for size in (1, 2, 20, 253, 254, 255, 256, 507, 508, 509, 510):
        full = bytes(rng.randrange(1, 256) for _ in range(size))
        cases += [full, full[:-1] + b"\0", b"\0" + full[1:], bytes(rng.choice((0, 0, 7)) for _ in range(size))]
    for case, encoded in zip(cases, on_node([("line.cobs_encode", case) for case in cases]), strict=True):
        assert encoded == cobs.encode(case)


def test_crc_is_the_one_catalogued_as_ibm_3740() -> None:
    assert on_node([("line.crc16", b"123456789"), ("line.crc16", b"")]) == [0x29B1, 0xFFFF]


def test_frame_on_the_line_is_cobs_of_payload_and_big_endian_crc_and_ends_with_zero() -> None:
    (frame,) = on_node([("line.encode_frame", b"123456789")])
    assert frame == cobs.encode(b"123456789\x29\xb1") + b"\0"


def test_lpp_gives_the_octets_of_the_cayenne_examples() -> None:
    two_temperatures, below_zero, all_kinds = on_node(
        [
            ("lpp", ("temperature", 3, 27200), ("temperature", 5, 25500)),
            ("lpp", ("temperature", 1, -4100)),
            (
                "lpp",
                ("humidity", 2, 57500),
                ("pressure", 3, 101320),
                ("illuminance", 4, 8200000),
                ("presence", 5, True),
                ("digital_input", 6, False),
                ("analog_input", 7, -1230),
            ),
        ]
    )
    assert two_temperatures.hex() == "03670110056700ff"  # myDevices, Cayenne LPP 1.0, first example
    assert below_zero.hex() == "0167ffd7"
    assert all_kinds.hex() == "02687303732794046520080566010600000702ff85"


def test_lpp_rounds_halves_away_from_zero() -> None:
    (payload,) = on_node([("lpp", *(("temperature", 0, value) for value in (149, 150, -149, -150)))])
    assert [int.from_bytes(payload[at : at + 2], "big", signed=True) for at in (2, 6, 10, 14)] == [1, 2, -1, -2]


@pytest.mark.parametrize("addition", [("temperature", 1, 3276800), ("humidity", 1, -1000), ("presence", 256, True)])
def test_lpp_refuses_a_value_that_does_not_fit(addition: tuple[str, int, int]) -> None:
    (error,) = on_node([("lpp", addition)])
    assert error.startswith("ValueError: LPP type")


def test_frame_counter_never_repeats_over_power_losses(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "f_cnt")
    starts = on_node([("counters", path, count) for count in (1, 63, 64, 65, 1)])
    given = [f_cnt for start in starts for f_cnt in start]
    assert given == sorted(set(given))
    assert [start[0] for start in starts] == [0, 64, 128, 192, 320]


def test_frame_counter_survives_a_cut_while_it_is_written(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "f_cnt"
    on_node([("counters", str(path), 1)])
    pathlib.Path(f"{path}.new").write_bytes(b"\0\0")  # the cut came before the rename
    assert on_node([("counters", str(path), 1)]) == [[64]]


@pytest.mark.parametrize("octets", [b"", b"\0\0\0\x40", b"\0\0\0\x40\xff\xff\xff\xbe", bytes(8), bytes(9)])
def test_frame_counter_refuses_a_damaged_file(octets: bytes, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "f_cnt"
    path.write_bytes(octets)
    (error,) = on_node([("counters", str(path), 1)])
    assert error.startswith("CounterError:")
    assert path.read_bytes() == octets


def test_frame_counter_ends_instead_of_wrapping(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "f_cnt"
    path.write_bytes(bytes.fromhex("fffffffe00000001"))
    last, after = on_node([("counters", str(path), 1), ("counters", str(path), 1)])
    assert last == [0xFFFFFFFE]
    assert after == "CounterError: all frame counters are used up: give the node new keys"


def test_node_says_which_setting_it_does_not_know(tmp_path: pathlib.Path) -> None:
    settings = tmp_path / "node.json"
    settings.write_text(json.dumps({"port": "x", "dev_adr": "01ab23cd"}))
    done = subprocess.run(
        [*MICROPYTHON, NODE_DIR / "main.py", settings], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert "dev_adr" in done.stdout + done.stderr


async def test_node_sends_frames_over_a_line_and_counts_on_after_a_restart(tmp_path: pathlib.Path) -> None:
    keys = NodeKeys(f"{SESSION[0]:08x}", SESSION[1].hex(), SESSION[2].hex())
    async with Cable(tmp_path, "node") as cable, await SerialLine.open(str(cable.gateway_port)) as line:
        for first in (0, 64):
            async with running_node(tmp_path, cable.sensor_port, keys, every_s=0.001, frames=3) as node:
                await node.run()
            assert node.f_cnts == [first, first + 1, first + 2]
            octets = b""
            while octets.count(b"\0") < 3:
                octets += await line.read(4096)
            frames = [cobs.decode(frame) for frame in octets.split(b"\0")[:3]]
            assert [int.from_bytes(frame[6:8], "little") for frame in frames] == node.f_cnts
            assert all(frame[1:5] == bytes.fromhex("cd23ab01") for frame in frames)


async def test_node_that_ends_by_itself_tells_why(tmp_path: pathlib.Path) -> None:
    (tmp_path / "f_cnt").write_bytes(b"damaged")
    async with running_node(tmp_path, pathlib.Path(os.devnull), NodeKeys("0", "00" * 16, "00" * 16), every_s=1) as node:
        with pytest.raises(RuntimeError, match="f_cnt is damaged: give the node new keys"):
            await node.run()
