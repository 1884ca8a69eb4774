"""How a settings table is declared and read: frozen dataclasses in, every mistake with its line out.

    @dataclass(frozen=True, slots=True, kw_only=True)
    class ForwarderSettings:
        listen: Address = setting(address(), default="127.0.0.1:1700", help="where packet forwarders send to")

    settings = read_table(ForwarderSettings, table, report)      # mistakes go to report, None comes back

The dataclass is the one description of a table: its types, defaults, bounds and the words that explain it.
"""

import dataclasses
import difflib
import ipaddress
import os
import pathlib
import re
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from gateway.errors import ConfigError, ConfigErrors

T = TypeVar("T")
FOUND_TEXT_MAX = 60  # characters of a wrong value that a message repeats
SUGGESTION_CUTOFF = 0.6  # difflib ratio above which "did you mean" is a help and not a riddle
SECRET_FILE_SIZE_MAX = 16384  # octets; a key or a PEM file is far smaller
CREDENTIAL_FOLDER_PREFIX = "litfass_"  # systemd's name for a file of `LoadCredential=litfass:FOLDER`

_LOGIN = re.compile(r"//[^/@\s]*@")  # of a URL

Path = tuple[str | int, ...]
"""Where a value stands in a TOML file: ``("driver", 1, "port")``."""


class Lines(Protocol):
    """Tells the 1-based line of a path in one file (0 where it stands nowhere)."""

    def line(self, path: Path) -> int:
        """Return the line of the key or table at ``path``, or of its nearest parent."""
        ...


class Report:
    """Collects the mistakes of one file."""

    def __init__(self, file: str, lines: Lines) -> None:
        self.file = file
        self.folder = pathlib.Path(file).resolve().parent
        self.lines = lines
        self.errors: list[ConfigError] = []
        self.warnings: list[str] = []

    def error(self, path: Path, found: str, expected: str) -> None:
        """Note one mistake at ``path``."""
        self.errors.append(ConfigError(self.file, self.lines.line(path), found, expected))

    def warn(self, path: Path, message: str) -> None:
        """Note something that works but should be known."""
        line = self.lines.line(path)
        self.warnings.append(f"{self.file}:{line}: {message}" if line else f"{self.file}: {message}")

    def raise_errors(self) -> None:
        """Raise all mistakes at once, if there are any."""
        if self.errors:
            raise ConfigErrors(self.errors)


class WrongValueError(ValueError):
    """A kind refuses a value. ``expected`` overrides the kind's own words."""

    def __init__(self, expected: str = "") -> None:
        self.expected = expected
        super().__init__(expected)


def found_text(value: object) -> str:
    """Return how a message repeats a wrong value: short, quoted, on one line."""
    value = _LOGIN.sub("//…@", value) if isinstance(value, str) else value  # a password in a URL
    text = f'"{value}"' if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
    text = text.encode("unicode_escape").decode()
    return text if len(text) <= FOUND_TEXT_MAX else text[: FOUND_TEXT_MAX - 1] + "…"


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """One kind of value: how it is read from TOML and what right looks like.

    Attributes:
        expected: Completes "expected …".
        parse: Takes the TOML value and the folder of its file; raises WrongValueError.
        is_secret: A wrong value may be a key typed where its reference belongs: never repeat it.
    """

    expected: str
    parse: Callable[[object, pathlib.Path], T]
    is_secret: bool = False

    def found_text(self, value: object) -> str:
        """Return how a message repeats a wrong value of this kind."""
        return "…" if self.is_secret else found_text(value)


@dataclass(frozen=True, slots=True)
class Address:
    """Host and port of a socket, as in ``127.0.0.1:1700`` or ``[::1]:1700``."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Tell whether only this machine can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Secret:
    """A key or password. It never shows in a log, a traceback or a status."""

    __slots__ = ("_value", "source")

    def __init__(self, value: bytes, source: str) -> None:
        self._value = value
        self.source = source

    def reveal(self) -> bytes:
        """Return the octets."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({self.source})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


