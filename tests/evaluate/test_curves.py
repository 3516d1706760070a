"""Precision and recall over thresholds: against sums over thresholds, and in reports."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.evaluate.conftest import evaluate, report
from videollm.datasets.item import Item
from videollm.evaluate.metrics.precision_recall import Curve, curve
from videollm.evaluate.tasks.classify import Classify
from videollm.evaluate.tasks.grounding import Grounding

SCORED = st.lists(st.tuples(st.sampled_from([0.1, 0.2, 0.5, 0.7, 1.0]), st.booleans()), min_size=1, max_size=30)


def made(scored: list[tuple[float, bool]], positives: int | None = None) -> Curve:
    scores, right = zip(*scored, strict=True)
    return curve(np.array(scores), np.array(right), positives)


@given(SCORED, st.integers(0, 5))
def test_a_curve_is_what_each_threshold_finds(scored: list[tuple[float, bool]], missed: int):
    positives = sum(right for _, right in scored) + missed
    found = made(scored, positives)
    points, area, before = [], 0.0, 0.0
    for threshold in sorted({score for score, _ in scored}, reverse=True):
        above = [right for score, right in scored if score >= threshold]
        recall, precision = sum(above) / max(positives, 1), sum(above) / len(above)
        points.append((recall, precision))
        area, before = area + (recall - before) * precision, recall
    np.testing.assert_allclose(np.stack((found.recall, found.precision), 1), points, atol=1e-12)
    assert found.average_precision == pytest.approx(area)
    for wanted in (0.0, 0.3, 0.5, 1.0):
        best = max((precision for recall, precision in points if recall >= wanted - 1e-9), default=0.0)
        assert found.at(np.array([wanted]))[0] == pytest.approx(best)


def test_scikit_learn_s_example():
    """That of the documentation of `average_precision_score`."""
    assert made([(0.1, False), (0.4, False), (0.35, True), (0.8, True)]).average_precision == pytest.approx(
        0.8333, abs=1e-4
    )


def test_nothing_is_predicted():
    empty = curve(np.empty(0), np.empty(0, bool), positives=3)
    assert empty.average_precision == 0.0 and empty.at(np.array([0.0, 0.5])).tolist() == [0, 0]


def labelled(right: str, choices: tuple[str, ...] = ("cat", "dog", "fox")) -> Item:
    return Item(id=right, video=Path("v"), references=(right,), choices=choices)


def test_each_label_has_a_curve_over_the_items_that_could_have_it():
    items = [labelled("cat"), labelled("dog"), labelled("cat", ("cat", "owl"))]
    predictions = [
        {"labels": [["cat", 0.6], ["dog", 0.4]]},  # the fox is left out
        {"labels": [["cat", 0.7], ["dog", 0.3], ["fox", 0.0]]},
        {"labels": [["owl", 0.9], ["cat", 0.1]]},
    ]
    found = Classify().curves(items, predictions)
    assert [*found.classes] == ["cat", "dog"]  # nothing is an owl or a fox
    cat, dog = found.classes["cat"], found.classes["dog"]
    assert (cat.positives, cat.predictions, dog.positives, dog.predictions) == (2, 3, 1, 2)
    assert cat.average_precision == pytest.approx(1 / 2 * 1 / 2 + 1 / 2 * 2 / 3)
    assert dog.average_precision == pytest.approx(1 / 2)
    assert found.mean_average_precision == pytest.approx((cat.average_precision + dog.average_precision) / 2)
    assert found.overall["all labels"].predictions == 8


def test_spans_of_all_queries_are_ranked_together():
    items = [Item(id=f"{n}", video=Path("v"), question="q", spans=((0.0, 10.0),)) for n in range(2)]
    predictions = [{"spans": [[0.0, 6.0, 0.9], [20.0, 30.0, 0.2]]}, {"spans": [[5.0, 9.0, 0.5]]}]
    found = Grounding().curves(items, predictions)
    assert [*found.overall] == ["IoU 0.3", "IoU 0.5", "IoU 0.7"] and found.mean_average_precision is None
    assert found.overall["IoU 0.3"].precision.tolist() == [1, 1, 2 / 3]
    assert found.overall["IoU 0.5"].recall.tolist() == [0.5, 0.5, 0.5]
    assert found.overall["IoU 0.7"].average_precision == 0.0


@pytest.mark.parametrize(("task", "name"), [("classify", "all labels"), ("grounding", "IoU 0.5")])
def test_a_report_has_rows_and_a_plot(task: str, name: str, world: Path, tmp_path: Path):
    assert evaluate(task, "--model", "debug", "--data", world, "--limit", 6, "--out", tmp_path) == 0
    found = report(tmp_path)["precision_recall"]
    one = found["overall"][name]
    assert len(one["precision"]) == len(found["recall"]) == 101 and 0 <= one["average_precision"] <= 1
    page, text = (tmp_path / "report.html").read_text(), (tmp_path / "report.md").read_text()
    assert page.count("<polyline") == len(found["overall"]) and "## Precision and recall" in text
    assert f"| {name} | {one['positives']} | {one['average_precision']:.3f} |" in text
    assert (f"| mAP, {len(found['classes'])} labels |" in text) == (task == "classify")


def test_a_task_without_scores_has_no_curves(world: Path, tmp_path: Path):
    assert evaluate("mcqa", "--model", "debug", "--data", world, "--limit", 2, "--out", tmp_path) == 0
    assert "precision_recall" not in report(tmp_path) and "<polyline" not in (tmp_path / "report.html").read_text()
