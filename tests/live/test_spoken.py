"""Standing questions about what is said."""

import pytest

from videollm.errors import ConfigError
from videollm.live.spoken import spoken_question
from videollm.senses.finding import Finding


def alerts(question: str, said: str) -> list[tuple[str, float, str]]:
    waits = spoken_question(question, listens=True)
    assert waits is not None
    sentence = Finding(start_s=100.0, end_s=102.5, kind="speech", text=said, score=0.8)
    found = waits.hear(sentence)
    assert {a.score for a in found} <= {0.8} and {a.when for a in found} <= {question}
    return [(a.state, a.time, a.answer) for a in found]


@pytest.mark.parametrize(
    ("question", "said", "heard"),
    [
        ("someone says fire", "There is a Fire!", True),
        ('when somebody says "the red door"', "Close the red door, please.", True),
        ('someone says "the red door"', "The door is red.", False),
        ("someone says fire", "We need firewood.", False),
        ("somebody mentions the words open house.", "An open house.", True),
        ("anyone talks about 5 pounds", "It costs 5 pounds", True),
        ("someone speaks", "Hello.", True),
        ("someone speaks", "...", False),
        ("they say it's late", "It's late.", True),
        ("someone says 火", "着火了！", True),
        ("someone says 火了", "火车来了。", False),
    ],
)
def test_words_are_waited_for_in_a_row(question: str, said: str, heard: bool):
    expected = [("begins", 100.0, said), ("ends", 102.5, said)] if heard else []
    assert alerts(question, said) == expected


@pytest.mark.parametrize("text", ["a dog appears", "Is somebody speaking?", "someone enters", "a sign that says exit"])
def test_other_standing_questions_are_not_about_speech(text: str):
    assert spoken_question(text, listens=True) is None


def test_words_are_needed():
    with pytest.raises(ConfigError, match="no words to wait for"):
        spoken_question('someone says "?!"', listens=True)


def test_nobody_waits_for_words_without_listening():
    with pytest.raises(ConfigError, match="nobody listens; add speech to the senses"):
        spoken_question("someone says fire", listens=False)
