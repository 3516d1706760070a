"""The controls: what they change of a video and what they keep, and what a guesser gets who reads questions only."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.evaluate.conftest import asked
from videollm.checkpoint import load
from videollm.datasets.item import Item
from videollm.evaluate.question_only import question_only
from videollm.evaluate.subject import Subject
from videollm.evaluate.tasks import TASKS
from videollm.evaluate.views import backwards


def test_views_keep_what_they_do_not_change(world: Path):
    (item, *_) = asked(world, TASKS["mcqa"])
    subject = Subject(load("debug"), [item], [item])
    video = subject.see(item)
    assert video is not None
    back = subject.see(item, "reversed")
    assert back is not None and torch.equal(back.features.embed, video.features.embed.flip(0))
    assert (back.times_s.diff() > 0).all() and back.times_s[0] == pytest.approx(float(video.times_s[0]))
    assert torch.equal(backwards(back).features.embed, video.features.embed)
    grey = subject.see(item, "blank")
    assert grey is not None and grey.features.embed.shape == video.features.embed.shape
    assert len(grey.features.embed.unique(dim=0)) == 1


def test_each_question_about_a_video_sees_an_order_of_its_own(world: Path):
    (item, *_) = asked(world, TASKS["mcqa"])
    subject = Subject(load("debug"), [item], [item])
    video = subject.see(item)
    assert video is not None and len(video.times_s) > 3
    orders = set()
    for number in range(6):
        mixed = subject.see(replace(item, id=f"question {number}"), "shuffled")
        assert mixed is not None and torch.equal(mixed.times_s, video.times_s)
        order = (mixed.features.embed[:, None] == video.features.embed).all(-1).float().argmax(1).tolist()
        assert sorted(order) == list(range(len(order))) != order
        orders.add(tuple(order))
    assert len(orders) > 1
    again = subject.see(replace(item, id="question 5"), "shuffled")
    assert again is not None and mixed is not None and torch.equal(again.features.embed, mixed.features.embed)


def questions(ask: str, right: str, wrong: str) -> list[Item]:
    """Twenty videos with one question each, to which `right` is the answer in three of four."""
    return [
        Item(
            id=f"{ask} {n}",
            video=Path(f"{n}.mp4"),
            question=f"{ask} number {n}?",
            references=(right if n % 4 else wrong,),
            choices=(right, wrong, "another") if n % 2 else ("another", wrong, right),
            spans=((1.0, 2.0 + n),),
        )
        for n in range(20)
    ]


@pytest.mark.parametrize("task", ["openqa", "mcqa"])
def test_a_guesser_gets_what_the_questions_give_away(task: str):
    items = [*questions("Does it move in", "yes", "no"), *questions("How many are in", "two", "three")]
    guesses = question_only(task, items, items)
    assert guesses is not None
    rows = TASKS[task].score(items, guesses)
    assert {metric: float(np.mean(values)) for metric, values in rows.items()} == dict.fromkeys(rows, 0.75)
    assert guesses[:3] == question_only(task, items[:3], items)  # --limit changes no guess


def test_a_guesser_chooses_among_the_things_that_are_named_and_knows_when_things_happen():
    items = []
    for n, item in enumerate(questions("Which", "no", "yes")):
        things = (f"star{n % 9}", f"circle{n % 9}")
        asked = f"Which is larger, the {' or the '.join(things)}?"
        items.append(replace(item, question=asked, references=(things[n % 2],), choices=(*things, "no")))
    guesses = question_only("openqa", items, items)
    assert guesses is not None and np.mean(TASKS["openqa"].score(items, guesses)["exact"]) == 0.5
    spans = question_only("grounding", items[:1], items)
    assert spans == [{"spans": [[1.0, 11.5, 1.0]]}] and question_only("dense", items, items) is None
