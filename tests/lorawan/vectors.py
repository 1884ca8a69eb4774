"""The vectors under tests/vectors/lorawan: loaded once, typed."""

import json
import pathlib
from dataclasses import dataclass
from typing import Any

FOLDER = pathlib.Path(__file__).parent.parent / "vectors" / "lorawan"


@dataclass(frozen=True, slots=True)
class Uplink:
    """One frame another implementation built, with what it was built from."""

    name: str
    phy_payload: bytes
    dev_addr: int
    nwk_skey: bytes
    app_skey: bytes
    f_cnt: int
    f_port: int | None
    plaintext: bytes
    f_opts: bytes
    confirmed: bool
    adr: bool
    adr_ack_req: bool
    ack: bool


def load(name: str) -> Any:
    return json.loads((FOLDER / name).read_text())


def uplinks() -> list[Uplink]:
    rows = load("lora-packet.json")["frames"] + load("standards.json")["uplinks"]
    return [
        Uplink(
            name=row["name"],
            phy_payload=bytes.fromhex(row["hex"]),
            dev_addr=int(row["dev_addr"], 16),
            nwk_skey=bytes.fromhex(row["nwk_skey"]),
            app_skey=bytes.fromhex(row["app_skey"]),
            f_cnt=row["f_cnt"],
            f_port=row["f_port"],
            plaintext=bytes.fromhex(row["plaintext"]),
            f_opts=bytes.fromhex(row["f_opts"]),
            confirmed=row["confirmed"],
            adr=row["adr"],
            adr_ack_req=row["adr_ack_req"],
            ack=row["ack"],
        )
        for row in rows
    ]


def uplink(name: str) -> Uplink:
    return next(frame for frame in uplinks() if frame.name == name)
