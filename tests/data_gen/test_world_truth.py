"""What the annotation of a clip says is true, unambiguous and grammatical."""

import re
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_gen.world.config import WorldConfig
from data_gen.world.question_kinds import QUESTION_KINDS
from data_gen.world.scene import draw_clips
from data_gen.world.splits import SPLITS
from data_gen.world.truth import annotate
from tests.data_gen.world_oracle import COLOURS, SHAPES, OracleClip, answer, check_event

CONFIG = WorldConfig(seconds=(2.0, 6.0))


def truths(split: str, index: int, config: WorldConfig = CONFIG) -> list[dict[str, Any]]:
    return [
        annotate(clip, config, clip_id=f"c{k}", split=split, number=index, order_pair=None).to_values()
        for k, clip in enumerate(draw_clips(config, split, index))
    ]


@cache
def sample() -> tuple[dict[str, Any], ...]:
    return tuple(truth for split in SPLITS for index in range(12) for truth in truths(split, index))


worlds = st.tuples(st.sampled_from(list(SPLITS)), st.integers(0, 10_000))


@given(worlds)
@settings(max_examples=120)
def test_answers_follow_from_the_tracks(world: tuple[str, int]):
    for truth in truths(*world):
        clip = OracleClip(truth)
        for event in clip.events:
            check_event(clip, event)
        for asked in truth["questions"]:
            if asked["language"] != "en" or asked["kind"] == "cannot_tell":
                continue
            found = answer(clip, asked["question"])
            if isinstance(found, dict):
                assert clip.event(asked["answer"]) == found
            elif isinstance(found, float):
                (said,) = re.findall(r"[\d.]+", asked["answer"])
                assert float(said) == pytest.approx(found, abs=0.051)
            else:
                assert asked["answer"] == found, asked["question"]


@given(worlds)
@settings(max_examples=60)
def test_events_follow_one_another_within_scenes(world: tuple[str, int]):
    for truth in truths(*world):
        bounds = [0.0, *truth["cuts"], truth["duration_s"]]
        assert bounds == sorted(bounds) and truth["events"]
        for event in truth["events"]:
            assert any(a <= event["start_s"] < event["end_s"] < b for a, b in pairwise(bounds))
        assert all(a["end_s"] < b["start_s"] for a, b in pairwise(truth["events"]))
        for asked in truth["questions"]:
            assert all(0 <= start < end <= truth["duration_s"] for start, end in asked["answer_times"])


def test_every_kind_of_question_is_asked_in_every_language():
    for language in ("en", "zh", "es"):
        asked = [q for truth in sample() for q in truth["questions"] if q["language"] == language]
        assert {q["kind"] for q in asked} == set(QUESTION_KINDS)
        for kind in QUESTION_KINDS:
            chosen = [q["correct"] for q in asked if q["kind"] == kind and q["choices"]]
            assert len(set(chosen)) > 1, kind  # the right one has no fixed place


def test_the_right_choice_has_no_favourite_place():
    places = [q["correct"] for truth in sample() for q in truth["questions"] if q["choices"] and len(q["choices"]) == 4]
    assert all(0.2 < places.count(place) / len(places) < 0.3 for place in range(4))


def test_choices_differ_and_hold_the_answer():
    for truth in sample():
        for asked in truth["questions"]:
            if asked["choices"]:
                assert asked["choices"][asked["correct"]] == asked["answer"]
                assert len(set(asked["choices"])) == len(asked["choices"]) >= 2


def test_wrong_events_among_the_choices_answer_nothing():
    for truth in sample():
        clip = OracleClip(truth)
        for asked in truth["questions"]:
            if asked["language"] == "en" and asked["kind"] in ("first_last", "order") and asked["choices"]:
                found = answer(clip, asked["question"])
                others = [c for c in asked["choices"] if c != asked["answer"] and c.startswith("The ")]
                assert all(clip.event(choice) != found for choice in others)


def test_the_same_question_is_asked_in_three_languages():
    for truth in sample():
        asked = truth["questions"]
        for english, chinese, spanish in zip(asked[::3], asked[1::3], asked[2::3], strict=True):
            assert [q["language"] for q in (english, chinese, spanish)] == ["en", "zh", "es"]
            assert english["kind"] == chinese["kind"] == spanish["kind"]
            assert english["correct"] == chinese["correct"] == spanish["correct"]


