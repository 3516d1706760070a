"""What the language model says of findings counts where the senses have found it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.chat.test_grounded import FOUND, SAID
from videollm.chat.answer import CANNOT_TELL, NOBODY, NOT_LOOKED
from videollm.chat.claims import believed
from videollm.chat.grounded import NO_SOUND, NOT_READ, ONLY_SPEECH, SILENT
from videollm.chat.session import ChatSession
from videollm.checkpoint import load
from videollm.config import SamplingConfig
from videollm.features.encode import encode_video
from videollm.inference.sampling import Token
from videollm.senses.finding import NOTHING, Findings

SAMPLE = Path(__file__).parents[2] / "scripts/samples/sample.mp4"
SILENCE = Findings(senses=("objects", "speech"), sound=True)


@pytest.mark.parametrize(
    ("text", "findings", "is_told"),
    [
        ('At 0:05 someone says: "Good morning to you."', FOUND, True),
        ('At 0:05 someone says: "Good evening to you."', FOUND, False),
        ('At 0:13 someone says: "Good morning to you."', FOUND, False),
        ('At 0:13 someone says: "I cannot tell from this video."', SILENCE, False),
        ('A dog. At 0:13 someone says: "Hello."', SILENCE, False),
        ('At 0:03 it reads: "EXIT"', FOUND, False),
        ("Yes, from 0:05 on.", FOUND, True),
        ("Yes, from 0:05 on.", SILENCE, False),
        ("Yes.", FOUND, False),
        ("From 0:00 to 0:08.", FOUND, False),
        (SILENT, SILENCE, False),
        (SILENT, FOUND, False),
        (NO_SOUND, SILENCE, False),
        (ONLY_SPEECH, SILENCE, False),
        (NOT_READ, SILENCE, False),
        (NOT_LOOKED, SILENCE, False),
        (NOT_LOOKED, NOTHING, False),
        (NOBODY, SILENCE, True),
        (NOBODY, FOUND, False),
        ("2 people.", FOUND, True),
        ("2 people; I cannot tell who.", FOUND, True),
        ("3 people.", FOUND, False),
        ("1 dog.", FOUND, True),
        ("2 dogs.", FOUND, False),
    ],
)
def test_what_no_sense_has_found_is_not_believed(text: str, findings: Findings, is_told: bool):
    assert believed(text, [findings]) == (text if is_told else CANNOT_TELL)


def test_of_several_videos_one_is_enough():
    assert believed("2 people.", [SILENCE, FOUND]) == "2 people." and believed("2 people.", []) == CANNOT_TELL


@pytest.mark.parametrize("text", ["A cat, then a dog.", "0:12.", CANNOT_TELL, ""])
def test_other_answers_stay_as_they_are(text: str):
    assert believed(text, [FOUND]) == believed(text, []) == text


class Scripted:
    """An engine that writes one text, word by word."""

    def __init__(self, text: str):
        self.text = text

    def stream(self, *_: object) -> Iterator[Token]:
        for word in self.text.split(" "):
            yield Token(0, 0.0, text=f" {word}")


def test_a_session_does_not_stream_what_it_will_not_say():
    model = load("debug")
    model = replace(model, config=replace(model.config, senses=("speech", "objects")))
    video = encode_video(SAMPLE, model.encoder, SamplingConfig(fps=2.0))
    for written, told in (
        ('At 0:13 someone says: "Hello."', CANNOT_TELL),
        (f'At 0:05 someone says: "{SAID.text}"', f'At 0:05 someone says: "{SAID.text}"'),
        ("A cat.", "A cat."),
    ):
        session = ChatSession(model, replace(video, findings=FOUND), engine=Scripted(written))  # type: ignore[arg-type]
        *pieces, answer = session.stream("Write a haiku about it.")
        assert "".join(pieces) == answer.text == told