def setting(kind: Kind[Any], *, help: str, **options: Any) -> Any:
    """Declare one key of a settings table; without ``default`` it must be given.

    Args:
        kind: How its value is read.
        help: One line for the technician.
        **options: ``default`` (written as in TOML, read by ``kind``; None stays None) and ``key`` where the TOML key
            differs from the attribute.
    """
    metadata = {"kind": kind, "help": help, "key": options.get("key", "")}
    if "default" not in options:
        return dataclasses.field(metadata=metadata)
    default = options["default"]
    value = default if default is None else kind.parse(default, pathlib.Path())
    metadata["default"] = default
    if isinstance(value, dict):
        return dataclasses.field(default_factory=value.copy, metadata=metadata)
    return dataclasses.field(default=value, metadata=metadata)


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return ``did you mean "x"?`` or the list of what is known."""
    names = list(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=SUGGESTION_CUTOFF)
    if near:
        return f'did you mean "{near[0]}"?'
    return "known: " + ", ".join(sorted(names)) if names else "none is known"


def keys_of(settings_type: type[Any]) -> dict[str, "dataclasses.Field[Any]"]:
    """Return the fields of a settings dataclass by their TOML keys."""
    return {
        field.metadata["key"] or field.name: field
        for field in dataclasses.fields(settings_type)
        if "kind" in field.metadata
    }


def split_table(table: Mapping[str, object], settings_type: type[Any]) -> tuple[dict[str, object], dict[str, object]]:
    """Return the keys of ``table`` that ``settings_type`` declares, and the others, which somebody else reads."""
    own = keys_of(settings_type)
    return {k: v for k, v in table.items() if k in own}, {k: v for k, v in table.items() if k not in own}


def read_table(
    settings_type: type[T], table: Mapping[str, object], report: Report, path: Path = (), *, ignore: Sequence[str] = ()
) -> T | None:
    """Return ``table`` as ``settings_type``, or None after all its mistakes went to ``report``.

    Args:
        settings_type: A dataclass whose fields are made by `setting`.
        table: The TOML table.
        report: Where mistakes go.
        path: Where the table stands in its file.
        ignore: Keys that somebody else reads.
    """
    fields = keys_of(settings_type)
    mistakes = len(report.errors)
    for key in table:
        if key not in fields and key not in ignore:
            report.error((*path, key), f'unknown key "{key}"', suggestion(key, [*fields, *ignore]))
    values: dict[str, object] = {}
    for key, field in fields.items():
        kind: Kind[object] = field.metadata["kind"]
        if key in table:
            try:
                values[field.name] = kind.parse(table[key], report.folder)
            except NestedMistakesError as nested:
                for inner_path, found, expected in nested.mistakes:
                    report.error((*path, key, *inner_path), found, expected)
            except WrongValueError as wrong:
                report.error(
                    (*path, key),
                    f"{key} = {kind.found_text(table[key])}",
                    f"expected {wrong.expected or kind.expected}",
                )
        elif "default" not in field.metadata:
            report.error(path, f'"{key}" is missing', f"expected {kind.expected} ({field.metadata['help']})")
    return None if len(report.errors) > mistakes else settings_type(**values)


class NestedMistakesError(Exception):
    """Mistakes inside a nested table, each with its path below the key."""

    def __init__(self, mistakes: list[tuple[Path, str, str]]) -> None:
        self.mistakes = mistakes
        super().__init__(mistakes)


class _NestedReport(Report):
    """A report whose mistakes are handed up with their paths instead of lines."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.errors = []
        self.warnings = []
        self.mistakes: list[tuple[Path, str, str]] = []

    def error(self, path: Path, found: str, expected: str) -> None:
        self.mistakes.append((path, found, expected))
        self.errors.append(ConfigError("", 0, found, expected))


# ---- kinds -----------------------------------------------------------------------------------------------------------


def text(pattern: str = r"[^\x00-\x1f\x7f]{1,256}", expected: str = "a text") -> Kind[str]:
    """Return the kind of a text that matches ``pattern`` as a whole."""
    compiled = re.compile(pattern)

    def parse(value: object, _: pathlib.Path) -> str:
        if not isinstance(value, str) or not compiled.fullmatch(value):
            raise WrongValueError
        return value

    return Kind(expected, parse)


def integer(low: int, high: int) -> Kind[int]:
    """Return the kind of a whole number from ``low`` to ``high``."""

    def parse(value: object, _: pathlib.Path) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise WrongValueError
        return value

    return Kind(f"a whole number from {low} to {high}", parse)


def number(low: float | None = None, high: float | None = None) -> Kind[float]:
    """Return the kind of a finite number within the bounds given."""
    bounds = f" from {low:g} to {high:g}" if low is not None and high is not None else ""

    def parse(value: object, _: pathlib.Path) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < float("inf"):
            raise WrongValueError
        if (low is not None and value < low) or (high is not None and value > high):
            raise WrongValueError
        return float(value)

    return Kind(f"a number{bounds}", parse)


