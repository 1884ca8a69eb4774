"""A ring in a temporary file, and readings to put into it."""

import pathlib
from collections.abc import Iterator

import pytest

from gateway.ring import Ring

SIZE = 1 << 20


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "test.ring"


@pytest.fixture
def ring(path: pathlib.Path) -> Iterator[Ring]:
    ring = Ring.open(path, size=SIZE, now_s=1)
    yield ring
    ring.close()
