"""Simulated stories and the questions asked about them: repeatable, true to the scenes, only what tags support."""

import random

import pytest
import torch

from data_gen.simulation.questions import CANNOT_TELL, KINDS, Questioner, Taxonomy, shots
from data_gen.simulation.story import Scene, Simulator, Story
from train.data.simulated import simulated, split_classes
from videollm import checkpoint
from videollm.encoders.base import Vocabulary
from videollm.encoders.tags import Tag
from videollm.features.encode import SegmentFeatures
from videollm.models.nouns import noun
from videollm.presets import DEBUG

VOCABULARY = Vocabulary(("poodle", "tabby", "mug", "dog", "animal"), (3, 4, -1, 4, -1))
TAXONOMY = Taxonomy(VOCABULARY)


@pytest.fixture(scope="module")
def simulator() -> Simulator:
    model = checkpoint.build(DEBUG)
    return simulated(model, split_classes(model, 1)[0])[0]


def story(*scenes: tuple[tuple[int, ...], list[Tag]]) -> Story:
    """Four seconds a scene, one segment each: (classes that are there, tags that the encoder gave)."""
    made = [Scene(4.0 * i, 4.0 * i + 4, classes) for i, (classes, _) in enumerate(scenes)]
    segments = [
        SegmentFeatures(s.start_s, s.end_s, torch.zeros(1, 5, 16), torch.zeros(1), torch.zeros(16), tuple(tags))
        for s, (_, tags) in zip(made, scenes, strict=True)
    ]
    return Story(tuple(made), tuple(segments), tuple(range(len(made))))


def answer(kind: str, of: Story, seed: int = 0) -> str | None:
    qa = KINDS[kind](Questioner(of, TAXONOMY, random.Random(seed)))
    return None if qa is None else qa[1]


POODLE_THEN_MUG = story(((0,), [Tag("dog", 0.8)]), ((2,), [Tag("mug", 0.6)]))
UNCLEAR = story(((0,), []), ((), []))
MISLED = story(((0,), [Tag("mug", 0.5)]))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("what", "A dog, then a mug."),
        ("describe", "The video shows a dog, then a mug."),
        ("dense", "0:00-0:04 a dog; 0:04-0:08 a mug."),
        ("first", "A dog."),
        ("last", "A mug."),
        ("count", "Two."),
        ("change", "Yes, from a dog to a mug."),
        ("length", "0:08."),
        ("unseen", CANNOT_TELL),
        ("present", "Yes."),
    ],
)
def test_answers_follow_from_the_scenes_at_the_level_that_tags_support(kind: str, expected: str):
    assert answer(kind, POODLE_THEN_MUG) == expected


@pytest.mark.parametrize("kind", ["what", "describe", "first", "last", "change", "count", "at"])
def test_without_evidence_nothing_can_be_told(kind: str):
    assert answer(kind, UNCLEAR) == CANNOT_TELL


def test_a_misleading_tag_never_becomes_an_answer():
    assert [s.name for s in shots(MISLED, TAXONOMY)] == ["poodle"]
    assert answer("what", MISLED) == "A poodle."


def test_asking_for_a_finer_kind_than_was_seen_cannot_be_told():
    """Where a dog was seen no tabby is; where an animal was seen, one may be."""
    for tag, expected in (("dog", "No."), ("animal", CANNOT_TELL)):
        seen = story(((0,), [Tag(tag, 0.8)]))
        asked = [qa for i in range(100) if (qa := absent(seen, i)) and "tabby" in qa[0]]
        assert asked and {text for _, text in asked} == {expected}


def test_kin_of_what_is_seen_is_asked_for_as_often_as_anything_else():
    """A dog where an animal was seen; a general word that stands above what is there is never "absent"."""
    asked = [qa for i in range(400) if (qa := absent(POODLE_THEN_MUG, i))]
    about = {word: sum(word in question for question, _ in asked) for word in VOCABULARY.words}
    assert about["tabby"] > 50 and about["dog"] == about["animal"] == about["mug"] == 0
    assert about["poodle"] == 0  # it is there, though the tag does not say so


def absent(of: Story, seed: int) -> tuple[str, str] | None:
    return KINDS["absent"](Questioner(of, TAXONOMY, random.Random(seed)))


def test_a_story_is_the_same_every_time_and_differs_by_seed(simulator: Simulator):
    a, b, c = simulator.story(5), simulator.story(5), simulator.story(6)
    assert a.scenes == b.scenes != c.scenes
    assert all((x.tokens == y.tokens).all() and x.tags == y.tags for x, y in zip(a.segments, b.segments, strict=True))


def test_segments_lie_in_their_scenes(simulator: Simulator):
    for seed in range(40):
        made = simulator.story(seed)
        for segment, k in zip(made.segments, made.scene_of, strict=True):
            scene = made.scenes[k]
            assert scene.start_s <= segment.start_s < segment.end_s <= scene.end_s + 1e-9
        assert {c for s in made.scenes for c in s.classes} <= set(simulator.classes)


def test_every_kind_of_question_is_asked(simulator: Simulator):
    taxonomy = Taxonomy(simulator.encoder.vocabulary)
    asked = {
        qa.kind for i in range(60) for qa in Questioner(simulator.story(i), taxonomy, random.Random(i)).ask(len(KINDS))
    }
    assert asked == set(KINDS)


@pytest.mark.parametrize(
    "shown", ["a cat", "an acorn", "a unicycle", "sunglasses", "a bus", "a wine glass", "french bread"]
)
def test_articles(shown: str):
    assert noun(shown.removeprefix("a ").removeprefix("an ")) == shown
