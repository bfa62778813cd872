"""A board drawn for a terminal: what is alerted, the fleet, and a small strip; as much as fits.

Knows rich; whatever comes from elsewhere is text to it and never markup.
"""

from __future__ import annotations

import time
from collections.abc import Container, Iterable, Sequence

import numpy as np
import numpy.typing as npt
from rich.console import Group, RenderableType
from rich.layout import Layout
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from monitor import wire
from monitor.tools.board import Board, Trace, is_answered
from monitor.tools.watch import plain
from monitor.watching import WatchNews

MARKS = {"high": "!!!", "medium": "!!", "low": "!", "technical": "⚙"}
BORDERS = {"high": "red", "medium": "yellow", "low": "cyan", "technical": "blue"}
STYLES = {"high": "bold white on red", "medium": "bold black on yellow", "low": "bold cyan", "technical": "blue"}
CONNECTIONS = {"streaming": "live", "lead-off": "electrode off", "silent": "no signal", "offline": "offline"}
AWAY = {"offline": "offline", "overdue": "does not answer", "doubtful": "has not answered yet"}
DISCLAIMER = "Research use only, not a medical device. No alert does not mean no disease."
STRIP_ROWS, RECENT_ROWS = 6, 4
SMALL = 24
"""A terminal of fewer rows has neither strip nor past alerts."""
# Dots of a braille character by row and column (Unicode 16, chapter 21.1): U+2800 and these bits.
_DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])


