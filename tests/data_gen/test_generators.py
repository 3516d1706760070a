"""Templates, reviewed proposals, replies of language models, and what the filters make of samples."""

import asyncio
import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data_gen.filters import Filters
from data_gen.generators.llm import LlmGenerator, LlmJudge, annotation
from data_gen.generators.replies import REPLY_FORMATS, ReplyError, parse
from data_gen.generators.semi import SemiGenerator, propose, read_proposals
from data_gen.generators.template import TemplateGenerator, phrasings
from data_gen.prompts import prompts
from tests.inference.chat_server import chat_server
from videollm.datasets.clip import Clip, ClipQuestion, Note
from videollm.datasets.schema import FAMILIES, Message, Provenance, Sample
from videollm.errors import DataError
from videollm.inference.openai import ChatClient, EndpointError

SAMPLE = Path(__file__).parents[2] / "scripts/samples/sample.mp4"
EVENTS = (
    Note(kind="event", text="A man opens a red door.", start=0.0, end=4.0),
    Note(kind="event", text="A dog runs into the garden.", start=4.0, end=9.0),
)
CLIP = Clip(
    id="c",
    video=Path("c.mp4"),
    source="world",
    duration=10.0,
    notes=(
        Note(kind="short", text="A man lets his dog out."),
        *EVENTS,
        Note(kind="speech", text="Go!", start=2, end=3),
    ),
    questions=(
        ClipQuestion(
            kind="count", question="How many dogs are there?", answer="One.", choices=("Two", "One"), correct=1
        ),
        ClipQuestion(kind="colour", question="Which colour has the door?", answer="Red."),
    ),
    negatives=(Note(kind="short", text="A man lets his cat out."),),
)


def drafts(clip: Clip, **options: Any) -> list:
    return list(TemplateGenerator(**options).drafts(clip))


def test_templates_use_all_that_an_annotation_says():
    tasks = {draft.task for draft in drafts(CLIP)}
    assert tasks == {
        "caption/short", "caption/part", "caption/dense", "locate/event", "summary", "qa/temporal", "qa/speech",
        "qa/negative", "qa/count", "qa/colour", "choice/count", "choice/caption", "conversation",
    }  # fmt: skip
    assert drafts(CLIP) == drafts(CLIP, seed=0) != drafts(CLIP, seed=1)
    assert {d.task for d in drafts(CLIP, tasks=["choice", "summary"])} == {"choice/count", "choice/caption", "summary"}
    for draft in drafts(CLIP):
        if draft.task == "choice/count":
            assert "B. One" in draft.messages[0].content and draft.messages[1].content == "B. One"


def test_rows_about_speech_hold_the_words(tmp_path: Path):
    said = ("Wash the rice.", "Boil it.", "Let it rest.", "Serve it.")
    notes = tuple(Note(kind="speech", text=t, start=20.0 * n, end=20.0 * n + 12) for n, t in enumerate(said))
    clip = Clip(id="c", video=Path("c.mp4"), source="subtitles", duration=80.0, notes=notes)
    made = drafts(clip)
    assert {draft.task for draft in made} == {"qa/speech"} and len(made) == len(said)
    for draft in made:
        question, answer = (message.content for message in draft.messages)
        assert f'"{answer}"' in question and question.count('"') in (4, 6)  # its own words, and those around it
        assert Filters().reject(sample(question, answer, "qa/speech"), clip, grounded=False) is None
    assert LlmGenerator(ChatClient("http://127.0.0.1:1/v1", "m")).items(clip) == ["qa_speech"]
    reply = json.dumps({"items": [{"question": "What comes after washing?", "answer": "Boil it.", "lines": [2]}]})
    with chat_server(lambda body: (200, reply, {})) as url:
        (draft,) = make(url, "qa_speech", clip=clip).drafts
    assert draft.messages[0].content == '[0:20.0-0:32.0] "Boil it."\nWhat comes after washing?'