def boolean() -> Kind[bool]:
    """Return the kind of ``true`` and ``false``."""

    def parse(value: object, _: pathlib.Path) -> bool:
        if not isinstance(value, bool):
            raise WrongValueError
        return value

    return Kind("true or false", parse)


def choice(*options: str) -> Kind[str]:
    """Return the kind of one of a few words."""
    listed = ", ".join(f'"{option}"' for option in options)

    def parse(value: object, _: pathlib.Path) -> str:
        if value not in options:
            near = difflib.get_close_matches(str(value), options, n=1, cutoff=SUGGESTION_CUTOFF)
            raise WrongValueError(f"one of {listed}" + (f' (did you mean "{near[0]}"?)' if near else ""))
        return str(value)

    return Kind(f"one of {listed}", parse)


def one_of_integers(*options: int) -> Kind[int]:
    """Return the kind of one of a few whole numbers."""

    def parse(value: object, _: pathlib.Path) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value not in options:
            raise WrongValueError
        return value

    return Kind("one of " + ", ".join(str(option) for option in options), parse)


_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|min|h|d)")
_DURATION_UNIT_S = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def duration(low_s: float = 0.001, high_s: float = 366 * 86400.0) -> Kind[float]:
    """Return the kind of a time span such as ``"10s"``, ``"5min"``, ``"1h"``; read as seconds."""
    expected = f'a time span from {low_s:g} to {high_s:g} s such as "500ms", "10s", "5min", "1h", "2d"'

    def parse(value: object, _: pathlib.Path) -> float:
        match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
        if not match:
            raise WrongValueError
        seconds = float(match[1]) * _DURATION_UNIT_S[match[2]]
        if not low_s <= seconds <= high_s:
            raise WrongValueError
        return seconds

    return Kind(expected, parse)


_SIZE = re.compile(r"(\d+)\s*(B|KiB|MiB|GiB)")
_SIZE_UNIT = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def size(low: int, high: int) -> Kind[int]:
    """Return the kind of a number of octets such as ``"64MiB"``."""

    def parse(value: object, _: pathlib.Path) -> int:
        match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
        if not match or not low <= (octets := int(match[1]) * _SIZE_UNIT[match[2]]) <= high:
            raise WrongValueError
        return octets

    return Kind(f'a size from {size_text(low)} to {size_text(high)} such as "64MiB"', parse)


def size_text(octets: int) -> str:
    """Return ``64MiB`` for a number of octets."""
    for unit in ("GiB", "MiB", "KiB"):
        if octets >= _SIZE_UNIT[unit] and octets % _SIZE_UNIT[unit] == 0:
            return f"{octets // _SIZE_UNIT[unit]}{unit}"
    return f"{octets}B"


def hex_octets(count: int) -> Kind[bytes]:
    """Return the kind of ``count`` octets in hexadecimal, separators ``:``, ``-`` and blanks allowed."""

    def parse(value: object, _: pathlib.Path) -> bytes:
        if not isinstance(value, str):
            raise WrongValueError
        return _octets(value, count)

    return Kind(f"{count * 2} hexadecimal digits ({count} octets)", parse)


def _octets(digits: str, count: int) -> bytes:
    bare = re.sub(r"[\s:-]", "", digits)
    if not re.fullmatch(f"[0-9A-Fa-f]{{{count * 2}}}", bare):
        raise WrongValueError
    return bytes.fromhex(bare)


def address() -> Kind[Address]:
    """Return the kind of ``"host:port"``."""

    def parse(value: object, _: pathlib.Path) -> Address:
        match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9.-]+)):(\d{1,5})", str(value))
        if not match or not 0 <= int(match[3]) <= 65535:
            raise WrongValueError
        return Address(match[1] or match[2], int(match[3]))

    return Kind('host and port such as "127.0.0.1:1700" or "[::1]:1700"', parse)


def file_path() -> Kind[pathlib.Path]:
    """Return the kind of a path; a relative one counts from the folder of the settings file."""

    def parse(value: object, folder: pathlib.Path) -> pathlib.Path:
        if not isinstance(value, str) or not value or "\0" in value:
            raise WrongValueError
        return folder / pathlib.Path(value).expanduser()

    return Kind("a path", parse)


