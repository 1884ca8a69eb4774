"""`litfass ring`: on whole, live and damaged files."""

import csv
import json
import pathlib
import random

import pytest

from gateway.cli import main
from gateway.ring import Ring
from tests.ring.conftest import SIZE
from tests.ring.samples import fill, many, stamp


@pytest.fixture
def live(path: pathlib.Path) -> Ring:
    ring = Ring.open(path, size=SIZE, now_s=1)
    ring.add_consumer("city")
    fill(ring, random.Random(1), 15_000)
    ring.append(many(15_000, 10), stamp())
    return ring


def test_stat_of_a_live_ring(live: Ring, path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ring", "stat", str(path)]) == 0
    out = capsys.readouterr().out
    assert "15,010 (0 to 15009)" in out
    assert "consumer city" in out
    assert main(["ring", "stat", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["records"] == 15_010
    assert found["consumers"][0]["backlog_records"] == 15_010


def test_dump_and_export(live: Ring, path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ring", "dump", str(path), "--last", "3", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["seq"] for line in lines] == [15_007, 15_008, 15_009]
    assert main(["ring", "dump", str(path), "--last", "1"]) == 0
    assert "pegel water_level  150.09 m  pass" in capsys.readouterr().out
    out = path.with_suffix(".csv")
    assert main(["ring", "export", str(path), str(out)]) == 0
    with out.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 15_010
    assert rows[-1]["value"] == "150.09"


def test_export_to_parquet_or_a_hint(live: Ring, path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = path.with_suffix(".parquet")
    code = main(["ring", "export", str(path), str(out)])
    said = capsys.readouterr().err
    assert (code, out.exists()) == (0, True) or (code == 1 and "litfass[parquet]" in said)


def test_verify_finds_damage(live: Ring, path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ring", "verify", str(path)]) == 0
    victim = live._layout.slot_offset(live._slots.in_order()[1])
    with path.open("r+b") as file:
        file.seek(victim + 3000)
        file.write(b"\xff" * 8)
    capsys.readouterr()
    assert main(["ring", "verify", str(path), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["damaged"] is True
    assert [gap["cause"] for gap in found["gaps"]] == ["corrupt"]
    assert main(["ring", "export", str(path), str(path.with_suffix(".csv"))]) == 1


def test_resize(live: Ring, path: pathlib.Path) -> None:
    new = path.with_name("new.ring")
    assert main(["ring", "resize", str(path), str(new), "--size", "4MiB"]) == 0
    with Ring.open(new, size=4 << 20) as ring:
        assert ring.head_seq == 15_010
    assert main(["ring", "resize", str(path), str(new), "--size", "4MiB"]) == 1


def test_what_is_no_ring_is_told(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x").write_bytes(b"hello")
    assert main(["ring", "stat", str(tmp_path / "x")]) == 1
    assert main(["ring", "stat", str(tmp_path / "absent")]) == 1
    assert "is no ring" in capsys.readouterr().err