@pytest.mark.parametrize(
    "answer",
    [
        "I cannot help with that request.",
        "I’m unable to describe this video.",
        "As an AI, I do not see videos.",
        "I'm sorry, but I can't provide a caption.",
        "Lo siento, pero no puedo ayudar con eso.",
        "作为AI,我无法描述这个视频。",
    ],
)
def test_a_refusal_is_no_caption(answer: str):
    language = "zh" if "我" in answer else "es" if "Lo" in answer else "en"
    question = {"en": "Describe the video.", "es": "Describe el vídeo.", "zh": "描述一下这个视频。"}[language]
    verdict = Filters().reject(sample(question, answer, "caption/short", language), CLIP, grounded=True)
    assert verdict and verdict[0] == "blocked"
    assert Filters().reject(sample("What is behind the door?", "I cannot tell."), CLIP, grounded=True) is None


def test_every_language_has_every_phrasing_with_the_same_places():
    for task, languages in phrasings().items():
        assert languages.keys() == {"en", "zh", "es"}, task
        places = {
            language: {part for way in ways for part in way.split("$")[1:]} for language, ways in languages.items()
        }
        assert len({bool(found) for found in places.values()}) == 1, task


def test_prompts_are_whole_and_their_hash_is_that_of_the_text():
    assert len({prompt.sha for prompt in prompts().values()}) == len(prompts()) == 16
    for prompt in prompts().values():
        assert prompt.purpose and prompt.shape in REPLY_FORMATS and prompt.needs in ("", "times", "speech")
        assert prompt.task.partition("/")[0] in (*FAMILIES, "translation", "paraphrase", "judge")
        messages = prompt.render(annotation="1. seen: X", language="English", count=2, texts="T", sample="S")
        assert "{{" not in messages[0]["content"] + messages[1]["content"]


CHOICE = '{"items": [{"question": "Q?", "choices": %s}]}'


@pytest.mark.parametrize(
    ("shape", "text", "entries"),
    [
        ("qa", '{"items": [{"question": "Q?", "answer": "A", "lines": [1]}]}', [("Q?", "A", [1])]),
        ("qa", 'Sure!\n```json\n{"items": [{"question": "Q?", "answer": 3}]}\n```', [("Q?", "3", [])]),
        ("qa", "[{'question': 'Q?', 'answer': 'A'}", [("Q?", "A", [])]),
        ("qa", "Q: What?\nA: A cat.\n\nQ: Where?\nA: There.", [("What?", "A cat.", []), ("Where?", "There.", [])]),
        ("qa", '{"items": [{"question": "Q?"}, {"question": "Q?", "answer": "A"}]}', [("Q?", "A", [])]),
        ("text", "A man runs.", [("A man runs.",)]),
        ("choice", CHOICE % '["A. x", "B. y"], "correct": "B"', [("Q?", ["x", "y"], 1, [])]),
        ("choice", CHOICE % '["x", "y"], "answer": "x"', [("Q?", ["x", "y"], 0, [])]),
        ("verdict", '{"good": false, "reason": "no"}', [(False, "no")]),
    ],
)
def test_replies_are_read_leniently(shape: str, text: str, entries: list[tuple]):
    assert [tuple(entry.values()) for entry in parse(REPLY_FORMATS[shape], text)] == entries


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ("qa", "I cannot."),
        ("qa", '{"items": [{"question": "Q?"}]}'),
        ("qa", '{"items": 3}'),
        ("text", '{"text": "..."}'),
        ("choice", CHOICE % '["x", "x"], "correct": 0'),
        ("choice", CHOICE % '["x", "y"], "correct": 2'),
        ("turns", '{"items": [{"question": "Q?", "answer": "A"}]}'),
        ("verdict", '{"good": "perhaps"}'),
    ],
)
def test_useless_replies_say_why(shape: str, text: str):
    with pytest.raises(ReplyError):
        parse(REPLY_FORMATS[shape], text)