def draw(board: Board, focus: str | None, size: tuple[int, int], now_s: float, time_s: float) -> RenderableType:
    """Return a board, to be printed on a terminal.

    Parameters
    ----------
    board
        What is known.
    focus
        Device whose signal is shown.
    size
        Columns and rows of the terminal.
    now_s
        On the clock of `Board.take`.
    time_s
        Seconds since 1970.
    """
    width, height = size
    is_small = height < SMALL
    states, active = board.sorted(), board.active()
    alert_rows = max(1, min(len(active), (height - 6) // 3))
    whole = Layout()
    parts = [
        Layout(_header(board, time_s), size=1),
        Layout(_alerts(board, active, alert_rows, time_s), size=alert_rows + 2),
    ]
    if not is_small:
        parts.append(Layout(_strip(board, focus, width, now_s), size=STRIP_ROWS + 2))
    room = height - sum(part.size or 0 for part in parts) - 1 - (0 if is_small else RECENT_ROWS + 2)
    unwatched = _unwatched(board, time_s)
    parts.append(Layout(_fleet(states, focus, max(1, room - 3), unwatched), size=room))
    if not is_small:
        parts.append(Layout(_recent(board), size=RECENT_ROWS + 2))
    parts.append(Layout(Text(DISCLAIMER, style="dim", no_wrap=True, overflow="ellipsis"), size=1))
    whole.split_column(*parts)
    return whole


def _header(board: Board, time_s: float) -> Text:
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(time.strftime("%H:%M:%S", time.localtime(time_s)), style="bold")
    text.append("  Ctrl-C ends", style="dim")
    if not board.is_connected:
        text.append("  NO CONNECTION to the broker: what is shown is old", style=STYLES["high"])
    elif not (news := board.watch(time_s)).watched:
        text.append(f"  {_why_unwatched(news)}, no alert means nothing", style=STYLES["high"])
    away = board.watch(time_s).away
    for name, status in sorted(board.monitors.items()):
        how = AWAY[away[name].how] if name in away else status.state
        style = {"online": "green", "overloaded": STYLES["medium"]}.get(how, STYLES["high"])
        many = "" if status.fleet is None else f", {status.processes} processes"
        text.append(f"  {plain(name)} {how}{many}", style=style)
    return text


def _why_unwatched(news: WatchNews) -> str:
    hows = {one.how for one in news.away.values()}
    if "doubtful" in hows:
        return "NOT KNOWN YET whether anybody is watched"
    since = "" if news.watched_s is None else time.strftime(" since %H:%M:%S", time.localtime(news.watched_s))
    who = "THE MONITOR DOES NOT ANSWER" if "overdue" in hows else "NO MONITOR IS ONLINE"
    return f"{who}{since}: nobody is watched"


def _alerts(
    board: Board, active: Sequence[tuple[wire.DeviceState, wire.ActiveAlert]], rows: int, time_s: float
) -> Panel:
    table = Table.grid(padding=(0, 2), expand=True)
    for ratio in (None, None, None, None, 1):
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=ratio)
    for state, alert in active[:rows]:
        style = "dim" if is_answered(state, alert) else ""
        table.add_row(
            Text(f"{MARKS[alert.severity]:<3}", style=STYLES[alert.severity]),
            Text(_name(state), style=f"bold {style}".strip()),
            Text(kind_name(alert.kind), style=style),
            Text(f"for {span(time_s - board.began_s(state.device, alert))}", style=style),
            Text(_answer(state, alert) or plain(alert.text), style=style),
        )
    if not active:
        table.add_row(Text("nothing is alerted", style="dim"), "", "", "", "")
    more = len(active) - rows
    waiting = [alert.severity for state, alert in active if not is_answered(state, alert)]
    title = f"Alerts: {len(active)} active, {len(waiting)} unanswered{f', {more} not shown' if more > 0 else ''}"
    return Panel(
        table,
        title=Text(title),
        title_align="left",
        border_style=BORDERS[waiting[0]] if waiting else "dim",
        padding=(0, 1),
    )


def _answer(state: wire.DeviceState, alert: wire.ActiveAlert) -> str:
    if alert.acknowledged_by is not None:
        return plain(f"seen by {alert.acknowledged_by}")
    for one in state.silenced:
        if one.kind in (None, alert.kind):
            return plain(f"silenced by {one.by}: {one.reason}")
    return ""


def _unwatched(board: Board, time_s: float) -> set[str]:
    """Return the devices of which what is shown is old."""
    news = board.watch(time_s)
    return {
        state.device
        for state in board.states.values()
        if not news.watched or state.monitor in news.away or (state.monitor or "") not in {"", *board.monitors}
    }


def _fleet(states: Sequence[wire.DeviceState], focus: str | None, rows: int, unwatched: Container[str]) -> Panel:
    table = Table(box=None, expand=True, padding=(0, 1), show_edge=False, header_style="dim")
    for name, justify in ("", "left"), ("device", "left"), ("/min", "right"), ("signal", "left"), ("judged", "right"):
        table.add_column(name, justify=justify, no_wrap=True, overflow="ellipsis")  # type: ignore[arg-type]
    table.add_column("rhythm", no_wrap=True, overflow="ellipsis", max_width=27)
    table.add_column("alerted", no_wrap=True, overflow="ellipsis", ratio=1)
    for state in states[:rows]:
        table.add_row(*_cells(state, state.device == focus, state.device in unwatched))
    live = sum(state.connection == "streaming" and state.device not in unwatched for state in states)
    hidden = f", {len(states) - rows} not shown" if len(states) > rows else ""
    title = f"Fleet: {len(states)} device{'s' * (len(states) != 1)}, {live} live{hidden}"
    return Panel(table, title=Text(title), title_align="left", border_style="dim", padding=(0, 1))


def _cells(state: wire.DeviceState, is_in_focus: bool, is_unwatched: bool) -> Iterable[Text]:
    worst = state.alerts[0] if state.alerts else None  # the monitor tells the gravest first
    style = STYLES[worst.severity] if worst is not None and not is_answered(state, worst) else ""
    rate = "--" if state.heart_rate_bpm is None else f"{state.heart_rate_bpm:.0f}"
    more = f" and {len(state.alerts) - 1} more" if len(state.alerts) > 1 else ""
    yield Text("▶" if is_in_focus else " ")
    yield Text(_name(state), style="bold")
    is_live = state.connection == "streaming" and not is_unwatched
    yield Text(rate, style="bold green" if is_live else "dim strike" if is_unwatched else "dim")
    yield Text("not watched" if is_unwatched else CONNECTIONS[state.connection], style="" if is_live else "yellow")
    yield Text("" if state.judged is None else f"{100 * state.judged:.0f} %")
    yield Text(plain(state.rhythm or ""))
    yield Text("" if worst is None else f"{MARKS[worst.severity]} {kind_name(worst.kind)}{more}", style=style)


def _strip(board: Board, focus: str | None, width: int, now_s: float) -> Panel:
    state = None if focus is None else board.states.get(focus)
    trace = None if focus is None else board.trace(focus, now_s)
    name = "no device" if state is None else _name(state)
    if trace is None:
        why = "no signal to show: it is not sent, or this user may not read it"
        body: RenderableType = Text(why, style="dim")
        title = f"Strip: {name}"
    else:
        body = Group(
            *(Text(line, style="green", no_wrap=True) for line in braille(trace.samples, width - 4, STRIP_ROWS))
        )
        title = f"Strip: {name}, {_describe(trace)}"
    return Panel(body, title=Text(title), title_align="left", border_style="dim", padding=(0, 1))


def _describe(trace: Trace) -> str:
    return f"{'live, ' if trace.is_live else 'around its last alert, '}{trace.seconds:.0f} s, not to scale"


def _recent(board: Board) -> Panel:
    lines = [Text(line, style=STYLES[severity] if severity == "high" else "", no_wrap=True, overflow="ellipsis")
             for severity, line in list(board.recent)[-RECENT_ROWS:]]  # fmt: skip
    return Panel(Group(*lines), title=Text("Latest"), title_align="left", border_style="dim", padding=(0, 1))


def braille(samples: npt.NDArray[np.float64], width: int, height: int) -> list[str]:
    """Return a signal as lines of braille characters.

    Parameters
    ----------
    samples
        (n,) evenly spaced; NaN where there is none. Scaled to what it spans.
    width, height
        In characters; each is two dots wide and four high.

    Returns
    -------
    list of str
        `height` lines of `width` characters.
    """
    dots = np.zeros((4 * height, 2 * width), dtype=bool)
    edges = np.linspace(0, samples.size, 2 * width + 1).astype(int)
    known = samples[np.isfinite(samples)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
    scale = (4 * height - 1) / (high - low) if high > low else 0.0
    before: int | None = None
    for column in range(2 * width):
        part = samples[edges[column] : max(edges[column] + 1, edges[column + 1])]
        part = part[np.isfinite(part)]
        if not part.size:
            before = None
            continue
        rows = np.rint((high - part) * scale).astype(int) if scale else np.array([2 * height])
        top, bottom = int(rows.min()), int(rows.max())
        dots[top : bottom + 1, column] = True
        if before is not None:  # a line, not dots apart
            dots[min(before, top) : max(before, top) + 1, column] = True
        before = int(rows[-1])
    cells = (dots.reshape(height, 4, width, 2).transpose(0, 2, 1, 3) * _DOTS).sum((2, 3))
    return ["".join(chr(0x2800 + int(cell)) for cell in row) for row in cells]


def _name(state: wire.DeviceState) -> str:
    return plain(state.name or state.device)


def kind_name(kind: str) -> str:
    """Return a kind of alert in words."""
    words = plain(kind).replace("-", " ")
    return words[:1].upper() + words[1:]


def span(seconds: float) -> str:
    """Return a length of time, short."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min" if whole < 86400 else f"{whole // 86400} d"
