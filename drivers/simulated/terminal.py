"""The show on a terminal: a table that lives, with what happens above and below it. Also as a picture for the docs."""

import io
import pathlib
import re
import sys
from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from drivers.simulated.screen import LEGEND, TITLE, Line, Row, View, age_text, clock_text, value_text
from drivers.simulated.street import Resident

FRESH_S = 1.0  # a value this young is shown bright
STALE_S = 10.0  # a value this old is shown faint
NEWS_SHOWN, NEWS_SHOWN_LOW = 5, 2  # lines of what happened; on a low terminal
LOW_HEIGHT = 34  # lines; below, the legend gives way to values
SVG_WIDTH = 108  # columns
SVG_VALUES_MAX = 4  # of one device: a picture for a README, not a log
_FRAME_LINES = 12  # of the live view around values, legend and news
_BAR_WIDTH = 20
_BAR_FULL_COUNT = 400  # waiting readings that fill the bar
_WEB_FONT = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


class TerminalScreen:
    """A table that lives, with what happens above and below it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None

    def open(self, introduction: Sequence[str], residents: Sequence[Resident]) -> None:
        """Say what is about to happen, then start the table."""
        self._console.print(f"[bold]{TITLE}[/bold]", *introduction, "", sep="\n", highlight=False)
        for resident in residents:
            name = f"[bold]{resident.device_id:18}[/bold] [cyan]{resident.driver:15}[/cyan]"
            self._console.print(f"  {name} {resident.story}", highlight=False)
        self._console.print()
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._live.start()

    def tell(self, text: str) -> None:
        """Show nothing by itself: the next view has it."""

    def arrived(self, rows: Sequence[Row]) -> None:
        """Show nothing by itself: the next view has it."""

    def refresh(self, view: View) -> None:
        """Draw this moment."""
        if self._live is not None:
            self._live.update(_moment(view, self._console.height), refresh=True)

    def close(self, view: View | None, lines: Sequence[Line], conclusion: Sequence[str]) -> None:
        """Leave the last moment on the screen, then the verdict."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        if view is not None:
            self._console.print(_moment(view, None))
        if lines:
            self._console.print(_verdict_table(lines))
        if conclusion:
            self._console.print(*conclusion, sep="\n", highlight=False)


