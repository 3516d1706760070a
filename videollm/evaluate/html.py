"""A report as one self-contained page: no scripts, no other files; plots are SVG."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from videollm.evaluate.markdown import AS_IT_IS_LABEL, facts, number, shown, spread

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2430; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { margin-bottom: 0 } h2 { margin-top: 2.2rem; border-bottom: 1px solid #d5dae1 }
table { border-collapse: collapse; font-size: 14px } td, th { padding: .25rem .7rem; text-align: left }
th { border-bottom: 2px solid #8792a2 } tr:nth-child(even) td { background: #f4f6f8 }
.facts td:first-child { color: #5a6675; white-space: nowrap; vertical-align: top } .facts { overflow-wrap: anywhere }
svg text { font: 13px system-ui, sans-serif; fill: #1c2430 }
"""
_LEFT, _WIDTH, _ROW = 190, 520, 26  # of a plot, in pixels
_MAIN, _CONTROL, _CHANCE = "#2563b8", "#9aa5b4", "#c2410c"


def page(title: str, reports: Sequence[Mapping[str, Any]]) -> str:
    body = "\n".join(part for report in reports for part in _parts(report))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body>\n{body}\n</body></html>\n"
    )


def _parts(report: Mapping[str, Any]) -> list[str]:
    metrics = shown(report["scores"])
    headline = metrics[0]
    conditions = {AS_IT_IS_LABEL: report["scores"], **report["controls"]}
    parts = [f"<h1>{escape(report['task'])}</h1>", f"<p>{escape(report['about'])}</p>"]
    parts.append(_table([], facts(report), "facts"))
    parts.append("<h2>Score and controls</h2>")
    bars = {name: found[headline] for name, found in conditions.items()}
    parts.append(bar_plot(headline, bars, report["chance"].get(headline), rest=_CONTROL))
    rows = [[name, *(spread(f[m]) if m in f else "–" for m in metrics)] for name, f in conditions.items()]
    if report["chance"]:
        rows.append(["chance", *(number(report["chance"].get(m)) for m in metrics)])
    parts.append(_table(["", *metrics], rows))
    rest = [[m, spread(cell)] for m, cell in report["scores"].items() if m not in metrics]
    if rest:
        parts += ["<h2>Further metrics</h2>", _table(["", AS_IT_IS_LABEL], rest)]
    for name, groups in report["slices"].items():
        parts.append(f"<h2>By {escape(name)}</h2>")
        labelled = {f"{value} ({found[headline]['items']})": found[headline] for value, found in groups.items()}
        parts.append(bar_plot(headline, labelled))
    for title, found in report.get("sections", {}).items():
        parts += [f"<h2>{escape(title)}</h2>", _table(found["head"], found["rows"])]
    return parts


def bar_plot(metric: str, bars: Mapping[str, Mapping[str, Any]], chance: float | None = None, rest: str = _MAIN) -> str:
    """A bar for each value, with its interval. chance: a dashed line. rest: the colour of all but the first bar."""
    known = [cell for cell in bars.values() if cell["value"] is not None]
    top = max([1e-9, chance or 0.0, *(max(c["value"], c["high"] or 0.0) for c in known)])
    top = 1.0 if 0.5 < top <= 1 else top * 1.1

    def x(value: float) -> float:
        return round(_LEFT + _WIDTH * max(value, 0.0) / top, 1)

    height = _ROW * len(bars) + (4 if chance is None else 28)
    drawn = []
    for row, (label, cell) in enumerate(bars.items()):
        middle = row * _ROW + _ROW / 2
        drawn.append(f'<text x="{_LEFT - 8}" y="{middle + 4}" text-anchor="end">{escape(label)}</text>')
        if cell["value"] is None:
            continue
        colour = rest if row else _MAIN
        width = round(x(cell["value"]) - _LEFT, 1)
        drawn.append(f'<rect x="{_LEFT}" y="{middle - 8}" width="{width}" height="16" fill="{colour}"/>')
        end = x(cell["value"])
        if cell["low"] is not None:
            end = x(cell["high"])
            drawn.append(
                f'<path d="M{x(cell["low"])} {middle}H{end}M{x(cell["low"])} {middle - 5}v10M{end} {middle - 5}v10" '
                'stroke="#1c2430" fill="none"/>'
            )
        drawn.append(f'<text x="{end + 8}" y="{middle + 4}">{number(cell["value"])}</text>')
    bottom = _ROW * len(bars)
    if chance is not None:
        drawn.append(
            f'<path d="M{x(chance)} 0V{bottom}" stroke="{_CHANCE}" stroke-dasharray="4 3" stroke-width="2"/>'
            f'<text x="{x(chance)}" y="{bottom + 18}" text-anchor="middle" style="fill:{_CHANCE}">chance</text>'
        )
    drawn.append(f'<path d="M{_LEFT} 0V{bottom}" stroke="#1c2430"/>')
    size = f'width="{_LEFT + _WIDTH + 80}" height="{height}"'
    return f'<svg {size} role="img" aria-label="{escape(metric)}">{"".join(drawn)}</svg>'


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], kind: str = "") -> str:
    top = f"<tr>{''.join(f'<th>{escape(cell)}</th>' for cell in head)}</tr>" if head else ""
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<table class="{kind}">{top}{body}</table>'
