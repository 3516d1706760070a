"""A judge's scores of a predictions file: the step of `videollm eval` that `--judge` adds."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from videollm.chat.caption import QUESTION
from videollm.checkpoint import load
from videollm.datasets.item import Item, Prediction
from videollm.device_arguments import loading_options
from videollm.evaluate.drift import agreement, check, read_labels
from videollm.evaluate.judge import Case, EndpointJudge, Judge, LocalJudge, Verdict, prompt, verdicts
from videollm.evaluate.markdown import section
from videollm.evaluate.metrics.aggregate import Rows
from videollm.evaluate.run import Row

VERDICTS_FILE = "judged.jsonl"


def judge_predictions(
    options: argparse.Namespace, items: Sequence[Item], predictions: Mapping[str, Row]
) -> tuple[dict[str, Rows], dict[str, Any]]:
    """Judges the predictions with the model that `options` name.

    Args:
        options: The parsed arguments of `videollm eval`, with `options.judge` set.
        items: The items, N of them, in the order of the report.
        predictions: The predictions by the id of their item. Items without one are not judged.

    Returns:
        The scores by metric, each (N,) with NaN where there is no verdict, and what the report says about the judge.

    Raises:
        DataError: If the labels or the baseline cannot be used.
        VideoLLMError: If the judge cannot be used at all.
    """
    judge = _load_judge(options)
    labels = read_labels(options.labels) if options.labels else {}
    # Drift is checked first: verdicts of a judge that has changed must not be mistaken for those of its baseline.
    drift = check(judge, options.judge_baseline)
    cases = [
        _case(item, row.prediction)
        for item in items
        if (row := predictions.get(item.id)) is not None and row.prediction
    ]
    found = verdicts(judge, cases, options.aspects, options.out / VERDICTS_FILE)
    failed = [verdict for verdict in found if verdict.failure is not None]
    about = {
        "name": judge.name,
        "prompts": {aspect: prompt(aspect).sha for aspect in options.aspects},
        "verdicts": len(found),
        "failures": {f"{verdict.id} {verdict.aspect}": verdict.failure for verdict in failed},
        "drift": drift,
        "labels": agreement(found, labels) if labels else None,
    }
    if failed:
        print(f"warning: {len(failed)} of {len(found)} verdicts failed and are left out", file=sys.stderr)
    if drift["drifted"]:
        print(
            f"warning: the judge has drifted, so its scores cannot be compared with those of its baseline: {drift}",
            file=sys.stderr,
        )
    return _score_rows(found, items), {"judge": about, "sections": {"Judge": section(about)}}


def _load_judge(options: argparse.Namespace) -> Judge:
    if options.judge_url:
        return EndpointJudge(options.judge_url, options.judge)
    placed: dict[str, Any] = {**loading_options(options), "server_url": None, "vllm_url": None}
    return LocalJudge(load(options.judge, **placed))


def _score_rows(found: Sequence[Verdict], items: Sequence[Item]) -> dict[str, Rows]:
    row_of = {item.id: n for n, item in enumerate(items)}
    rows: dict[str, Rows] = {}
    for verdict in found:
        if verdict.failure is not None:
            continue
        values = {f"judge_{verdict.aspect}": verdict.score}
        if verdict.aspect == "accuracy":  # the only aspect with a verdict of right or wrong beside the score
            values = {"judge_accuracy": float(bool(verdict.correct)), "judge_score": verdict.score}
        for metric, value in values.items():
            rows.setdefault(metric, np.full(len(items), np.nan))[row_of[verdict.id]] = value
    return rows


def _case(item: Item, prediction: Prediction) -> Case:
    return Case(
        id=item.id,
        question=item.question or QUESTION,  # items of captions and summaries have no question of their own
        answer=" / ".join(item.references),
        prediction=prediction["answer"],
        paraphrase=item.paraphrase,
        second=prediction.get("paraphrase", ""),
    )
