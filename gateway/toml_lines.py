"""Which line of a TOML file a key stands on. tomllib tells values only; this finds their places.

The text has passed tomllib, so it is well formed: only table headers, keys and the ends of multi-line values matter.
"""

import pathlib
import re
import tomllib

from gateway.errors import ConfigError, ConfigErrors
from gateway.settings import Path

SETTINGS_FILE_SIZE_MAX = 4 << 20  # octets; a thousand devices need a quarter of a MiB

_HEADER = re.compile(r"\s*(\[\[?)\s*(.+?)\s*\]\]?\s*(#.*)?$")
_KEY_PART = re.compile(r"""\s*("(?:[^"\\]|\\.)*"|'[^']*'|[A-Za-z0-9_-]+)\s*""")
_SKIP = re.compile(
    r'''"""(?:[^\\]|\\.)*?"""|\'{3}.*?\'{3}|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'|\#[^\n]*|[\[\]{}]|\n''', re.DOTALL
)


class TomlLines:
    """The places of all keys and tables of one file."""

    def __init__(self, text: str) -> None:
        self._lines: dict[Path, int] = {}
        self._scan(text)

    def line(self, path: Path) -> int:
        """Return the 1-based line of ``path`` or of its nearest parent that stands in the file, 0 if none does."""
        while path:
            if path in self._lines:
                return self._lines[path]
            path = path[:-1]
        return 0

    def _scan(self, text: str) -> None:
        table: Path = ()
        counts: dict[Path, int] = {}
        for number, logical in _logical_lines(text):
            header = _HEADER.match(logical) if logical.lstrip().startswith("[") else None
            if header:
                table = self._table_path(_key_parts(header[2])[0], header[1] == "[[", counts)
                self._lines.setdefault(table, number)
                if header[1] == "[[":  # the array as a whole: its first element
                    self._lines.setdefault(table[:-1], number)
                continue
            parts, _ = _key_parts(logical)
            for depth in range(1, len(parts) + 1):
                self._lines.setdefault(table + parts[:depth], number)

    @staticmethod
    def _table_path(parts: Path, is_array: bool, counts: dict[Path, int]) -> Path:
        """Return the path of a header; below an array of tables it means the array's newest element."""
        path: Path = ()
        for depth, part in enumerate(parts):
            path = (*path, part)
            if depth == len(parts) - 1 and is_array:
                counts[path] = counts.get(path, -1) + 1
            if path in counts:
                path = (*path, counts[path])
        return path


def _key_parts(text: str) -> tuple[Path, int]:
    """Return the dotted key at the start of ``text`` and where it ends; an empty key where none starts."""
    parts: list[str] = []
    position = 0
    while match := _KEY_PART.match(text, position):
        token = match[1]
        if token[0] == '"':
            token = str(tomllib.loads(f"k = {token}")["k"])
        elif token[0] == "'":
            token = token[1:-1]
        parts.append(token)
        position = match.end()
        if not text.startswith(".", position):
            break
        position += 1
    return tuple(parts), position


def _logical_lines(text: str) -> list[tuple[int, str]]:
    """Return (line number, text) of each header or key with its whole value, multi-line ones included."""
    result: list[tuple[int, str]] = []
    start = depth = 0
    number = start_number = 1
    header = False
    for match in _SKIP.finditer(text):
        token = match[0]
        if token == "\n":
            number += 1
            if depth == 0 or header:
                logical = text[start : match.start()]
                if logical.strip() and not logical.lstrip().startswith("#"):
                    result.append((start_number, logical))
                start, start_number, depth, header = match.end(), number, 0, False
        elif token in "[{":
            header = header or not text[start : match.start()].strip()
            depth += 1
        elif token in "]}":
            depth -= 1
        else:
            number += token.count("\n")
    if text[start:].strip():
        result.append((start_number, text[start:]))
    return result


def read_toml(path: pathlib.Path) -> tuple[dict[str, object], TomlLines]:
    """Return the tables of a TOML file and the places of its keys.

    Raises:
        ConfigErrors: The file cannot be read, is too large, not UTF-8 or no TOML.
    """
    name = str(path)
    try:
        with path.open("rb") as file:
            raw = file.read(SETTINGS_FILE_SIZE_MAX + 1)
    except OSError as error:
        raise _one_error(name, 0, f"cannot be read: {error.strerror}", "expected a readable file") from None
    if len(raw) > SETTINGS_FILE_SIZE_MAX:
        expected = f"expected at most {SETTINGS_FILE_SIZE_MAX} octets"
        raise _one_error(name, 0, f"the file has more than {SETTINGS_FILE_SIZE_MAX} octets", expected)
    try:
        text = raw.decode("utf-8").replace("\r\n", "\n")
        return tomllib.loads(text), TomlLines(text)
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise _one_error(name, line, f"octet 0x{raw[error.start]:02x} is not UTF-8", "expected UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
        message = re.sub(r"\s*\(at .*\)$", "", str(error))
        line = int(place[1]) if place else text.count("\n") + 1
        column = f" (column {place[2]})" if place else " (end of the file)"
        raise _one_error(name, line, f"no valid TOML: {message}{column}", "see https://toml.io") from None
    except RecursionError:
        raise _one_error(name, 0, "nested too deeply", "expected a flat file") from None


def _one_error(file: str, line: int, found: str, expected: str) -> ConfigErrors:
    return ConfigErrors([ConfigError(file, line, found, expected)])
