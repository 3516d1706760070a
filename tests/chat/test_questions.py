"""What questions of many wordings ask for, and those that are the language model's."""

import pytest

from videollm.chat.questions import Question, is_person, read_question, told_spans


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("How many people are there?", Question("count", "person")),
        ("how many dogs can you see in the video", Question("count", "dog")),
        ("How many people are there at 0:05?", Question("count", "person", 5.0)),
        ("Count the wine glasses.", Question("count", "wine glass")),
        ("Is there a bridge?", Question("exists", "bridge")),
        ("Are there any trees in the video?", Question("exists", "trees")),
        ("Do you see a party hat in this clip?", Question("exists", "party hat")),
        ("Does the video show a man in a red coat?", Question("exists", "man in a red coat")),
        ("Does a lake appear?", Question("exists", "lake")),
        ("Is a sofa visible?", Question("exists", "sofa")),
        ("Who is in the video?", Question("who")),
        ("What is in this video?", Question("describe")),
        ("Describe the video.", Question("describe")),
        ("What can you see?", Question("describe")),
    ],
)
def test_forms(text: str, asked: Question):
    assert read_question(text) == asked


@pytest.mark.parametrize(
    ("text", "asks"),
    [
        ("What is the person saying?", "speech"),
        ("What can be heard?", "heard"),
        ("Can you hear anything?", "heard"),
        ("Is there any sound?", "heard"),
        ("Can you hear a dog?", "sound"),
        ("Is there the sound of a dog?", "sound"),
        ("What did they talk about?", "speech"),
        ("Does anyone speak?", "speaks"),
        ('When is "good morning" said?', "when"),
        ("What music is playing?", "sound"),
        ("What does the text say?", "written"),
        ("Read the sign.", "written"),
        ("Hello!", "greeting"),
        ("Is there music?", "sound"),
    ],
)
def test_sound(text: str, asks: str):
    found = read_question(text)
    assert found is not None and found.asks == asks


@pytest.mark.parametrize(
    "text",
    [
        "What appears first?",
        "What is shown at 0:05?",
        "Give a timeline of the video.",
        "How many different things are shown?",
        "How long is the video?",
        "Is there a cat or a dog?",
        "Is the man happy?",
        "When does the rocket appear?",
        "¿Qué hay en este vídeo?",
        "",
    ],
)
def test_the_rest_is_the_language_models(text: str):
    assert read_question(text) is None


def test_people_whatever_is_said_of_them():
    assert all(map(is_person, ("person", "people", "man", "man in a red coat")))
    assert not any(map(is_person, ("dog", "manual", "snowman")))


@pytest.mark.parametrize(
    ("answer", "spans"),
    [
        ("From 0:04 to 0:08.", [(4, 8)]),
        ("At 0:05, and again at 1:02:03.", [(5, 5), (3723, 3723)]),
        ("0:04-0:08: a cup", [(4, 8)]),
        ("A cat, then 2 cups.", []),
    ],
)
def test_times_of_an_answer(answer: str, spans: list[tuple[float, float]]):
    assert told_spans(answer) == spans