def sample(question: str, answer: str, task: str = "qa/what", language: str = "en", **changes: Any) -> Sample:
    made = Provenance(source="x", generator="llm", model=None, prompt_sha=None, created="2026-01-01T00:00:00Z", seed=0)
    return replace(
        Sample(
            id="a", video="c.mp4", start=None, end=None, task=task, language=language, answer_times=(), provenance=made,
            messages=(Message("user", question), Message("assistant", answer)),
        ),
        **changes,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("step", "bad"),
    [
        ("length", sample("What?", "A dog runs.")),
        ("length", sample("Tell a story of the dog.", "The dog runs.", task="creative")),
        ("language", sample("What does the dog do in the garden?", "El perro corre por el jardín de la casa roja.")),
        ("language", sample("What does the dog do?", "狗跑进花园里去玩耍了很长时间,然后回家")),
        ("language", sample("What does the dog do?", "It runs into the garden.", language="zh")),
        ("blocked", sample("What does the dog do?", "According to the caption, the dog runs into the garden.")),
        ("times", sample("When does the dog run?", "The dog runs at 0:15.")),
        ("times", sample("What does the dog do?", "The dog runs.", answer_times=((4.0, 12.0),))),
        ("leak", sample("Why does the man open a red door, and what is it?", "A red door.")),
        ("unsupported", sample("What does the dog do?", "It swims across the lake with a blue ball.")),
    ],
    ids=lambda value: value if isinstance(value, str) else value.messages[-1].content[:20],
)
def test_each_step_rejects_what_it_is_for(step: str, bad: Sample):
    verdict = Filters().reject(bad, CLIP, grounded=False)
    assert verdict and verdict[0] == step


def test_good_samples_pass_and_their_likes_do_not():
    filters = Filters(["garden gnome"])
    good = sample("What does the dog do after the door is open?", "The dog runs into the garden.")
    alike = sample("What does the dog do after the door is open?", "The dog runs into the garden!!")
    other = sample("Which comes first, the dog or the man?", "The man comes first.")
    assert [filters.reject(s, CLIP, grounded=False) for s in (good, other)] == [None, None]
    verdicts = [filters.reject(s, CLIP, grounded=False) for s in (good, alike)]
    assert [verdict and verdict[0] for verdict in verdicts] == ["duplicate", "near"]
    elsewhere = replace(good, video="d.mp4")
    assert filters.reject(elsewhere, CLIP, grounded=False) is None
    gnome = filters.reject(sample("Who opens the door?", "The garden gnome."), CLIP, grounded=False)
    assert gnome and gnome[0] == "blocked"
    fresh = Filters()
    fresh.remember(good)
    assert fresh.reject(good, CLIP, grounded=True) is not None


def make(url: str, item: str = "qa_spatial", clip: Clip = CLIP, **options: Any):
    async def run():
        async with ChatClient(url, "m") as client:
            return await LlmGenerator(client, **options).make(clip, item)

    return asyncio.run(run())


GOOD = json.dumps({"items": [{"question": "What colour is the door?", "answer": "The door is red.", "lines": [2, 99]}]})


def test_a_busy_server_is_asked_again_and_a_poor_one_with_less():
    seen: list[dict[str, Any]] = []

    def answer(body: dict[str, Any]) -> tuple[int, str, dict[str, str]]:
        seen.append(body)
        if "response_format" in body:
            return 400, "no response_format here", {}
        if len(seen) == 3:
            return 429, "slow down", {"Retry-After": "0.001"}
        return 200, "I think it is nice." if len(seen) == 4 else GOOD, {}

    with chat_server(answer) as url:
        made = make(url)
    assert [body.get("response_format", {}).get("type") for body in seen[:3]] == ["json_schema", "json_object", None]
    assert "cannot be used" in seen[-1]["messages"][-1]["content"] and len(seen) == 5
    (draft,) = made.drafts
    assert draft.answer_times == ((0.0, 4.0),)  # line 2's; line 99 is none
    assert draft.prompt_sha == prompts()["qa_spatial"].sha and draft.model == "m"
    assert len(made.unusable) == 1 and (made.prompt_tokens, made.completion_tokens) == (20, 10)


