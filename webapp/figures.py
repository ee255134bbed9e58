"""Figures of trials: rows, the table of the concurrency guide, the best number at once, and a plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
from typing import Any

from tasks.costs import MIB
from tasks.trial import Trial

TEN_MINUTES = 600.0
NEARLY = 0.05
"""Gains smaller than this share are noise, or not worth the memory."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. ten_minutes: seconds until a recording of ten minutes is done, when so many run at once;
    files_an_hour: of ten minutes each; speed: seconds of sound a second; cpu: CPUs that each job keeps busy; peak:
    bytes of the engine, measured; job: largest share of one job in it, bytes; predicted: bytes."""

    at_once: int
    ten_minutes: float
    files_an_hour: float
    speed: float
    cpu: float
    peak: int
    job: int
    predicted: int

    @property
    def error(self) -> float:
        """Of the prediction: 0.1 when it was a tenth too high."""
        return self.predicted / self.peak - 1


def row_of(trial: Trial, predicted: int) -> Row:
    speed = trial.at_once * trial.seconds / trial.wall
    return Row(
        trial.at_once,
        TEN_MINUTES * trial.wall / trial.seconds,
        3600 * speed / TEN_MINUTES,
        speed,
        trial.cpu / trial.wall / trial.at_once,
        trial.peak,
        max(usage.job for usage in trial.usages),
        predicted,
    )


def best(rows: Sequence[Row]) -> Row:
    """Most files an hour; of those that are as good but for NEARLY, the one with the fewest at once."""
    most = max(row.files_an_hour for row in rows)
    return min((row for row in rows if row.files_an_hour >= most * (1 - NEARLY)), key=lambda row: row.at_once)


HEADS = ("at once", "10 min take", "files/h", "speed", "CPU a job", "peak memory", "one job", "predicted", "error")


def table(rows: Sequence[Row]) -> str:
    """The guide's table, with what was predicted beside it."""
    return columns([HEADS, *(_cells(row) for row in rows)])


def _cells(row: Row) -> tuple[str, ...]:
    return (
        str(row.at_once),
        f"{row.ten_minutes:.0f} s",
        f"{row.files_an_hour:.1f}",
        f"{row.speed:.2f}×",
        f"{row.cpu:.0%}",
        mib(row.peak),
        mib(row.job),
        mib(row.predicted),
        f"{row.error:+.0%}",
    )


def columns(lines: Sequence[Sequence[str]]) -> str:
    """Lines of cells, right-aligned."""
    widths = [max(len(line[number]) for line in lines) for number in range(len(lines[0]))]
    return "".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) + "\n" for line in lines
    )


def mib(size: float) -> str:
    return f"{size / MIB:,.0f} MiB"


def as_data(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """For JSON: numbers as they are."""
    return [asdict(row) for row in rows]


def plot(rows: Sequence[Row], title: str) -> str:
    """An SVG of its own: files an hour, and memory (measured and predicted), over the number at once."""
    marks = [row.at_once for row in rows]
    left = _panel(0, "files an hour", marks, {"measured": [row.files_an_hour for row in rows]})
    memory = {"measured": [row.peak / MIB for row in rows], "predicted": [row.predicted / MIB for row in rows]}
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 330" font-family="sans-serif" font-size="12">\n'
        '<rect width="720" height="330" fill="white"/>\n'
        f'<text x="20" y="24" font-size="15">{escape(title)}</text>\n'
        f"{left}{_panel(360, 'memory of the engine, MiB', marks, memory)}</svg>\n"
    )


_WIDTH, _HEIGHT, _TOP, _LEFT = 270, 210, 70, 60
_COLOURS = ("#0b5cad", "#b45309")


def _panel(x: int, title: str, marks: Sequence[int], lines: dict[str, list[float]]) -> str:
    most = max(max(values) for values in lines.values()) * 1.1 or 1.0
    bottom = _TOP + _HEIGHT

    def across(number: int) -> float:
        share = 0.5 if len(marks) == 1 else number / (len(marks) - 1)
        return x + _LEFT + _WIDTH * share

    parts = [f'<text x="{x + _LEFT}" y="{_TOP - 18}">{escape(title)}</text>']
    for step in range(5):
        y = bottom - _HEIGHT * step / 4
        parts.append(f'<path d="M{x + _LEFT} {y:.1f}h{_WIDTH}" stroke="#ddd"/>')
        parts.append(f'<text x="{x + _LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{most * step / 4:,.4g}</text>')
    for number, mark in enumerate(marks):
        parts.append(f'<text x="{across(number):.1f}" y="{bottom + 18}" text-anchor="middle">{mark}</text>')
    parts.append(f'<text x="{x + _LEFT + _WIDTH / 2}" y="{bottom + 36}" text-anchor="middle">at once</text>')
    for colour, (name, values) in zip(_COLOURS, lines.items(), strict=False):
        points = [(across(number), bottom - _HEIGHT * value / most) for number, value in enumerate(values)]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
        dashes = ' stroke-dasharray="6 4"' if name == "predicted" else ""
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>')
        parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{colour}"/>' for a, b in points]
        if len(lines) > 1:
            end = points[-1]
            parts.append(
                f'<text x="{end[0] - 4:.1f}" y="{end[1] + (16 if name == "measured" else -8):.1f}" '
                f'text-anchor="end" fill="{colour}">{name}</text>'
            )
    return "\n".join(parts) + "\n"
