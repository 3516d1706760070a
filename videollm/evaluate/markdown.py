"""A report as Markdown, and the texts and tables that its HTML page shares."""

from collections.abc import Mapping, Sequence
from typing import Any

AS_IT_IS_LABEL = "video as it is"
CURVES_TITLE = "Precision and recall"
RECALLS = (0.1, 0.25, 0.5, 0.75, 0.9)  # at which a table has the precision
MOST_CLASSES = 20  # rows of a table of classes


def number(value: float | None) -> str:
    """Three decimals, a dash for a missing value."""
    return "–" if value is None else f"{value:.3f}"


def spread(cell: Mapping[str, Any]) -> str:
    """A value with its confidence interval, such as `0.512 [0.430, 0.594]`."""
    bounds = "" if cell["low"] is None else f" [{number(cell['low'])}, {number(cell['high'])}]"
    return f"{number(cell['value'])}{bounds}"


def metrics_in_tables(scores: Mapping[str, Any]) -> list[str]:
    """The first six metrics, the headline metric first: a table with more columns does not fit on a page."""
    return list(scores)[:6]


def score_table(report: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Head and rows: a row for the video as it is, for each control, and for chance where it is known."""
    metrics = metrics_in_tables(report["scores"])
    conditions = {AS_IT_IS_LABEL: report["scores"], **report["controls"]}
    rows = [[name, *(spread(f[m]) if m in f else "–" for m in metrics)] for name, f in conditions.items()]
    if report["chance"]:
        rows.append(["chance", *(number(report["chance"].get(m)) for m in metrics)])
    return ["", *metrics], rows


def further_metrics(report: Mapping[str, Any]) -> tuple[list[str], list[list[str]]] | None:
    """Head and rows of the metrics that `score_table` has no room for, None if it has all of them."""
    metrics = metrics_in_tables(report["scores"])
    rows = [[metric, spread(cell)] for metric, cell in report["scores"].items() if metric not in metrics]
    return (["", AS_IT_IS_LABEL], rows) if rows else None


def curve_table(report: Mapping[str, Any]) -> tuple[list[str], list[list[str]]] | None:
    """Head and rows of precision and recall, None for a task whose predictions have no scores. Of many classes, the
    best and the worst are named."""
    if (found := report.get("precision_recall")) is None:
        return None
    classes = sorted(found["classes"].items(), key=lambda one: -one[1]["average_precision"])
    if len(classes) > MOST_CLASSES:
        classes = [*classes[: MOST_CLASSES // 2], *classes[-(MOST_CLASSES // 2) :]]
    at = [found["recall"].index(recall) for recall in RECALLS]
    rows = [
        [name, f"{one['positives']}", number(one["average_precision"]), *(number(one["precision"][i]) for i in at)]
        for name, one in [*found["overall"].items(), *classes]
    ]
    if found["mAP"] is not None:
        empty = [""] * len(at)
        rows.insert(len(found["overall"]), [f"mAP, {len(found['classes'])} labels", "", number(found["mAP"]), *empty])
    return ["", "right", "AP", *(f"P at R {recall}" for recall in RECALLS)], rows


def facts(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Model, weights, data, predictions and cost that the scores belong to, as pairs of name and value."""
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
    """The report as a Markdown document."""
    metrics = metrics_in_tables(report["scores"])
    lines = [f"# {report['task']}", "", report["about"], ""]
    lines += [f"- **{name}**: {value}" for name, value in facts(report)]
    lines += ["", "## Score and controls", "", *table(*score_table(report))]
    if further := further_metrics(report):
        lines += ["", "## Further metrics", "", *table(*further)]
    for name, groups in report["slices"].items():
        rows = [[v, str(f[metrics[0]]["items"]), *(spread(f[m]) for m in metrics[:3])] for v, f in groups.items()]
        lines += ["", f"## By {name}", "", *table(["", "items", *metrics[:3]], rows)]
    if curves := curve_table(report):
        lines += ["", f"## {CURVES_TITLE}", "", *table(*curves)]
    for title, found in report.get("sections", {}).items():
        lines += ["", f"## {title}", "", *table(found["head"], found["rows"])]
    return "\n".join(lines) + "\n"


def section(judge: Mapping[str, Any]) -> dict[str, Any]:
    """The table on the judge: its model, prompts, failures, drift and agreement with people."""
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
    """The lines of a Markdown table. A `|` within a cell is escaped, because it would end the cell."""
    return [
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        *(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows),
    ]
