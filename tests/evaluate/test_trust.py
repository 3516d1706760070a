"""The probes of trust: what they ask, and what models that look, guess or only nod get from them."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.evaluate.conftest import asked, evaluate, lines
from videollm.datasets.item import Item, Prediction
from videollm.datasets.world_probes import reworded, turned
from videollm.evaluate.trust import PROBES


def scored(probe: str, items: list[Item], answer: Callable[[Item], Prediction]) -> dict[str, float]:
    """Means over items of what such answers get."""
    rows = PROBES[probe].score(items, [answer(item) for item in items])
    return {metric: float(np.nanmean(values)) for metric, values in rows.items() if values.ndim == 1}


def test_as_much_is_asked_that_is_there_as_that_is_not(world: Path):
    items = asked(world, PROBES["hallucination"])
    answers = Counter((i.slices["kind"], i.references[0]) for i in items)
    assert answers["random", "Yes"] == answers["random", "No"] > 0
    assert answers["adversarial", "Yes"] == answers["adversarial", "No"]
    truth = {row["id"]: row for split in ("test", "unseen") for row in lines(world / split / "annotations.jsonl")}
    for item in items:
        things = {f"{thing['colour']} {thing['shape']}" for thing in truth[item.id.split("/")[0]]["objects"]}
        there = any(thing in item.question for thing in things)
        assert there == (item.references[0] == "Yes"), item


def test_who_always_nods_is_right_half_of_the_time(world: Path):
    items = asked(world, PROBES["hallucination"])
    found = scored("hallucination", items, lambda item: {"answer": "Yes, there is."})
    assert found["accuracy"] == 0.5 and found["yes_rate"] == 1
    found = scored("hallucination", items, lambda item: {"answer": item.references[0]})
    assert found["accuracy"] == 1 and found["yes_rate"] == 0.5
    found = scored("hallucination", items, lambda item: {"answer": "A star."})
    assert found["accuracy"] == 0 and found["unclear"] == 1


def test_questions_in_other_words_are_about_the_same(world: Path):
    items = asked(world, PROBES["paraphrase"])
    assert len(items) > 10
    for item in items:
        assert item.paraphrase != item.question and item.paraphrase.endswith("?")
        kept = {"red", "blue", "green", "star", "circle", "first", "last", "blink"}
        assert kept & set(item.question.split()) == kept & set(item.paraphrase.split()), item
    assert reworded("Why?") is None
    same = scored("paraphrase", items, lambda item: {"answer": "It is red.", "paraphrase": "it is Red"})
    assert same["consistent"] == 1 and same["both_right"] < 0.5
    apart = scored("paraphrase", items, lambda item: {"answer": item.references[0], "paraphrase": "?"})
    assert (apart["consistent"], apart["right"], apart["both_right"]) == (0, 1, 0)


@pytest.mark.parametrize(
    ("text", "back"),
    [
        ("the red star moves left", "the red star moves right"),
        ("it rotates counterclockwise", "it rotates clockwise"),
        ("the car appears", "the car disappears"),
        ("the fish comes closer", "the fish goes further away"),
        ("the camera zooms in", "the camera zooms out"),
    ],
)
def test_events_backwards(text: str, back: str):
    assert turned(text) == back and turned(back) == text


def test_only_the_order_of_frames_answers_both_ways(world: Path):
    items = asked(world, PROBES["flip"])
    assert items
    right = scored("flip", items, lambda item: dict(zip(("forwards", "backwards"), item.references, strict=True)))
    assert (right["both"], right["changed"]) == (1, 1)
    still = scored("flip", items, lambda item: dict.fromkeys(("forwards", "backwards"), item.references[0]))
    assert (still["forwards"], still["both"], still["changed"]) == (1, 0, 0)
    chance = PROBES["flip"].chance(items)
    assert chance["both"] < chance["forwards"] < 0.5


def test_abstaining_is_counted(world: Path):
    items = asked(world, PROBES["abstention"])
    assert scored("abstention", items, lambda item: {"answer": "I cannot tell from this video."})["abstained"] == 1
    assert scored("abstention", items, lambda item: {"answer": "No."})["abstained"] == 0


def test_evidence_by_hand():
    """Four segments of one second; the answer is seen in the second and the third."""
    item = Item(id="a", video=Path("v"), question="?", spans=((1.0, 3.0),))
    segments = [[float(n), n + 1.0] for n in range(4)]
    rows = PROBES["evidence"].score(
        [item] * 4,
        [
            {"segments": segments, "cited": [[1.0, 2.0], [2.0, 3.0]]},
            {"segments": segments, "cited": [[0.0, 1.0], [1.0, 2.0]]},
            {"segments": segments, "cited": []},
            {"segments": segments[:1], "cited": [[0.0, 1.0]]},
        ],
    )
    assert rows["hit"][:2].tolist() == [1, 0] and rows["any_segment"][:2].tolist() == [0.5, 0.5]
    assert rows["gain"][:2].tolist() == [0.5, -0.5] and rows["seconds"][:2].tolist() == [1.0, 0.5]
    assert np.isnan(rows["hit"][2:]).all()


def test_all_probes_in_one_report(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert evaluate("trust", "--model", "debug", "--data", world, "--limit", 3, "--out", tmp_path) == 0
    said = capsys.readouterr().out
    assert all(f"{probe}: 3 items" in said for probe in PROBES)
    found = json.loads((tmp_path / "report.json").read_text())["reports"]
    assert list(found) == list(PROBES)
    for probe, report in found.items():
        assert set(report["controls"]) == set(PROBES[probe].controls)
        assert report == json.loads((tmp_path / probe / "report.json").read_text())
    assert (tmp_path / "report.html").read_text().count("<h1>") == len(PROBES)
