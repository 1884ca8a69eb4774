"""`pytest hil_tests --bench FILE`: puts the bench together that FILE describes; without it scenarios are skipped."""

import importlib
import pathlib
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import pytest
import yaml

from gateway import __version__
from hil_tests.protocols import Parts
from hil_tests.strategy import BenchStrategy, State

_Part = TypeVar("_Part")

BENCHES = {"desk": "hil_tests.desk:Desk"}
"""What a bench's `driver` may say, and the class that makes its parts from the description and a folder."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--bench", metavar="FILE", help="the bench to run on, such as hil_tests/bench/desk.yaml")


def _description(config: pytest.Config) -> dict[str, Any] | None:
    path = config.getoption("--bench")
    return None if path is None else dict(yaml.safe_load(pathlib.Path(path).read_text()))


def pytest_report_header(config: pytest.Config) -> str:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    bench = config.getoption("--bench") or "none (say --bench FILE)"
    return f"bench: {bench}, Litfass {__version__}, commit {commit.stdout.strip() or 'unknown'}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--bench") is None:
        skip = pytest.mark.skip(reason="needs a bench: pytest hil_tests --bench hil_tests/bench/desk.yaml")
        for item in items:
            item.add_marker(skip)


class _Plugged(dict[str, _Part]):
    """Parts by name; a scenario that asks for one this bench has not is skipped, and says which."""

    def __init__(self, kind: str, parts: Mapping[str, _Part]) -> None:
        super().__init__(parts)
        self._kind = kind

    def __missing__(self, name: str) -> _Part:
        pytest.skip(f'this bench has no {self._kind} "{name}", only: {", ".join(self) or "none"}')


@pytest.fixture
def bench(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Iterator[Parts]:
    """A bench in the state `reporting`: readings of everything plugged in arrive at the city."""
    description = _description(request.config)
    assert description is not None
    module, _, name = BENCHES[description["driver"]].partition(":")
    parts: Parts = getattr(importlib.import_module(module), name)(description, tmp_path)
    parts.cables, parts.sensors = _Plugged("cable", parts.cables), _Plugged("sensor", parts.sensors)
    devices = [*description["sensors"], *(table["meter"] for table in description["cables"].values())]
    parts.set_up()
    try:
        BenchStrategy(parts, devices).to(State.REPORTING)
        yield parts
    finally:
        parts.tear_down()
