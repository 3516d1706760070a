"""A report as one HTML page, from `templates/report.html`. Plots are inline SVG, so that the page needs no other file.

This module turns reports into what the template shows: tables of texts, and bars in pixels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from videollm.evaluate.markdown import (
    AS_IT_IS_LABEL,
    CURVES_TITLE,
    curve_table,
    facts,
    further_metrics,
    metrics_in_tables,
    number,
    score_table,
)

_LABELS_PX, _BARS_PX, _VALUES_PX, _ROW_PX = 190, 520, 80, 26  # widths of a plot's three columns, height of a row
_CHANCE_LABEL_PX = 28  # below the bars
_LINES_PX, _MARGIN_PX, _LINE_KINDS = 260, 12, 4  # height of a plot of lines, and of what is around it; their colours


@dataclass(frozen=True, slots=True)
class PlotBar:
    """One bar with its confidence interval, in pixels. value: its text, None for a bar that cannot be drawn because
    there is no value. interval: x of the lower and the upper bound. kind: the CSS class, "main" or "control"."""

    label: str
    middle: float
    kind: str
    value: str | None = None
    width: float = 0.0
    end: float = 0.0
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class BarPlot:
    """Horizontal bars below each other, in pixels. chance: x of the dashed line, None for no line."""

    metric: str
    bars: list[PlotBar]
    chance: float | None
    height: int
    bottom: int
    left: int = _LABELS_PX
    width: int = _LABELS_PX + _BARS_PX + _VALUES_PX


@dataclass(frozen=True, slots=True)
class PlotLine:
    """A line. points: of an SVG polyline, in pixels. kind: the CSS class."""

    name: str
    points: str
    kind: str


@dataclass(frozen=True, slots=True)
class LinePlot:
    """Lines over an axis from 0 to 1, in pixels."""

    across: str
    up: str
    lines: list[PlotLine]
    left: int = _LABELS_PX
    right: int = _LABELS_PX + _BARS_PX
    top: int = _MARGIN_PX
    bottom: int = _MARGIN_PX + _LINES_PX
    width: int = _LABELS_PX + _BARS_PX + _VALUES_PX
    height: int = 2 * _MARGIN_PX + _LINES_PX + _ROW_PX


def page(title: str, reports: Sequence[Mapping[str, Any]]) -> str:
    """The page of all the reports, one below the other."""
    # Labels, answers and file names come from data sets and models: autoescape keeps them from becoming markup.
    environment = Environment(
        loader=PackageLoader("videollm.evaluate", "templates"), undefined=StrictUndefined, autoescape=True
    )
    return environment.get_template("report.html").render(title=title, reports=[_shown(report) for report in reports])


def _shown(report: Mapping[str, Any]) -> dict[str, Any]:
    """The values that the template needs of one report."""
    headline = metrics_in_tables(report["scores"])[0]
    conditions = {AS_IT_IS_LABEL: report["scores"], **report["controls"]}
    bars = {name: found[headline] for name, found in conditions.items()}
    sections: list[dict[str, Any]] = []
    if further := further_metrics(report):
        sections.append({"title": "Further metrics", "table": _table(*further), "plot": None})
    for name, groups in report["slices"].items():
        labelled = {f"{value} ({found[headline]['items']})": found[headline] for value, found in groups.items()}
        sections.append({"title": f"By {name}", "plot": bar_plot(headline, labelled)})
    if curves := curve_table(report):
        found = report["precision_recall"]
        lines = {name: one["precision"] for name, one in found["overall"].items()}
        plot = line_plot("recall", "precision", found["recall"], lines)
        sections.append({"title": CURVES_TITLE, "table": _table(*curves), "plot": None, "lines": plot})
    for title, found in report.get("sections", {}).items():
        sections.append({"title": title, "table": found, "plot": None})
    return {
        "task": report["task"],
        "about": report["about"],
        "facts": _table([], facts(report)),
        "plot": bar_plot(headline, bars, report["chance"].get(headline), rest="control"),
        "scores": _table(*score_table(report)),
        "sections": sections,
    }


def bar_plot(
    metric: str, bars: Mapping[str, Mapping[str, Any]], chance: float | None = None, rest: str = "main"
) -> BarPlot:
    """A bar for each value, with its interval. chance: where the dashed line is. rest: the CSS class of all bars but
    the first."""
    known = [cell for cell in bars.values() if cell["value"] is not None]
    top = max([1e-9, chance or 0.0, *(max(c["value"], c["high"] or 0.0) for c in known)])
    # A share near 1 gets an axis that ends at 1, so that plots of different reports compare; others end 10% above.
    top = 1.0 if 0.5 < top <= 1 else top * 1.1

    def x(value: float) -> float:
        return round(_LABELS_PX + _BARS_PX * max(value, 0.0) / top, 1)

    drawn = []
    for row, (label, cell) in enumerate(bars.items()):
        middle, kind = (row + 0.5) * _ROW_PX, rest if row else "main"
        if cell["value"] is None:
            drawn.append(PlotBar(label, middle, kind))
            continue
        end = x(cell["value"])
        interval = None if cell["low"] is None else (x(cell["low"]), x(cell["high"]))
        width = round(end - _LABELS_PX, 1)
        drawn.append(
            PlotBar(label, middle, kind, number(cell["value"]), width, interval[1] if interval else end, interval)
        )
    bottom = _ROW_PX * len(bars)
    height = bottom + (4 if chance is None else _CHANCE_LABEL_PX)
    return BarPlot(metric, drawn, None if chance is None else x(chance), height, bottom)


def line_plot(across: str, up: str, x: Sequence[float], lines: Mapping[str, Sequence[float]]) -> LinePlot:
    """A line for each list of values from 0 to 1. across, up: what the axes are called. x: from 0 to 1."""

    def place(share: float, value: float) -> str:
        return f"{_LABELS_PX + _BARS_PX * share:.1f},{_MARGIN_PX + _LINES_PX * (1 - value):.1f}"

    drawn = [
        PlotLine(name, " ".join(map(place, x, values)), f"line{number % _LINE_KINDS}")
        for number, (name, values) in enumerate(lines.items())
    ]
    return LinePlot(across, up, drawn)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> dict[str, Any]:
    return {"head": head, "rows": rows}
