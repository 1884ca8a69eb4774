"""SenML packs read as a platform reads them (RFC 8428): octets in, resolved records out. Pure.

Written from the RFC and not from `gateway.uplinks.senml`, so that a mistake there does not hide here.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

VERSION = 10
RELATIVE_TIME_MAX_S = 1 << 28  # below, a time is relative to now (4.5.3)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9\-:./_]*")
_VALUE_LABELS = ("v", "vs", "vb", "vd")


class PackError(ValueError):
    """Octets that are no SenML pack this reader may understand."""


@dataclass(frozen=True, slots=True)
class SenmlRecord:
    """One resolved record (4.6): nothing in it leans on the records before.

    Attributes:
        name: Base name and name.
        unit: Unit, empty where the record states none.
        time_s: Seconds since 1970.
        value: Number, text or truth value.
    """

    name: str
    unit: str
    time_s: float
    value: float | str | bool


def resolve_pack(octets: bytes, now_s: float) -> list[SenmlRecord]:
    """Return the records of a pack, in its order.

    Args:
        octets: JSON.
        now_s: Receive time, for records whose time is relative to it.

    Raises:
        PackError: It breaks the RFC, or needs a feature this reader does not know.
    """
    try:
        rows = json.loads(octets)
    except ValueError as error:
        raise PackError(f"no JSON: {error}") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise PackError("no array of objects")
    base: dict[str, object] = {}
    return [_resolve(row, base, now_s) for row in rows]


def _resolve(row: Mapping[str, object], base: dict[str, object], now_s: float) -> SenmlRecord:
    base.update({label: value for label, value in row.items() if label.startswith("b")})
    must_know = [label for label in row if label.endswith("_")]
    if must_know:
        raise PackError(f"label {must_know[0]} must be understood, and is not (4.4)")
    if base.get("bver", VERSION) != VERSION:
        raise PackError(f"version {base['bver']}: expected {VERSION}")
    name = f"{_text(base, 'bn')}{_text(row, 'n')}"
    if not _NAME.fullmatch(name):
        raise PackError(f"name {name!r}")
    found = [label for label in _VALUE_LABELS if label in row]
    if len(found) > 1:
        raise PackError(f"{name}: {' and '.join(found)} in one record")
    value: float | str | bool
    if not found or found == ["v"]:
        if not found and "bv" not in base:
            raise PackError(f"{name}: no value")
        value = _number(base, "bv") + _number(row, "v")
    else:
        given = row[found[0]]
        if not isinstance(given, bool if found == ["vb"] else str):
            raise PackError(f"{name}: {found[0]} is {given!r}")
        value = given
    time_s = _number(base, "bt") + _number(row, "t")
    if time_s < RELATIVE_TIME_MAX_S:
        time_s += now_s
    return SenmlRecord(name, _text(row, "u") or _text(base, "bu"), time_s, value)


def _number(row: Mapping[str, object], label: str) -> float:
    value = row.get(label, 0.0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise PackError(f"{label} is {value!r}: expected a number")
    return value


def _text(row: Mapping[str, object], label: str) -> str:
    value = row.get(label, "")
    if not isinstance(value, str):
        raise PackError(f"{label} is {value!r}: expected a text")
    return value