def test_a_model_that_never_gives_json_loses_the_item_only():
    with chat_server(lambda body: (200, "no", {})) as url:
        made = make(url)
    assert made.drafts == () and len(made.unusable) == 3


@pytest.mark.parametrize("status", [401, 404, 503])
def test_a_server_that_cannot_be_used_ends_the_run(status: int):
    answer, said = (status, "no such model", {"Retry-After": "0.001"}), f"answers {status}: .*no such model"
    with chat_server(lambda body: answer) as url, pytest.raises(EndpointError, match=said):
        make(url)


def test_translations_follow_their_originals():
    def answer(body: dict[str, Any]) -> tuple[int, str, dict[str, str]]:
        translating = "Translate each" in body["messages"][1]["content"]
        return 200, json.dumps({"texts": ["¿De qué color es?", "Es roja."]}) if translating else GOOD, {}

    with chat_server(answer) as url:
        original, translated = make(url, languages=["en", "es"]).drafts
    assert (translated.language, translated.origin, translated.answer_times) == ("es", 0, original.answer_times)
    assert translated.prompt_sha == prompts()["translation"].sha


def test_a_judge_says_why():
    async def judge(url: str):
        async with ChatClient(url, "j") as client:
            return await LlmJudge(client).verdict(sample("What is it?", "A dog."), CLIP)

    with chat_server(lambda body: (200, '{"good": false, "reason": "there is a cat"}', {})) as url:
        verdict = asyncio.run(judge(url))
    assert verdict.reason == "there is a cat" and verdict.prompt_tokens == 10


def test_an_annotation_tells_what_is_seen_from_what_is_heard():
    lines = annotation(CLIP).splitlines()
    assert lines == [
        "(the video from 0:00.0 to 0:10.0)",
        "1. seen: A man lets his dog out.",
        "2. 0:00.0-0:04.0 seen: A man opens a red door.",
        '3. 0:02.0-0:03.0 heard: "Go!"',
        "4. 0:04.0-0:09.0 seen: A dog runs into the garden.",
    ]


@pytest.mark.slow
def test_proposals_are_reviewed_and_merged(tmp_path: Path):
    clip = Clip(id="sample", video=SAMPLE, source="plain", duration=12.0)
    review = tmp_path / "review.csv"
    assert propose([clip], review, None) == 3
    rows = read_proposals(review)
    assert "cat" in rows[0].caption and all((tmp_path / row.key_frame).is_file() for row in rows)
    assert SemiGenerator(review).items(clip) == []

    def decide(*decisions: tuple[str, str]) -> None:
        with review.open(newline="") as file:
            table = list(csv.DictReader(file))
        for row, (decision, text) in zip(table, decisions, strict=True):
            row |= {"decision": decision, "text": text}
        with review.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(table[0]))
            writer.writeheader()
            writer.writerows(table)

    decide(("edit", "A cat looks around."), ("Accept", ""), ("reject", ""))
    generator = SemiGenerator(review)
    assert generator.items(clip) == [""]
    made = asyncio.run(generator.make(clip, "")).drafts
    dense = next(draft for draft in made if draft.task == "caption/dense")
    assert "0:00.0-0:04.0 A cat looks around." in dense.messages[1].content and "rocket" not in str(made)
    decide(("edit", ""), ("accept", ""), ("reject", ""))
    with pytest.raises(DataError, match="row 2: an edit needs its text"):
        SemiGenerator(review)
    decide(("maybe", ""), ("accept", ""), ("reject", ""))
    with pytest.raises(DataError, match="accept, edit, reject"):
        SemiGenerator(review)
