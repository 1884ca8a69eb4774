"""`litfass ring` on live, stopped and damaged rings: it tells what is there and changes nothing."""

import csv
import json
import pathlib
import random

import pytest

from gateway.cli import main
from gateway.clock import TimeStamp
from gateway.reading import Quality, Reading
from gateway.ring import SLOT_SIZE, Ring

T0_MS = 1_760_000_000_000
STAMP = TimeStamp(bytes(16), 5000, T0_MS, True)
TOTAL = 12_000


@pytest.fixture
def ring_path(tmp_path: pathlib.Path) -> pathlib.Path:
    noise = random.Random(3)
    path = tmp_path / "ring.lfr"
    with Ring.open(path, size=1 << 20) as ring:
        ring.add_consumer("city")
        for number in range(0, TOTAL, 100):
            ring.append(
                [
                    Reading("pegel-3", "water_level", noise.random(), "m", T0_MS + n * 1000, T0_MS + n * 1000,
                            quality=Quality.PASS, rssi_dbm=-97)
                    for n in range(number, number + 100)
                ],
                STAMP,
            )  # fmt: skip
            ring.sync()
        ring.acknowledge("city", 0, 499)
        ring.sync()
    return path


def test_a_sound_ring(ring_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = ring_path.read_bytes()
    assert main(["ring", "stat", str(ring_path), "--json"]) == 0
    stat = json.loads(capsys.readouterr().out)
    assert (stat["records"], stat["head_seq"], stat["damaged_blocks"]) == (TOTAL, TOTAL, 0)
    assert stat["consumers"][0]["backlog_records"] == TOTAL - 500
    assert main(["ring", "verify", str(ring_path.parent)]) == 0
    assert capsys.readouterr().out == "sound: 12,000 readings, every sum is right\n"
    assert main(["ring", "dump", str(ring_path), "--last", "2", "--json"]) == 0
    newest = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["seq"] for row in newest] == [TOTAL - 2, TOTAL - 1]
    assert newest[1]["time"] == "2025-10-09T12:13:19.000Z"
    assert (newest[1]["device"], newest[1]["unit"], newest[1]["rssi_dbm"]) == ("pegel-3", "m", -97)
    assert ring_path.read_bytes() == before, "a look changes nothing"


def test_export_reads_back(ring_path: pathlib.Path, tmp_path: pathlib.Path) -> None:
    assert main(["ring", "export", str(ring_path), "--csv", str(tmp_path / "out.csv")]) == 0
    noise = random.Random(3)
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["value"]) for row in rows] == [noise.random() for _ in range(TOTAL)]


def test_p6_damage_is_told_with_its_extent(ring_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    octets = bytearray(ring_path.read_bytes())
    slot = next(at for at in range(0, len(octets), SLOT_SIZE) if octets[at : at + 3] == b"LFB")
    octets[slot + 5000] ^= 1
    ring_path.write_bytes(octets)
    assert main(["ring", "verify", str(ring_path), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["damaged_blocks"] == 1
    assert 0 < found["corrupt"] < 4000
    assert found["readings"] + found["corrupt"] == TOTAL


def test_a_live_ring_can_be_looked_into(ring_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Ring.open(ring_path, size=1 << 20) as ring:
        ring.append([Reading("pegel-3", "water_level", 1.5, "m", T0_MS, T0_MS)], STAMP)
        ring.sync()
        assert main(["ring", "dump", str(ring_path), "--last", "1"]) == 0
    assert "water_level\t1.5\tm" in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"not a ring" * 5000])
def test_what_is_no_ring_is_called_so(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    path = tmp_path / "x.lfr"
    path.write_bytes(content)
    assert main(["ring", "stat", str(path)]) == 1
    assert "is no ring" in capsys.readouterr().err
    assert main(["ring", "stat", str(tmp_path / "none")]) == 1
    assert "No such file" in capsys.readouterr().err
