"""What the audience is shown, and how it looks in a pipe: lines of plain text. `terminal` draws the same as tables."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TextIO

from drivers.simulated.city import Arrival
from drivers.simulated.street import Resident
from gateway.driver import Clock

PLAIN_VALUES_MAX = 4  # of one device in one line of a pipe; the final table has all

TITLE = "Litfass: a virtual street"
LEGEND = (
    ("via", "the driver that read the sensor, over the protocol it speaks in a real street"),
    ("value, unit", "as they stand in the city's SenML packs: base units, so Pa and J instead of hPa and kWh"),
    ("age", "since the sensor measured it; it grows while the broker is away"),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One property of one device, as the city knows it."""

    resident: Resident
    arrival: Arrival


@dataclass(frozen=True, slots=True)
class View:
    """One moment of the show.

    Attributes:
        now: What happens now, in a sentence.
        broker: Which broker plays the city's.
        is_down: The broker is stopped.
        wall_s: The time of this moment, seconds since 1970.
        elapsed_s: Since the start.
        total_s: How long the show lasts, None: until Ctrl-C.
        news: What happened so far: seconds since the start, and a sentence.
        rows: What the city knows, device by device.
        silent: Devices of which the city knows nothing yet.
        stored_count: Readings in the ring so far.
        received_count: Different readings at the city.
        pack_count: MQTT messages with readings at the city.
        repeat_count: Readings that came a second time, and were dropped.
        missing_count: Numbers the city has not got though it has later ones.
    """

    now: str
    broker: str
    is_down: bool
    wall_s: float
    elapsed_s: float
    total_s: float | None
    news: Sequence[tuple[float, str]]
    rows: Sequence[Row]
    silent: Sequence[Resident]
    stored_count: int
    received_count: int
    pack_count: int
    repeat_count: int
    missing_count: int

    @property
    def waiting_count(self) -> int:
        """Readings that are in the ring and not yet at the city."""
        return max(0, self.stored_count - self.received_count)


@dataclass(frozen=True, slots=True)
class Line:
    """The verdict on one driver."""

    driver: str
    devices: str
    sent_count: int
    received_count: int
    is_ok: bool
    remark: str


class Screen(Protocol):
    """Where the show takes place."""

    def open(self, introduction: Sequence[str], residents: Sequence[Resident]) -> None:
        """Show what is about to happen."""
        ...

    def tell(self, text: str) -> None:
        """Tell something that happened."""
        ...

    def arrived(self, rows: Sequence[Row]) -> None:
        """Show readings that just came."""
        ...

    def refresh(self, view: View) -> None:
        """Show this moment."""
        ...

    def close(self, view: View | None, lines: Sequence[Line], conclusion: Sequence[str]) -> None:
        """Show how it ended. Called once, in any case."""
        ...


def value_text(value: float | str | bool) -> str:
    """Return a value as people read it: 101,320 and 0.4631, not 101320.00000000001."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if abs(value) >= 100_000:
        return f"{value:,.0f}"
    if 0 < abs(value) < 0.01:
        return f"{value:.3g}"
    return f"{value:.4f}".rstrip("0").rstrip(".")


def age_text(seconds: float) -> str:
    """Return an age: ``0.4 s``, ``12 s``, ``3 min``."""
    seconds = max(0.0, seconds)
    if seconds < 10:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def clock_text(elapsed_s: float, total_s: float | None) -> str:
    """Return ``00:17 of 01:00``, or ``00:17, Ctrl-C ends it``."""
    minutes, seconds = divmod(int(elapsed_s), 60)
    if total_s is None:
        return f"{minutes:02d}:{seconds:02d}, Ctrl-C ends it"
    total_minutes, total_seconds = divmod(round(total_s), 60)
    return f"{minutes:02d}:{seconds:02d} of {total_minutes:02d}:{total_seconds:02d}"


@dataclass
class PlainScreen:
    """Lines of text, each complete when it is written."""

    out: TextIO
    clock: Clock
    _started_s: float = 0.0

    def open(self, introduction: Sequence[str], residents: Sequence[Resident]) -> None:
        """Write who is there."""
        self._started_s = self.clock.elapsed_s()
        self._write(TITLE, *introduction, "")
        for resident in residents:
            self._write(f"  {resident.device_id:18} {resident.driver:15} {resident.story}")
        self._write("")

    def tell(self, text: str) -> None:
        """Write one event."""
        self._write(f"{self._moment()} -- {text}")

    def arrived(self, rows: Sequence[Row]) -> None:
        """Write a line for each device of a pack."""
        by_device: dict[str, list[Row]] = {}
        for row in rows:
            by_device.setdefault(row.resident.device_id, []).append(row)
        for device_id, values in by_device.items():
            shown = [f"{row.arrival.observed_property} {_with_unit(row.arrival)}" for row in values[:PLAIN_VALUES_MAX]]
            further = len(values) - len(shown)
            more = f" (and {further} more)" if further else ""
            self._write(f"{self._moment()} {device_id} via {values[0].resident.driver}: {', '.join(shown)}{more}")

    def refresh(self, view: View) -> None:
        """Write nothing: lines come as things happen."""

    def close(self, view: View | None, lines: Sequence[Line], conclusion: Sequence[str]) -> None:
        """Write the table of what the city knows, and the verdict."""
        if view is not None and view.rows:
            self._write("", "What the city knows at the end:")
            self._table(
                ("device", "via", "property", "value", "unit", "age"),
                [
                    (
                        row.resident.device_id,
                        row.resident.driver,
                        row.arrival.observed_property,
                        value_text(row.arrival.value),
                        row.arrival.unit,
                        age_text(view.wall_s - row.arrival.phenomenon_time_s),
                    )
                    for row in view.rows
                ],
                right=(3, 5),
            )
        if lines:
            self._write("", "Readings, from the sensors to the city:")
            self._table(
                ("driver", "sent", "at the city", "verdict", "devices"),
                [
                    (line.driver, str(line.sent_count), str(line.received_count), line.remark, line.devices)
                    for line in lines
                ],
                right=(1, 2),
            )
        if conclusion:
            self._write("", *conclusion)

    def _table(self, head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int]) -> None:
        widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
        for row in (head, *rows):
            cells = [
                cell.rjust(width) if column in right else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            self._write("  " + "  ".join(cells).rstrip())

    def _moment(self) -> str:
        return f"{self.clock.elapsed_s() - self._started_s:5.1f} s"

    def _write(self, *lines: str) -> None:
        for line in lines:
            self.out.write(line + "\n")
        self.out.flush()


def _with_unit(arrival: Arrival) -> str:
    return f"{value_text(arrival.value)} {arrival.unit}".rstrip()
