"""The datasheet beside a file of samples, as Markdown and a PNG: what the file has, what was rejected, and why."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from data_gen.filters import STEPS
from data_gen.prompts import GenerationPrompt, prompts
from data_gen.store import Store, Totals
from videollm.datasets.annotation_file import BrokenRows
from videollm.datasets.schema import Sample, Stats, quantile, stats

BARS = 24  # shown in a chart, the largest ones
EXAMPLES = 3
COLOUR = "#3b6ea5"


def write(store: Store, broken: BrokenRows, command: str) -> Path:
    """Writes FILE.datasheet.md and FILE.datasheet.png beside the file of the store, and returns the path of the first.

    Args:
        store: The open store.
        broken: The broken rows of the source.
        command: The command line of this run, so that others can repeat it.
    """
    page = store.path.with_name(f"{store.path.name}.datasheet.md")
    examples: dict[str, Sample] = {}
    shas: set[str | None] = set()

    def noted(samples: Iterable[Sample]) -> Iterator[Sample]:
        for sample in samples:
            examples.setdefault(sample.task, sample)
            shas.add(sample.provenance.prompt_sha)
            yield sample

    counted = stats(noted(store.samples()))
    picture = page.with_suffix(".png")
    _draw(counted, store.totals).savefig(picture, dpi=110)
    used = [prompt for prompt in prompts().values() if prompt.sha in shas]
    text = _page(counted, store, broken, command, picture.name, used, list(examples.values()))
    page.write_text(text, encoding="utf-8")
    return page


def _page(
    counted: Stats,
    store: Store,
    broken: BrokenRows,
    command: str,
    picture: str,
    used: Sequence[GenerationPrompt],
    examples: Sequence[Sample],
) -> str:
    totals = store.totals
    made = counted.rows + totals.rejected.total()
    tokens = f"{totals.prompt_tokens:,} read, {totals.completion_tokens:,} written"
    lengths = [
        f"| {name} | {quantile(counts, 0.05)} | {quantile(counts, 0.5)} | {quantile(counts, 0.95)} |"
        for name, counts in (("question", counted.question_words), ("answer", counted.answer_words))
    ]
    parts = [
        f"# {store.path.name}",
        f"{counted.rows:,} samples about {counted.videos:,} videos, from {totals.items:,} items of work. "
        f"Of {made:,} drafts {counted.rows / made if made else 0:.1%} passed the filters.",
        f"```bash\n{command}\n```",
        f"![distributions]({picture})",
        "## What is in it",
        _table("task", counted.tasks),
        _table("language", counted.languages),
        _table("source", counted.sources),
        _table("generator", counted.generators),
        _table("turns", counted.turns),
        "| words | 5 % at most | median | 95 % at most |\n|---|---|---|---|\n" + "\n".join(lengths),
        "## What was kept out",
        _table("step", {step: totals.rejected[step] for step in STEPS}),
        f"Each with its reason in `{store.rejects_path.name}`.",
        f"Broken rows of the source left out: {broken.count:,}.",
    ]
    if broken.reasons:
        parts.append(_table("reason", dict(broken.reasons.most_common(BARS))))
    if totals.prompt_tokens or totals.unusable:
        parts += [
            "## Language model",
            f"Tokens: {tokens}. Replies that could not be used: {totals.unusable.total():,}.",
        ]
        parts += [_table("reason", dict(totals.unusable.most_common(BARS)))] if totals.unusable else []
    if used:
        rows = [f"| {prompt.name} | {prompt.sha} | {prompt.purpose} |" for prompt in used]
        parts.append("| prompt | version | purpose |\n|---|---|---|\n" + "\n".join(rows))
    parts.append("## Examples")
    for sample in examples[:EXAMPLES]:
        said = "\n".join(f"{m.role}: {m.content}" for m in sample.messages)
        parts.append(f"`{sample.id}`, {sample.task}, {sample.language}\n\n```text\n{said}\n```")
    return "\n\n".join(parts) + "\n"


def _table(name: str, counts: Mapping[Any, int]) -> str:
    total = sum(counts.values()) or 1
    rows = [f"| {str(key).replace('|', '/')} | {count:,} | {count / total:.1%} |" for key, count in counts.items()]
    return f"| {name} | count | share |\n|---|---|---|\n" + "\n".join(rows)


def _draw(counted: Stats, totals: Totals) -> Figure:
    figure = Figure(figsize=(14, 10), layout="constrained")
    tasks, questions, answers, languages, sources, rejected = figure.subplot_mosaic(
        [["tasks", "questions", "answers"], ["tasks", "languages", "sources"], ["tasks", "rejected", "rejected"]]
    ).values()
    _bars(tasks, "samples by task", counted.tasks)
    _bars(languages, "samples by language", counted.languages)
    _bars(sources, "samples by source", counted.sources)
    _bars(rejected, "rejected, by step", {step: totals.rejected[step] for step in STEPS})
    _histogram(questions, "words of a question", counted.question_words)
    _histogram(answers, "words of an answer", counted.answer_words)
    figure.suptitle(f"{counted.rows:,} samples, {counted.videos:,} videos, {totals.rejected.total():,} rejected")
    return figure


def _bars(axes: Axes, title: str, counts: Mapping[str, int]) -> None:
    names = list(counts)[:BARS]
    values = [counts[name] for name in names]
    bars = axes.barh(names, values, color=COLOUR)
    axes.bar_label(bars, labels=[f" {value:,}" for value in values], fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.15, y=0.02)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(title if len(counts) <= BARS else f"{title} (the {BARS} largest)", fontsize=10)


def _histogram(axes: Axes, title: str, counts: Mapping[int, int]) -> None:
    # The longest hundredth is left out: one long answer would press all others into one bar.
    most = max(quantile(counts, 0.99), 1)
    kept = {length: n for length, n in counts.items() if length <= most}
    edges = [edge - 0.5 for edge in range(0, most + 2 + most // 40, 1 + most // 40)]
    axes.hist(list(kept), weights=list(kept.values()), bins=edges, color=COLOUR)
    axes.axvline(quantile(counts, 0.5), color="black", linewidth=1, linestyle=":")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.set_title(f"{title} (dotted: median)", fontsize=10)
