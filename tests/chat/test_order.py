"""Answers about when things are shown and in which order: only of things that are shown, with their times."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_gen.simulation import questions as templates
from tests.chat.test_grounded import Words, seen
from videollm.chat.answer import CANNOT_TELL, NOBODY
from videollm.chat.grounded import ground
from videollm.chat.order_questions import OrderQuestion, read_order
from videollm.chat.questions import read_question
from videollm.encoders.base import Vocabulary
from videollm.encoders.tags import Tag
from videollm.features.encode import SegmentFeatures
from videollm.senses.finding import NOTHING, Findings

ENCODER = Words(Vocabulary(("tabby", "cat", "espresso", "rocket", "animal", *map(str, range(45))), (1, 4, *(-1,) * 48)))
TRACKS = Findings(senses=("objects",), found=(seen("person", 2, 4), seen("cup", 4, 8), seen("person", 9, 11)))


def segments(*words: str, findings: Findings = NOTHING) -> list[SegmentFeatures]:
    """Segments of four seconds, each with a tag; "" for one that shows nothing that is known."""
    made = []
    for number, word in enumerate(words):
        start_s, end_s = 4.0 * number, 4.0 * number + 4
        (embed,) = ENCODER.encode_text([word or "44"]).embed
        part = embed[None, None], embed.new_zeros(1), embed
        tags = (Tag(word, 0.9),) if word else ()
        inside = findings.part(start_s, end_s, first=not number)
        made.append(SegmentFeatures(start_s, end_s, *part, tags, inside, concepts=embed))
    return made


THREE = segments("cat", "espresso", "rocket", findings=TRACKS)


def ask(question: str, parts: list[SegmentFeatures] = THREE, findings: Findings = TRACKS) -> str | None:
    found = ground(ENCODER, question, findings, parts)  # type: ignore[arg-type]
    return found and found.text


@pytest.mark.parametrize(
    ("kind", "asks"),
    [
        ("FIRST", "first"),
        ("LAST", "last"),
        ("AFTER", "after"),
        ("BEFORE", "before"),
        ("WHEN", "when"),
        ("DENSE", "timeline"),
        ("COUNT", "things"),
        ("CHANGE", "change"),
        ("LENGTH", "length"),
        ("AT", "moment"),
    ],
)
def test_all_wordings_of_the_training_are_read(kind: str, asks: str):
    for wording in getattr(templates, kind):
        read = read_order(wording.format(x="red car", t="0:05"))
        assert read is not None and read.asks == asks, wording
        assert read.thing == ("red car" if "{x}" in wording else "") and read.end_s is None


def test_other_questions_are_left_to_others():
    for kind in (templates.WHAT, templates.DESCRIBE, templates.PRESENT, templates.UNSEEN):
        for wording in kind:
            question = wording.format(x="cat")
            assert read_order(question) is None, question
            assert read_question(question) is not None or kind is templates.UNSEEN, question


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("When do the dogs appear?", OrderQuestion("when", "dog")),
        ("At what time can you see a red car?", OrderQuestion("when", "red car")),
        ("How long is the cup visible?", OrderQuestion("how long", "cup")),
        ("Is the cup shown before the rocket?", OrderQuestion("comes before", "cup", "rocket")),
        ("Did the man appear after the woman?", OrderQuestion("comes after", "man", "woman")),
        ("What comes first, the cat or a rocket?", OrderQuestion("first", "cat", "rocket")),
        ("What is seen between 0:04 and 1:00:08?", OrderQuestion("moment", start_s=4, end_s=3608)),
        ("What happens from 0:08 to 0:04?", OrderQuestion("moment", start_s=8, end_s=8)),
        ("What's at 0:05?", OrderQuestion("moment", start_s=5)),
        ("What happened at 0:05?", OrderQuestion("moment", start_s=5)),
        ("Describe the video from 0:04 to 0:08.", OrderQuestion("moment", start_s=4, end_s=8)),
        ("When do people show up?", OrderQuestion("when", "person")),
        ("What is the first thing you see?", OrderQuestion("first")),
        ("When does the video end?", OrderQuestion("length")),
        ("What came after the dog?", OrderQuestion("after", "dog")),
        ("What animal is shown at 0:05?", None),
        ("Is there a dog between 0:04 and 0:08?", None),
        ("After the cat, what comes next?", OrderQuestion("after", "cat")),
        ("When is it raining?", None),
        ("How many people are there at 0:05?", None),
        ('When is "good morning" said?', None),
        ("Why does the cat come before the dog?", None),
    ],
)
def test_forms(text: str, asked: OrderQuestion | None):
    assert read_order(text) == asked


def test_times_are_those_of_what_is_seen():
    assert ask("When does the person appear?") == "From 0:02 to 0:04 and from 0:09 to 0:11."
    assert ask("How long is the person visible?") == "4 seconds, from 0:02 to 0:04 and from 0:09 to 0:11."
    assert ask("When is the espresso shown?") == ask("When is there an espresso?") == "From 0:04 to 0:08."
    assert ask("When is the animal shown?") == "From 0:00 to 0:04."  # the cat
    assert ask("How long is the video?") == "0:12."
    unsure = Findings(senses=("objects",), found=(seen("person", 0, 4), seen("person", 8, 11, 0.4)))
    parts = segments("cat", "espresso", "rocket", findings=unsure)
    assert ask("When does the person appear?", parts, unsure) == "From 0:00 to 0:04."


def test_nothing_is_said_of_what_was_not_seen():
    unseen = Findings(senses=("objects",))
    for question in ("When does the man appear?", "What comes after the person?", "How long is the person there?"):
        assert ask(question, findings=unseen) == NOBODY
        assert "the sense is off" in (ask(question, findings=NOTHING) or "")
    for question in (
        "When is the laptop shown?",
        "What comes after the laptop?",
        "Is the laptop shown before the cat?",
        "What comes first, the cat or the laptop?",
    ):
        assert ask(question) == CANNOT_TELL
    for question in ("What appears first?", "What is shown at 0:01?", "Give a timeline.", "How many things are shown?"):
        assert ask(question, segments("", ""), NOTHING) == CANNOT_TELL


def test_order_is_that_of_the_shots():
    assert ask("What appears first?") == "A cat, 1 person."
    assert ask("How does the video end?") == "A rocket, 1 person."
    assert ask("What comes after the cat?") == "An espresso, 1 cup."
    assert ask("What comes after the rocket?") == "Nothing comes after it."
    assert ask("What is shown before the cup?") == "A cat, 1 person."
    assert ask("What comes before the cat?") == "Nothing comes before it."
    assert ask("Does the cat appear before the rocket?") == "Yes."
    assert ask("Does the cat appear after the rocket?") == "No."
    assert ask("What comes last, the cat or the espresso?") == "An espresso."
    assert ask("What appears first?", segments("", "cat"), NOTHING) == CANNOT_TELL
    assert ask("What comes after the cat?", segments("cat", "", "rocket"), NOTHING) == CANNOT_TELL


def test_moments_timelines_and_changes():
    assert ask("What happens at 0:05?") == "An espresso, 1 cup."
    assert ask("What is seen between 0:02 and 0:05?") == "A cat, 1 person, then an espresso, 1 cup."
    assert ask("What is shown at 0:30?") == "The video has ended before 0:30."
    assert (
        ask("Give a timeline of the video.")
        == "0:00-0:04 a cat, 1 person; 0:04-0:08 an espresso, 1 cup; 0:08-0:12 a rocket, 1 person."
    )
    assert ask("How many things are shown?") == "I can name 5: a cat, a person, an espresso, a cup, a rocket."
    assert ask("What changes?") == "Yes, from a cat, 1 person to a rocket, 1 person."
    still = segments("cat", "tabby", "animal")
    assert ask("Does the scene change?", still, NOTHING) == "No, it shows a tabby throughout."
    assert ask("Does the scene change?", segments("cat", ""), NOTHING) == CANNOT_TELL
    tracked = Findings(senses=("objects",), found=(seen("cat", 4, 8),))
    assert ask("What changes?", segments("cat", "cat", findings=tracked)) == "No, it shows a cat throughout."
    two = Findings(senses=("objects",), found=(seen("cat", 0, 8), seen("cat", 1, 8)))
    assert ask("What appears last?", segments("cat", "cat", findings=two)) == "2 cats."


def test_evidence_is_where_it_is_shown():
    def starts(question: str) -> list[float]:
        found = ground(ENCODER, question, TRACKS, THREE)  # type: ignore[arg-type]
        return sorted(e.start_s for e in found.evidence) if found else []

    assert starts("When does the person appear?") == [0, 8]
    assert starts("What comes after the cat?") == starts("What happens at 0:05?") == [4]
    assert starts("When is the laptop shown?") == starts("How long is the video?") == []


@given(st.lists(st.sampled_from(["cat", "tabby", "espresso", "rocket", ""]), min_size=1, max_size=8))
def test_a_timeline_covers_the_video_once(words: list[str]):
    parts = segments(*words)
    told = ask("Give a timeline of the video.", parts, NOTHING) or ""
    if not any(words):
        assert told == CANNOT_TELL
        return
    spans = [line.split(" ", 1)[0].split("-") for line in told.removesuffix(".").split("; ")]
    assert spans[0][0] == "0:00" and spans[-1][1] == f"0:{4 * len(words):02}"
    assert all(before[1] == after[0] for before, after in pairwise(spans))
    assert all(word in told or (word == "cat" and "tabby" in told) for word in words if word)


def test_a_description_gets_the_words_it_lacks():
    found = ground(ENCODER, "Describe the video.", NOTHING, [replace(s, findings=NOTHING) for s in THREE])  # type: ignore[arg-type]
    assert found and found.completed("The video shows a tabby, then a rocket.") == (
        "The video shows a tabby, then a rocket. An espresso is seen."
    )
    assert found.completed("A cat, an espresso, a rocket.") == "A cat, an espresso, a rocket."
    found = ground(ENCODER, "Describe the video.", NOTHING, segments("tabby", "cat", "animal"))  # type: ignore[arg-type]
    assert found and found.completed(CANNOT_TELL) == "A tabby is seen."
