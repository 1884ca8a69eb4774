"""Installed entry points, read from their small text files.

`importlib.metadata` does the same and more; it would cost a gateway 3 MB of memory for its whole life, and each command
30 ms. The format is the packaging standard's "entry points specification": an INI file in each `*.dist-info` folder.
"""

import importlib
import pathlib
import sys
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class EntryPoint:
    """One entry point: ``name`` in its group, and the object ``module:attribute`` it stands for."""

    name: str
    value: str

    def load(self) -> Any:
        """Import and return the object.

        Raises:
            ImportError: Its module or something the module needs is not installed.
            AttributeError: The module has no such attribute.
        """
        module, _, attribute = self.value.partition(":")
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part) if part else found
        return found


def entry_points(group: str) -> dict[str, EntryPoint]:
    """Return the entry points of a group by name; of two with one name the first on ``sys.path`` counts."""
    found: dict[str, EntryPoint] = {}
    for folder in dict.fromkeys(sys.path):
        for file in sorted(pathlib.Path(folder or ".").glob("*.dist-info/entry_points.txt")):
            for entry in _read(file, group):
                found.setdefault(entry.name, entry)
    return found


def _read(file: pathlib.Path, group: str) -> list[EntryPoint]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    entries, section = [], ""
    for line in (line.strip() for line in lines):
        if line.startswith("["):
            section = line.strip("[]").strip()
        elif section == group and "=" in line and line[0] not in "#;":
            name, _, value = line.partition("=")
            entries.append(EntryPoint(name.strip(), value.partition("[")[0].strip()))
    return entries