def test_negatives_differ_from_the_caption_in_one_attribute_that_is_false():
    for truth in sample():
        clip = OracleClip(truth)
        caption, wrong = (
            re.findall(r"\w+", re.sub(r"\b[Aa]n?\b", "a", text))
            for text in (truth["captions"]["en"]["short"], truth["negatives"]["attribute_swap"]["en"])
        )
        changes = {
            (caption[k], wrong[k], *caption[k - 1 : k + 2]) for k in range(len(caption)) if caption[k] != wrong[k]
        }
        assert len(caption) == len(wrong) and len({change[:2] for change in changes}) == 1
        (right, false), *_ = {change[:2] for change in changes}
        if right in COLOURS:
            shapes = {words[-1] for words in changes}
            assert all(not clip.fitting(shape.removesuffix("s").replace("crosse", "cross"), false) for shape in shapes)
        elif right in SHAPES:
            assert all(not clip.fitting(false, words[2]) for words in changes)
        else:
            assert {right, false} & {"left", "right", "up", "down", "in", "out"}


def test_stories_in_another_order_read_differently():
    for truth in sample():
        captions = truth["captions"]
        for language, text in truth["negatives"].get("event_order", {}).items():
            assert text != captions[language]["short"]


def test_both_clips_of_a_pair_have_captions_of_their_own():
    for index in range(20):
        one, two = truths("order", index)
        for language in ("en", "zh", "es"):
            assert one["captions"][language]["short"] != two["captions"][language]["short"]
        assert len(one["events"]) == len(two["events"])


def texts(language: str) -> list[str]:
    found = []
    for truth in sample():
        told = truth["captions"][language]
        found += [told["short"], told["detailed"], *(part["text"] for part in told["dense"])]
        found += [negative[language] for negative in truth["negatives"].values()]
        for asked in truth["questions"]:
            if asked["language"] == language:
                found += [asked["question"], asked["answer"], *(asked["choices"] or [])]
    return found


def test_english_articles_fit_the_next_sound():
    for text in texts("en"):
        assert not re.search(r"\b[Aa] [aeiou]", text) and not re.search(r"\b[Aa]n [^aeiou]", text), text
        assert text[0].isupper() or text[0].isdigit()
        assert not re.search(r"[{}_]|  |None", text), text


FEMININE = ["estrella", "cruz", "flecha", "casa", "flor", "taza", "nube", "luna", "llave", "seta", "mariposa"]
MASCULINE = (
    "círculo",
    "cuadrado",
    "triángulo",
    "corazón",
    "rombo",
    "hexágono",
    "árbol",
    "coche",
    "pez",
    "barco",
    "paraguas",
    "cohete",
)
ADJECTIVES = ["roj", "amarill", "morad", "blanc", "negr", "pequeñ"]


def test_spanish_articles_and_adjectives_agree():
    nouns = "|".join([*FEMININE, *MASCULINE])
    phrase = re.compile(rf"\b(un|una|el|la|al|del) ({nouns})((?: \w+)*)", re.IGNORECASE)
    seen = set()
    for text in texts("es"):
        assert not re.search(r"\b[ad]e? el\b|[{}_]|  |None", text, re.IGNORECASE), text
        for article, noun, rest in phrase.findall(text):
            feminine = noun in FEMININE
            assert article.lower() in (("una", "la") if feminine else ("un", "el", "al", "del")), text
            for word in rest.split()[:2]:
                if word[:-1] in ADJECTIVES:
                    assert word.endswith("a" if feminine else "o"), text
                    seen.add((noun, word))
    assert len({noun for noun, _ in seen}) > 15


MEASURES = {
    "房子": "座",
    "鱼": "条",
    "树": "棵",
    "汽车": "辆",
    "花": "朵",
    "云": "朵",
    "帆船": "艘",
    "星星": "颗",
    "钥匙": "把",
}


def test_chinese_counts_with_the_right_measure_words():
    seen = set()
    for text in texts("zh"):
        assert not re.search(r"[A-Za-z{}_]|两次以上", text), text
        for noun, measure in MEASURES.items():
            for found in re.findall(rf"[一两三四五](.)(?:带..的)?(?:.色)?[大小]?{noun}", text):
                assert found == measure, text
                seen.add(noun)
    assert seen == set(MEASURES)
