"""The figures as one picture, SVG written by hand: no library, and a browser shows it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, NamedTuple

WIDTH, LEFT, RIGHT, BAR, GAP = 900, 230, 110, 16, 10
COLOURS = (
    *("#2563eb", "#94a3b8", "#f59e0b", "#10b981", "#ef4444", "#8b5cf6", "#14b8a6", "#64748b"),
    *("#db2777", "#84cc16", "#0ea5e9", "#a16207"),
)
"""As many as there are processes in a setup, and two more."""


class Bar(NamedTuple):
    """One bar: parts one after the other, or a single one."""

    label: str
    parts: Sequence[tuple[str, float]]
    """Name of the series, and the value."""


class Panel(NamedTuple):
    """Bars under a title, on one scale."""

    title: str
    bars: Sequence[Bar]
    places: int = 0


def panels(found: dict[str, Any]) -> list[Panel]:
    """Return what is shown of the dispatch workload."""
    throughput: list[Bar] = []
    for name, figures in found.items():
        throughput.append(Bar(name, [("Podium", figures["tasks_per_s"])]))
        if not math.isnan(figures["skeleton_tasks_per_s"]):
            throughput.append(Bar("", [("skeleton", figures["skeleton_tasks_per_s"])]))
    costs = [Bar(n, list(f["cpu_s_per_1000_by_process"].items())) for n, f in found.items()]
    latency = [
        Bar(f"{name}, {run['offered']}", [(share, run[f"assignment_{share}_ms"])])
        for name, figures in found.items()
        for run in figures["latency"]
        for share in ("p50", "p99")
    ]
    return [
        Panel("Tasks a second", throughput),
        Panel("CPU-seconds per 1,000 tasks, by process", costs, 3),
        Panel("Assignment in ms, from the instant a task was due", latency, 2),
    ]


def svg(shown: Iterable[Panel], caption: str) -> str:
    """Return panels one below the other as a document."""
    lines: list[str] = []
    top = 30.0
    for panel in shown:
        if not panel.bars:
            continue
        series = list(dict.fromkeys(name for bar in panel.bars for name, _ in bar.parts))
        colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(series)}
        lines.append(_text(10, top, panel.title, weight="bold"))
        top = _legend(lines, colours, top + 20)
        most = max((sum(v for _, v in bar.parts) for bar in panel.bars), default=0.0) or 1.0
        for bar in panel.bars:
            _bar(lines, bar, colours, top, (WIDTH - LEFT - RIGHT) / most, panel.places)
            top += BAR + GAP
        top += 25
    lines.append(_text(10, top, caption, size=11))
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{top + 20:.0f}" '
        'font-family="sans-serif" font-size="13">'
        '<rect width="100%" height="100%" fill="white"/>'
    )
    return "\n".join([head, *lines, "</svg>\n"])


def _legend(lines: list[str], colours: dict[str, str], top: float) -> float:
    x = 10.0
    for name, colour in colours.items():
        if x + 20 + 7 * len(name) > WIDTH:
            x, top = 10.0, top + 18
        lines.append(
            f'<rect x="{x:.0f}" y="{top - 10:.0f}" width="10" height="10" fill="{colour}"/>'
        )
        lines.append(_text(x + 14, top, name, size=11))
        x += 30 + 7 * len(name)
    return top + 12


def _bar(
    lines: list[str], bar: Bar, colours: dict[str, str], top: float, scale: float, places: int
) -> None:
    lines.append(_text(LEFT - 8, top + BAR - 4, bar.label, anchor="end", size=12))
    x = float(LEFT)
    for name, value in bar.parts:
        width = value * scale
        lines.append(
            f'<rect x="{x:.1f}" y="{top:.1f}" width="{width:.1f}" height="{BAR}" '
            f'fill="{colours[name]}"><title>{escape(name)}: {value:,.{places}f}</title></rect>'
        )
        x += width
    total = sum(value for _, value in bar.parts)
    lines.append(_text(x + 6, top + BAR - 4, f"{total:,.{places}f}", size=12))


def _text(
    x: float, y: float, text: str, *, size: int = 14, weight: str = "normal", anchor: str = "start"
) -> str:
    return (
        f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" font-weight="{weight}" '
        f'text-anchor="{anchor}">{escape(text)}</text>'
    )
