"""Answers from findings: exact counts, quotes with times, and what no sense knows."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from videollm.chat.answer import CANNOT_TELL, NOBODY, before_findings, without_findings
from videollm.chat.grounded import HELP, INTRODUCTION, NOT_HEARD, ground
from videollm.chat.session import ChatSession
from videollm.chat.turn import fit_to_context, generate_answer
from videollm.checkpoint import Model, load
from videollm.config import SamplingConfig
from videollm.encoders.base import TextFeatures, Vocabulary
from videollm.encoders.tags import Tag
from videollm.features.encode import EncodedVideo, SegmentFeatures, encode_video
from videollm.inference.engine import LocalEngine, PromptCache
from videollm.inference.sampling import GenerationConfig
from videollm.models.processor import Message
from videollm.senses.finding import NOTHING, Finding, Findings

SAMPLE = Path(__file__).parents[2] / "scripts/samples/sample.mp4"


def seen(name: str, start_s: float, end_s: float, score: float = 0.9) -> Finding:
    return Finding(start_s=start_s, end_s=end_s, kind="object", text=name, score=score)


SAID = Finding(start_s=5, end_s=6, kind="speech", text="Good morning to you.", score=0.8)
FOUND = Findings(
    senses=("objects", "speech"), found=(seen("person", 0, 4), seen("person", 1, 8), seen("dog", 4, 8), SAID)
)


class Words:
    """An encoder whose space has an axis for each word of its vocabulary; other words lie nowhere."""

    name, revision = "words", "1"

    def __init__(self, vocabulary: Vocabulary | None = None) -> None:
        self.vocabulary = vocabulary or Vocabulary(tuple(f"word{i}" for i in range(50)), (-1,) * 50)

    def encode_text(self, texts: list[str]) -> TextFeatures:
        words = self.vocabulary.words
        embed = torch.stack([torch.eye(50)[words.index(t)] if t in words else torch.zeros(50) for t in texts])
        return TextFeatures(embed[:, None], torch.ones(len(texts), 1).bool(), embed)


def segments(findings: Findings, shown: int = 0) -> list[SegmentFeatures]:
    """Two segments, 0-4 and 4-8 s, of which the first shows a word of the vocabulary."""
    part = torch.zeros(1, 1, 50), torch.zeros(1)
    embeds = torch.eye(50)[shown], torch.eye(50)[49]
    return [
        SegmentFeatures(
            4.0 * i,
            4.0 * i + 4,
            *part,
            embeds[i],
            (),
            findings.part(4.0 * i, 4.0 * i + 4, first=i == 0),
            concepts=embeds[i],
        )
        for i in range(2)
    ]


def ask(question: str, findings: Findings = FOUND) -> str | None:
    found = ground(Words(), question, findings, segments(findings))  # type: ignore[arg-type]
    return found and found.text


def test_counts_come_from_tracks_and_from_nothing_else():
    assert ask("How many people are there?") == "2 people."
    assert ask("How many people are there at 0:06?") == "1 person."
    assert ask("How many dogs are there?") == "1 dog."
    assert ask("How many cats are there?") == ask("How many windows are there?") == CANNOT_TELL
    assert ask("How many people are there?", Findings(senses=("objects",))) == NOBODY


def test_who_is_there():
    assert ask("Is there a person?") == "Yes, 2 people."
    assert ask("Is there a woman?") == "2 people are seen; I cannot tell more about them."
    assert ask("Who is in the video?") == "2 people; I cannot tell who."
    assert "the sense is off" in (ask("Is there a person?", NOTHING) or "")


def test_what_is_said_and_when():
    assert ask("What is said?") == 'At 0:05 someone says: "Good morning to you."'
    assert ask("Does anyone speak?") == "Yes, from 0:05 on."
    assert ask('When is "good morning" said?') == "From 0:05 to 0:06."
    assert ask('When is "good night" said?') == 'I did not hear "good night".'
    assert ask("What is said?", Findings(senses=("speech",))) == "Nobody speaks."
    assert ask("What is said?", Findings(senses=("speech",), sound=False)) == "The video has no sound."
    assert ask("What is said?", NOTHING) == NOT_HEARD
    assert ask("Can you hear anything?") == "Yes, from 0:05 on."
    for other in ("What music is playing?", "Can you hear a dog?"):
        assert "only speech" in (ask(other) or "")


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Does anyone mention the morning?", "Yes, from 0:05 on."),
        ("Is the morning mentioned in the video?", "Yes, from 0:05 on."),
        ("When does she say good morning?", "From 0:05 to 0:06."),
        ("At what time is the morning talked about?", "From 0:05 to 0:06."),
        ("What time do they say good morning?", "From 0:05 to 0:06."),
        ("Does the man ever talk about a train?", 'I did not hear "train".'),
        ("Does anyone mention the morn?", 'I did not hear "morn".'),  # a part of a word is another word
        ("Does anyone say anything?", "Yes, from 0:05 on."),
        ("Do they say a word?", "Yes, from 0:05 on."),
        ("Do they say anything about mornings?", "Yes, from 0:05 on."),
        ("Is anything said about an elephant?", 'I did not hear "elephant".'),
        ("Is the word 'morning' said?", "Yes, from 0:05 on."),
        ("Does anyone mention the word morn?", 'I did not hear "morn".'),
    ],
)
def test_words_are_looked_for_in_what_is_said(question: str, answer: str):
    assert ask(question) == answer
    assert ask(question, Findings(senses=("speech",))) == "Nobody speaks."


def test_several_words_are_looked_for_one_by_one():
    told = '"morning": Yes, from 0:05 on. "train": I did not hear "train".'
    assert ask("Does anyone mention a morning or a train?") == ask("Do they talk about a morning and a train?") == told
    assert ask('Is "good or bad" said?') == 'I did not hear "good or bad".'  # a quotation is one


def test_of_a_transcript_nothing_is_counted_or_picked_out():
    for question in ("How many words are spoken?", "Is morning said twice?", "What is the last word that is said?"):
        assert ask(question) == CANNOT_TELL


def test_the_language_is_that_which_was_heard():
    english, spanish = (replace(SAID, language=code) for code in ("en", "es"))
    for question in ("What language is spoken?", "In which language do they talk?", "Is French spoken?"):
        assert ask(question, replace(FOUND, found=(english, spanish, english))) == "English and Spanish."
    assert ask("What language is spoken?") == CANNOT_TELL  # subtitles do not say
    assert ask("What language is spoken?", Findings(senses=("speech",))) == "Nobody speaks."


def test_several_questions_get_an_answer_each():
    said = 'At 0:05 someone says: "Good morning to you."'
    for question in ("Who is there, and what do they say?", "Who is there? What is said?"):
        assert ask(question) == f"2 people; I cannot tell who. {said}"
    assert ask("How many dogs are there and when does someone speak?") == "1 dog. From 0:05 to 0:06."
    assert ask("Who is there and what are they doing?") == f"2 people; I cannot tell who. {CANNOT_TELL}"
    assert ask("Is there a dog? Does she mention a dog?") == 'Dog: Yes. "dog": I did not hear "dog".'
    answers = "Cat: No. Dog: Yes. Person: Yes, 2 people."
    assert ask("Is there a cat? Is there a dog? Is there a person?") == answers
    assert ask("Are there people and dogs?") == ask("Are there people or dogs?")  # things are joined, not questions
    assert ask("Hi! Who is there?") == "2 people; I cannot tell who."
    assert ask("What happens, and who is there?") == ask("What happens?")  # a description tells who is there


def test_sounds_and_writing_are_told_by_their_senses_only():
    sounds = Finding(start_s=0, end_s=5, kind="sound", text="Dog", score=0.7)
    lines = Finding(start_s=2, end_s=4, kind="text", text="EXIT", score=0.9)
    found = replace(FOUND, senses=(*FOUND.senses, "sounds", "text"), found=(sounds, lines, *FOUND.found))
    assert ask("What can be heard?", found) == (
        'At 0:05 someone says: "Good morning to you." Sounds: dog (0:00 to 0:05).'
    )
    assert ask("Can you hear a dog?", found) == "Yes, from 0:00 on."
    assert ask("Is there any sound?", found) == "Yes, from 0:00 on."
    assert ask("Is there music?", found) == CANNOT_TELL
    assert ask("What music is playing?", replace(found, found=())) == "No sound was recognised."
    assert ask("What does the sign say?", found) == 'At 0:02 it reads: "EXIT"'
    assert ask("What does the sign say?", replace(found, found=())) == "No text was read."
    assert "the sense is off" in (ask("What does the sign say?") or "")


def test_a_greeting_is_answered_without_the_video():
    assert ask("Hello!") == HELP


def test_a_thing_is_there_if_tracked_or_near_and_denied_only_by_a_sense_that_knows_it():
    assert ask("Is there a dog?") == "Yes."
    assert ask("Is there a word0?") == "Yes."  # nearer to the first segment than all others
    assert ask("Is there a word7?") == CANNOT_TELL
    assert ask("Is there a zebra?") == "No."
    assert ask("Is there a zebra?", Findings(senses=("speech",))) == CANNOT_TELL
    assert ask("Is there a bear?", Findings(senses=("objects",), found=(seen("bear", 0, 4, 0.5),))) == CANNOT_TELL


def test_a_thing_that_is_near_in_the_space_alone_is_not_affirmed():
    """A word of the vocabulary is asked of the classifier too: a shark is near to fish."""

    def told(prob: float) -> str:
        embed = 0.4 * torch.eye(50)[0] + 0.917 * torch.eye(50)[9]
        concepts = prob * torch.eye(50)[0] + (1 - prob) * torch.eye(50)[9]
        near = [replace(s, embed=embed, concepts=concepts) for s in segments(NOTHING)]
        found = ground(Words(), "Is there a word0?", NOTHING, near)  # type: ignore[arg-type]
        return found.text if found else ""

    assert told(0.001) == CANNOT_TELL and told(0.5) == "Yes."


def test_several_things_are_told_one_by_one():
    assert ask("Is there a dog or a zebra?") == "Dog: Yes. Zebra: No."
    assert ask("Is there a person and a word7?") == f"Person: Yes, 2 people. Word7: {CANNOT_TELL}"


def test_how_many_there_are_is_no_yes_or_no():
    assert ask("Are there three dogs?") == ask("Is there only one dog?") == "1 dog."
    assert ask("Are there many people?") == "2 people."
    assert ask("Are there two windows?") == CANNOT_TELL
    assert ask("Are there two black dogs?") == "1 dog; I cannot tell how many of them fit."
    assert (
        ask("Are there three men?")
        == ask("Are there three happy people?")
        == ("2 people; I cannot tell how many of them fit.")
    )
    assert ask("Are there no dogs?") == "A dog is seen." and ask("Are there no people?") == "2 people are seen."
    assert ask("Are there no zebras?") == CANNOT_TELL
    assert ask("Is there nobody?") == ask("Is no one there?") == "2 people are seen."


def test_what_is_said_of_a_thing_is_not_affirmed():
    assert (
        ask("Is there a black dog?")
        == ask("Is there a dog on the roof?")
        == ("A dog is seen; I cannot tell more about it.")
    )
    assert ask("Is there a happy person?") == "2 people are seen; I cannot tell more about them."
    assert ask("Is there a black zebra?") == "No."
    assert ask("Is there a green word7?") == CANNOT_TELL


def test_what_was_counted_is_compared():
    assert ask("Are there more people than dogs?") == "Yes, 2 people and 1 dog."
    assert ask("Are there fewer people than dogs?") == "No, 2 people and 1 dog."
    assert ask("Are there as many dogs as people?") == "No, 1 dog and 2 people."
    assert ask("Are there more dogs than zebras?") == ask("Are there more men than women?") == CANNOT_TELL
    assert "the sense is off" in (ask("Are there more people than dogs?", NOTHING) or "")


def test_a_kind_of_thing_is_answered_with_the_tags_below_it():
    words = Words(Vocabulary(("cat", "dog", "boat", "animal"), (3, 3, -1, -1)))

    def which(kind: str, *tags: Tag) -> str:
        parts = [replace(s, tags=(tag,)) for s, tag in zip(segments(NOTHING), tags, strict=True)]
        found = ground(words, f"What {kind} is shown?", NOTHING, parts)  # type: ignore[arg-type]
        assert found and len(found.evidence) == (
            0 if found.text == CANNOT_TELL else sum(t.word != "boat" for t in tags)
        )
        return found.text

    tagged = [replace(s, tags=(Tag("cat", 0.9),)) for s in segments(NOTHING, shown=48)]
    found = ground(words, "Is there an animal?", NOTHING, tagged)  # type: ignore[arg-type]
    assert found and found.text == "Yes." and [e.score for e in found.evidence] == [0.9, 0.9]
    assert which("animal", Tag("cat", 0.9), Tag("dog", 0.4)) == "Cat, then dog."
    assert which("animal", Tag("boat", 0.9), Tag("dog", 0.4)) == "Dog."
    assert which("animal", Tag("boat", 0.9), Tag("boat", 0.9)) == CANNOT_TELL
    assert which("vehicle", Tag("cat", 0.9), Tag("dog", 0.4)) == CANNOT_TELL
    tracked = Findings(senses=("objects",), found=(seen("dog", 0, 4), seen("boat", 0, 4)))
    found = ground(words, "What animal is shown?", tracked, segments(tracked))  # type: ignore[arg-type]
    assert found and found.text == "1 dog." and [e.start_s for e in found.evidence] == [0.0]


def test_a_thing_is_counted_as_it_is_described():
    """The detector is not sure of it, and the frame encoder shows it too."""
    words = Words(Vocabulary(("boat", *(f"word{i}" for i in range(1, 50))), (-1,) * 50))
    unsure = Findings(senses=("objects",), found=(seen("boat", 0, 4, 0.62),))
    for shown, answer in ((0, "1 boat."), (7, CANNOT_TELL)):
        found = ground(words, "How many boats are there?", unsure, segments(unsure, shown))  # type: ignore[arg-type]
        assert found and found.text == answer


def test_what_nothing_knows_is_not_told():
    assert ask("What is the man doing?") == ask("What colour is the dog?") == CANNOT_TELL


def test_evidence_is_where_the_findings_are():
    def spans(question: str) -> list[float]:
        found = ground(Words(), question, FOUND, segments(FOUND))  # type: ignore[arg-type]
        return [e.start_s for e in found.evidence] if found else []

    assert spans("What is said?") == spans("How many dogs are there?") == [4.0]
    assert spans("Is there a word0?") == [0.0]
    assert spans("Is there a zebra?") == spans("What music is playing?") == []


def test_a_description_gets_what_it_lacks():
    found = ground(Words(), "Describe the video.", FOUND, segments(FOUND))  # type: ignore[arg-type]
    assert found and found.describes
    assert found.completed("A dog.") == 'A dog. 2 people are seen. At 0:05 someone says: "Good morning to you."'
    assert found.completed(CANNOT_TELL).startswith("2 people and 1 dog are seen.")
    counted = found.completed("The video shows a dog. 3 people, 1 dog are seen.")
    assert counted.startswith("The video shows a dog. 2 people are seen. At"), "counts are told as they were found"
    assert found.completed('At 0:13 someone says: "Hello. You." A dog.').startswith("A dog. 2 people")
    assert found.completed("I cannot tell: nobody looked (the sense is off).").startswith("2 people and")
    assert found.completed("2 people walk a dog.").startswith("2 people walk a dog. At")
    nothing = ground(Words(), "Describe the video.", Findings(senses=("objects",)), [])  # type: ignore[arg-type]
    assert nothing and nothing.completed("3 people are seen.") == CANNOT_TELL


@pytest.mark.parametrize(
    ("text", "certain"),
    [
        ("A dog. 3", "A dog."),
        ("A dog. 3 people are", "A dog."),
        ("A dog. 3 people are seen. It", "A dog."),
        ("A dog. 3 people walk. It", "A dog. 3 people walk. It"),
        ("A dog and", "A dog and"),
    ],
)
def test_counts_are_not_streamed_before_they_are_known_to_stay(text: str, certain: str):
    assert before_findings(text) == certain


SENTENCES = (
    "A dog.",
    "The video shows a cat, then a rocket.",
    "2 people walk.",
    "3 people and 1 dog are seen.",
    "1 person; I cannot tell who.",
    "Nobody was seen.",
    'At 0:05 someone says: "Hi. You."',
    "At noon it ends.",
    "I cannot tell: nobody listened (the sense is off).",
    "I like it.",
    "The video has no sound.",
)


@given(st.lists(st.sampled_from(SENTENCES), max_size=4))
def test_what_is_streamed_of_a_description_is_the_beginning_of_what_is_left_of_it(sentences: list[str]):
    text = " ".join(sentences)
    left = without_findings(text)
    assert left == " ".join(s for s in sentences if SENTENCES.index(s) in (0, 1, 2, 7, 9))
    for length in range(len(text) + 1):
        assert left.startswith(before_findings(text[:length]).strip()), text[:length]


def test_evidence_of_a_description_is_that_of_its_words():
    assert without_findings("A cat, then a rocket. 1 cup is seen.") == "A cat, then a rocket."
    assert without_findings("2 people and 1 dog are seen.") == ""


@pytest.fixture(scope="module")
def model() -> Model:
    model = load("debug")
    return replace(model, config=replace(model.config, senses=("speech", "objects")))


@pytest.fixture(scope="module")
def video(model: Model) -> EncodedVideo:
    return encode_video(SAMPLE, model.encoder, SamplingConfig(fps=2.0))


def test_a_session_streams_such_an_answer_and_the_language_model_stays_idle(model: Model, video: EncodedVideo):
    session = ChatSession(model, replace(video, findings=FOUND))
    *pieces, answer = session.stream("How many people are there?")
    assert pieces == ["2 people."] and answer.text == "2 people." and answer.receipt.completion_tokens == 0
    assert session.messages[-1].content == "2 people."
    assert session.ask("And then?", GenerationConfig(max_new_tokens=4)).receipt.completion_tokens > 0
    *pieces, answer = session.stream("Describe the video.", GenerationConfig(max_new_tokens=4))
    assert "".join(pieces).strip() == answer.text and "2 people and 1 dog are seen." in answer.text


def test_an_answer_has_the_form_that_is_asked_for(model: Model, video: EncodedVideo):
    session = ChatSession(model, replace(video, findings=FOUND))
    *pieces, answer = session.stream("How many people are there? Answer in one word.")
    assert pieces == [answer.text] == ["2"]
    *pieces, answer = session.stream("Describe the video in upper case.", GenerationConfig(max_new_tokens=4))
    assert pieces[-1] == answer.text and answer.text.isupper() and not any(pieces[:-1])
    system = Message("system", "Answer in upper case.")
    shouting = ChatSession(model, replace(video, findings=FOUND), messages=[system])
    assert shouting.ask("How many dogs are there?").text == "1 DOG."
    assert session.ask("Answer in one word.").text == HELP


def test_one_word_cites_what_it_is_about(model: Model, video: EncodedVideo):
    seen_twice = Findings(senses=("objects",), found=(seen("dog", 4, 8), seen("boat", 8, 12)))
    answer = ChatSession(model, replace(video, findings=seen_twice)).ask("What is it? In one word.")
    about = {e.text for part in answer.evidence for e in part.findings}
    assert answer.text in ("Dog", "Boat") and about == {answer.text.lower()}


def test_earlier_turns_do_not_change_a_description(model: Model, video: EncodedVideo):
    session = ChatSession(model, video)
    first = fit_to_context(model, [Message("user", "What is this?")], [session._prompt_video], 16)
    talk = [Message("user", "How long is it?"), Message("assistant", "A DOG."), Message("user", "What is this?")]
    again = fit_to_context(model, talk, [session._prompt_video], 16)
    assert again.ids == first.ids and again.dropped_turns == 0
    talk[-1] = Message("user", "What comes first?")
    assert len(fit_to_context(model, talk, [session._prompt_video], 16)) > len(first)


def test_a_part_and_a_time_range_have_their_own_findings(model: Model, video: EncodedVideo):
    part = replace(video, findings=FOUND).part(4.0, 8.0)
    assert ChatSession(model, part).ask("How many people are there?").text == "1 person."


def test_without_a_video_it_says_what_it_does(model: Model):
    prompt = fit_to_context(model, [Message("user", "Hi!")], [], 16)
    engine = LocalEngine(model.llm, model.processor.stop_ids)
    made = generate_answer(
        model, engine, prompt, "Hi!", [], PromptCache(), GenerationConfig(max_new_tokens=16), {}, 0.0
    )
    assert [getattr(item, "text", None) for item in made] == [INTRODUCTION, INTRODUCTION]