def secret(hex_count: int | None = None) -> Kind[Secret]:
    """Return the kind of a secret by reference; ``hex_count`` octets in hexadecimal, or any text if None.

    ``file:PATH`` (readable by its owner only), ``credential:NAME`` (systemd LoadCredential=), ``env:NAME``, and
    ``plain:VALUE`` for demos and tests.
    """
    what = f"{hex_count * 2} hexadecimal digits" if hex_count else "a secret"
    expected = f'"file:PATH", "credential:NAME", "env:NAME" or "plain:VALUE" that holds {what}'

    def parse(value: object, folder: pathlib.Path) -> Secret:
        if not isinstance(value, str) or ":" not in value:
            raise WrongValueError
        scheme, _, rest = value.partition(":")
        if scheme == "plain":
            source, octets = "plain:…", rest.encode()
        elif scheme == "env":
            source = value
            if rest not in os.environ:
                raise WrongValueError(f"the environment variable {rest} to be set")
            octets = os.environ[rest].encode()
        elif scheme in ("file", "credential"):
            source, octets = value, _read_secret_file(_secret_path(scheme, rest, folder))
        else:
            raise WrongValueError
        if hex_count is None:
            return Secret(octets.strip(b"\r\n") if scheme != "plain" else octets, source)
        try:
            return Secret(_octets(octets.decode("ascii", "replace"), hex_count), source)
        except WrongValueError:
            raise WrongValueError(f"{what} behind {source}") from None

    return Kind(expected, parse, is_secret=True)


def _secret_path(scheme: str, name: str, folder: pathlib.Path) -> pathlib.Path:
    if scheme == "file":
        return folder / pathlib.Path(name).expanduser()
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    if not credentials:
        raise WrongValueError(
            f"to be started by systemd with LoadCredential={name}: (CREDENTIALS_DIRECTORY is not set)"
        )
    if "/" in name or name in ("", ".", ".."):
        raise WrongValueError("a credential name without slashes")
    alone = pathlib.Path(credentials) / name
    return alone if alone.exists() else pathlib.Path(credentials) / f"{CREDENTIAL_FOLDER_PREFIX}{name}"


def _read_secret_file(path: pathlib.Path) -> bytes:
    """Return the content of a secret's file; refuse one that others can read (EN 303 645, 5.4-1)."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if stat.S_ISREG(mode) and mode & 0o077 and "CREDENTIALS_DIRECTORY" not in os.environ:
                raise WrongValueError(f"{path} readable by its owner only: chmod 600 {path}")
            octets = file.read(SECRET_FILE_SIZE_MAX + 1)
    except OSError as error:
        raise WrongValueError(f"a readable file at {path}: {error.strerror}") from None
    if len(octets) > SECRET_FILE_SIZE_MAX:
        raise WrongValueError(f"at most {SECRET_FILE_SIZE_MAX} octets in {path}")
    return octets


def table(settings_type: type[T]) -> Kind[T]:
    """Return the kind of a nested table described by ``settings_type``."""

    def parse(value: object, folder: pathlib.Path) -> T:
        if not isinstance(value, dict):
            raise WrongValueError
        nested = _NestedReport(folder)
        settings = read_table(settings_type, value, nested)
        if settings is None:
            raise NestedMistakesError(nested.mistakes)
        return settings

    return Kind("a table", parse)


def free_table() -> Kind[dict[str, object]]:
    """Return the kind of a nested table that its reader looks into itself."""

    def parse(value: object, _: pathlib.Path) -> dict[str, object]:
        if not isinstance(value, dict):
            raise WrongValueError
        return value

    return Kind("a table", parse)


def table_of(kind: Kind[T], expected: str = "a table") -> Kind[dict[str, T]]:
    """Return the kind of a table with free keys and values of one kind."""

    def parse(value: object, folder: pathlib.Path) -> dict[str, T]:
        if not isinstance(value, dict):
            raise WrongValueError
        result: dict[str, T] = {}
        mistakes: list[tuple[Path, str, str]] = []
        for key, inner in value.items():
            try:
                result[key] = kind.parse(inner, folder)
            except NestedMistakesError as nested:
                mistakes += [((key, *path), found, what) for path, found, what in nested.mistakes]
            except WrongValueError as wrong:
                expects = f"expected {wrong.expected or kind.expected}"
                mistakes.append(((key,), f"{key} = {kind.found_text(inner)}", expects))
        if mistakes:
            raise NestedMistakesError(mistakes)
        return result

    return Kind(expected, parse)


def list_of(kind: Kind[T], count_max: int = 1000) -> Kind[tuple[T, ...]]:
    """Return the kind of an array of at most ``count_max`` values of one kind."""

    def parse(value: object, folder: pathlib.Path) -> tuple[T, ...]:
        if not isinstance(value, list) or len(value) > count_max:
            raise WrongValueError
        return tuple(kind.parse(inner, folder) for inner in value)

    return Kind(f"an array, each {kind.expected}", parse)
