"""Our own reader of entry points finds what Python's finds."""

import importlib.metadata

import pytest

from gateway.entry_points import entry_points


@pytest.mark.parametrize("group", ["litfass.drivers", "litfass.commands", "console_scripts", "pytest11", "no.such"])
def test_same_as_importlib_metadata(group: str) -> None:
    expected = {entry.name: entry.value.partition(" ")[0] for entry in importlib.metadata.entry_points(group=group)}
    assert {name: entry.value for name, entry in entry_points(group).items()} == expected


def test_loading_gives_the_object() -> None:
    assert entry_points("litfass.drivers")["modbus-rtu"].load().summary
