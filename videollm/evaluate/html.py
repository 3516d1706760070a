"""A report as one self-contained page: no scripts, no other files; plots are SVG. The markup is in `templates/`."""

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from videollm.evaluate.markdown import AS_IT_IS_LABEL, facts, number, shown, spread

# Names and texts of data sets go into the page, so everything is escaped.
_TEMPLATES = Environment(
    loader=PackageLoader("videollm.evaluate"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)
_LEFT, _WIDTH, _ROW = 190, 520, 26  # of a plot, in pixels
_MAIN, _CONTROL, _CHANCE = "#2563b8", "#9aa5b4", "#c2410c"


def page(title: str, reports: Sequence[Mapping[str, Any]]) -> str:
    """The page of one or more reports, as `videollm.evaluate.report` makes them."""
    return _TEMPLATES.get_template("report.html").render(title=title, reports=[_parts(report) for report in reports])


def _parts(report: Mapping[str, Any]) -> dict[str, Any]:
    """What the template shows of a report, under the template's names."""
    metrics = shown(report["scores"])
    headline = metrics[0]
    conditions = {AS_IT_IS_LABEL: report["scores"], **report["controls"]}
    bars = {name: found[headline] for name, found in conditions.items()}
    rows = [[name, *(spread(f[m]) if m in f else "–" for m in metrics)] for name, f in conditions.items()]
    if report["chance"]:
        rows.append(["chance", *(number(report["chance"].get(m)) for m in metrics)])
    slices = []
    for name, groups in report["slices"].items():
        labelled = {f"{value} ({found[headline]['items']})": found[headline] for value, found in groups.items()}
        slices.append((name, bar_plot(headline, labelled)))
    return {
        "task": report["task"],
        "about": report["about"],
        "facts": facts(report),
        "plot": bar_plot(headline, bars, report["chance"].get(headline), rest=_CONTROL),
        "head": ["", *metrics],
        "rows": rows,
        "rest_head": ["", AS_IT_IS_LABEL],
        "rest": [[m, spread(cell)] for m, cell in report["scores"].items() if m not in metrics],
        "slices": slices,
        "sections": list(report.get("sections", {}).items()),
    }


def bar_plot(
    metric: str, bars: Mapping[str, Mapping[str, Any]], chance: float | None = None, rest: str = _MAIN
) -> dict[str, Any]:
    """Where the template draws a bar for each value, with its interval, in pixels.

    chance: the value of a dashed line. rest: the colour of all bars but the first.
    """
    known = [cell for cell in bars.values() if cell["value"] is not None]
    top = max([1e-9, chance or 0.0, *(max(c["value"], c["high"] or 0.0) for c in known)])
    top = 1.0 if 0.5 < top <= 1 else top * 1.1  # shares that are not small are drawn on the scale from 0 to 1

    def x(value: float) -> float:
        return round(_LEFT + _WIDTH * max(value, 0.0) / top, 1)

    drawn = []
    for row, (label, cell) in enumerate(bars.items()):
        bar = {"label": label, "middle": row * _ROW + _ROW / 2, "value": None}
        if cell["value"] is not None:
            has_interval = cell["low"] is not None
            bar |= {
                "value": number(cell["value"]),
                "width": round(x(cell["value"]) - _LEFT, 1),
                "colour": rest if row else _MAIN,
                "low": x(cell["low"]) if has_interval else None,
                "end": x(cell["high"] if has_interval else cell["value"]),
            }
        drawn.append(bar)
    return {
        "metric": metric,
        "bars": drawn,
        "left": _LEFT,
        "width": _LEFT + _WIDTH + 80,
        "height": _ROW * len(bars) + (4 if chance is None else 28),
        "bottom": _ROW * len(bars),
        "chance": None if chance is None else x(chance),
        "chance_colour": _CHANCE,
    }