def draw_svg(path: pathlib.Path, view: View, lines: Sequence[Line]) -> None:
    """Draw a moment and the verdict as a picture that asks no font of the web."""
    console = Console(record=True, width=SVG_WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(_moment(view, None, values_max=SVG_VALUES_MAX))
    if lines:
        console.print(_verdict_table(lines))
    picture = console.export_svg(title="litfass demo", unique_id="litfass-demo")
    path.write_text(_WEB_FONT.sub("", picture), encoding="utf-8")


def _moment(view: View, height: int | None, values_max: int | None = None) -> RenderableType:
    """Return the whole view.

    Args:
        view: What is to be shown.
        height: Lines there are, None for as many as it takes.
        values_max: Most values of one device, None for as many as fit.
    """
    is_low = height is not None and height < LOW_HEIGHT
    news_shown = NEWS_SHOWN_LOW if is_low else NEWS_SHOWN
    head = Panel(
        Group(Text(view.now, style="bold"), Text(), _flow(view)),
        title=f"[bold]{TITLE}[/bold]",
        title_align="left",
        subtitle=clock_text(view.elapsed_s, view.total_s),
        subtitle_align="right",
        border_style="red" if view.is_down else "green",
    )
    news = Text()
    for moment_s, text in view.news[-news_shown:]:
        news.append(f"{moment_s:6.1f} s  ", style="dim")
        news.append(text + "\n")
    news.rstrip()
    legend = Table.grid(padding=(0, 1))
    for word, meaning in LEGEND:
        legend.add_row(Text(word, style="cyan"), Text(meaning, style="dim"))
    rows_by_device: dict[str, list[Row]] = {}
    for row in view.rows:
        rows_by_device.setdefault(row.resident.device_id, []).append(row)
    if values_max is None:
        lines_left = sys.maxsize
        if height is not None:
            lines_left = height - _FRAME_LINES - news_shown - len(view.silent) - (0 if is_low else len(LEGEND))
        values_max = _fair_share([len(rows) for rows in rows_by_device.values()], lines_left)
    return Group(
        head,
        _value_table(view, rows_by_device, values_max),
        *(() if is_low else (legend,)),
        Panel(news, title="what happened", title_align="left", border_style="dim"),
    )


def _flow(view: View) -> RenderableType:
    """Return the way of the readings with the number at each stage, and the backlog as a bar."""
    flow = Table.grid(padding=(0, 1))
    for _ in range(5):
        flow.add_column(justify="center")
    arrow = Text("──▶", style="dim")
    broken = Text("─✕▶", style="bold red") if view.is_down else arrow
    flow.add_row(
        Text("emulated sensors, real drivers", style="cyan"),
        arrow,
        Text("ring on disk", style="cyan"),
        broken,
        Text(f"the city, by MQTT 5 ({view.broker})", style="cyan"),
    )
    filled = min(_BAR_WIDTH, -(-view.waiting_count * _BAR_WIDTH // _BAR_FULL_COUNT))
    waiting = Text(f"{view.waiting_count} waiting ", style="bold yellow" if view.waiting_count > 40 else "")
    waiting.append("█" * filled, style="yellow")
    flow.add_row(
        Text(f"{view.stored_count} readings"),
        "",
        waiting,
        "",
        Text(
            f"{view.received_count} readings in {view.pack_count} packs\n"
            f"{view.repeat_count} repeats dropped, {view.missing_count} missing"
        ),
    )
    return flow


def _value_table(view: View, rows_by_device: Mapping[str, Sequence[Row]], values_max: int) -> Table:
    """Return what the city knows, of each device at most ``values_max`` values."""
    table = Table(box=box.SIMPLE_HEAD, expand=True, pad_edge=False)
    table.add_column("device", style="bold", no_wrap=True)
    table.add_column("via", style="cyan", no_wrap=True)
    table.add_column("property", no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("unit", no_wrap=True)
    table.add_column("age", justify="right", no_wrap=True)
    for rows in rows_by_device.values():
        hidden = max(0, len(rows) - values_max)
        for index, row in enumerate(rows[:values_max]):
            age_s = view.wall_s - row.arrival.phenomenon_time_s
            style = "bold green" if age_s < FRESH_S else "dim" if age_s > STALE_S else ""
            first = index == 0
            more = Text(f"  and {hidden} more", style="dim") if hidden and index == values_max - 1 else Text()
            table.add_row(
                row.resident.device_id if first else "",
                row.resident.driver if first else "",
                Text(row.arrival.observed_property).append_text(more),
                Text(value_text(row.arrival.value), style=style),
                row.arrival.unit,
                Text(age_text(age_s), style=style),
            )
    for resident in view.silent:
        table.add_row(resident.device_id, resident.driver, Text("nothing yet", style="dim"), "", "", "")
    return table


def _fair_share(counts: Sequence[int], lines_max: int) -> int:
    """Return how many values each device may show so that all devices fit into ``lines_max`` lines; at least one."""
    share = max(counts, default=1)
    while share > 1 and sum(min(count, share) for count in counts) > lines_max:
        share -= 1
    return share


def _verdict_table(lines: Sequence[Line]) -> Table:

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("driver", style="cyan", no_wrap=True)
    table.add_column("readings sent", justify="right")
    table.add_column("at the city", justify="right")
    table.add_column("verdict")
    table.add_column("devices")
    for line in lines:
        verdict = Text(line.remark, style="green" if line.is_ok else "bold red")
        table.add_row(line.driver, str(line.sent_count), str(line.received_count), verdict, line.devices)
    return table
