"""A report as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

AS_IT_IS_LABEL = "video as it is"


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def spread(cell: Mapping[str, Any]) -> str:
    """A value with its interval."""
    bounds = "" if cell["low"] is None else f" [{number(cell['low'])}, {number(cell['high'])}]"
    return f"{number(cell['value'])}{bounds}"


def shown(scores: Mapping[str, Any], most: int = 6) -> list[str]:
    """The metrics that tables have room for, the headline first."""
    return list(scores)[:most]


def facts(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the scores belong to, as pairs of name and value."""
    model, data = report["model"], report["data"]
    weights = ", ".join(f"{name} {sha[:12]}" for name, sha in model.get("weights", {}).items())
    files = ", ".join(f"{name} {sha[:12]}" for name, sha in data["files"].items())
    rows = [
        ("Model", " ".join(str(model[k]) for k in ("name", "config_sha") if k in model)),
        ("Weights", weights or "none in files"),
        ("Data", f"{data['format']}: {', '.join(data['splits'])}; {data['asked']} of {data['items']} items"),
        ("Annotations", files),
        ("Predictions", f"{report['predictions']['file']} {report['predictions']['sha256'][:12]}"),
        ("Intervals", report["intervals"]),
        ("Failures", ", ".join(f"{len(f)} ({c})" for c, f in report["failures"].items()) or "none"),
    ]
    rows += [("Note", note) for note in data["notes"]]
    if cost := report.get("cost"):
        rows.append(("Cost", f"{cost['seconds']} s for {cost['predicted']} predictions "
                     f"({cost['resumed']} from before), {cost['peak_memory_mb']} MB at most"))  # fmt: skip
    return rows


def text(report: Mapping[str, Any]) -> str:
    metrics = shown(report["scores"])
    lines = [f"# {report['task']}", "", report["about"], ""]
    lines += [f"- **{name}**: {value}" for name, value in facts(report)]
    conditions = [(AS_IT_IS_LABEL, report["scores"]), *report["controls"].items()]
    rows = [[name, *(spread(found[m]) if m in found else "–" for m in metrics)] for name, found in conditions]
    if report["chance"]:
        rows.append(["chance", *(number(report["chance"].get(m)) for m in metrics)])
    lines += ["", "## Score and controls", "", *table(["", *metrics], rows)]
    rest = [[m, spread(cell)] for m, cell in report["scores"].items() if m not in metrics]
    if rest:
        lines += ["", "## Further metrics", "", *table(["", AS_IT_IS_LABEL], rest)]
    for name, groups in report["slices"].items():
        rows = [[v, str(f[metrics[0]]["items"]), *(spread(f[m]) for m in metrics[:3])] for v, f in groups.items()]
        lines += ["", f"## By {name}", "", *table(["", "items", *metrics[:3]], rows)]
    for title, found in report.get("sections", {}).items():
        lines += ["", f"## {title}", "", *table(found["head"], found["rows"])]
    return "\n".join(lines) + "\n"


def section(judge: Mapping[str, Any]) -> dict[str, Any]:
    """What a judge's part of the report shows: a table's head and rows."""
    drift = judge["drift"]
    changed = "first use, its verdicts are the baseline now"
    if drift["baseline"] == "compared":
        changed = f"{'DRIFTED: ' if drift['drifted'] else ''}{drift['flipped']:.1%} flipped, mean {drift['shift']:+.2f}"
    rows = [
        ["Model", judge["name"]],
        ["Prompts", ", ".join(f"{aspect} {sha}" for aspect, sha in judge["prompts"].items())],
        ["Verdicts", f"{judge['verdicts']}, of which {len(judge['failures'])} failed and count as none"],
        ["Frozen answers", changed],
        ["Agreement with people on them", _agreed(drift["people"])],
    ]
    if judge["labels"]:
        rows.append(["Agreement with the labels given", _agreed(judge["labels"])])
    return {"head": ["", ""], "rows": rows}


def _agreed(found: Mapping[str, Any]) -> str:
    numbers = [f"{name} {value:.2f}" for name, value in found.items() if name != "items"]
    return ", ".join([f"{found['items']} items", *numbers])


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        *(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows),
    ]
