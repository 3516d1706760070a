"""Paraphrases of instruction data: what must not change stays, rows that lose it are refused, and training reads both
files."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data_gen.generators.base import with_transcript
from data_gen.generators.rewriting import marks, names, numbers
from data_gen.paraphrase import main
from tests.inference.chat_server import Answer, chat_server
from train.data.pairs import read_pairs
from train.data.rows import InstructionRows
from videollm.datasets.clip import Note
from videollm.datasets.schema import Message, Provenance, Sample, read

MADE = Provenance(
    source="plain", generator="template", model=None, prompt_sha=None, created="2026-01-01T00:00:00Z", seed=0
)
HEARD = with_transcript("What does Anna say?", [Note(kind="speech", text="Go home!", start=2.0, end=4.0)])
ROWS = {
    "caption": ("caption/short", "Describe the video.", "Then Anna feeds three cats at 0:04."),
    "qa": ("qa/x", "When can cats be seen?", "From 0:00.0 to 0:04.5."),
    "choice": ("choice", "Which animal is it?\nA. A dog\nB. A cat\nAnswer with the letter.", "B. A cat"),
    "speech": ("qa/speech", HEARD, "Go home!"),
}
OTHER = {
    "Describe the video.": "Say what the video shows.",
    "Then Anna feeds three cats at 0:04.": "At 0:04 three cats are fed by Anna.",
    "When can cats be seen?": "At what time are cats visible?",
    ROWS["choice"][1]: "What animal can be seen?\nA. A dog\nB. The cat\nGive the letter.",
    "What does Anna say?": "Which words does Anna say?",
}


def written(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    rows = [
        Sample(
            id=id, video="clips/a.mp4", start=1.0, end=9.0, task=task, language="en", answer_times=((1.5, 4.5),),
            messages=(Message("user", question), Message("assistant", answer)), provenance=MADE,
        )
        for id, (task, question, answer) in ROWS.items()
    ]  # fmt: skip
    path = folder / "rows.jsonl"
    path.write_text("".join(f"{row.to_json()}\n" for row in rows))
    return path


def writer(change: Callable[[str], str] = lambda text: text, asked: list[str] | None = None) -> Any:
    """Answers as a good writer does, with a change to each text."""

    def answer(body: dict[str, Any]) -> Answer:
        prompt = body["messages"][1]["content"].partition("## Texts\n")[2]
        texts = re.findall(r"^\d+\. (.*?)(?=\n\d+\. |\Z)", prompt.strip(), re.MULTILINE | re.DOTALL)
        if asked is not None:
            asked.append(body["messages"][-1]["content"])
        return 200, json.dumps({"texts": [change(OTHER[text]) for text in texts]}), {}

    return answer


def paraphrased(source: Path, url: str, *more: str) -> tuple[int, Path]:
    out = source.with_name("other.jsonl")
    return main([str(source), "--out", str(out), "--base-url", url, "--model", "t", *more]), out


def test_questions_and_captions_change_and_answers_that_are_checked_do_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    source = written(tmp_path)
    with chat_server(writer()) as url:
        status, out = paraphrased(source, url, "--seed", "3")
    assert status == 0 and "4 rows, 0 refused" in capsys.readouterr().out
    made = {row.id.removesuffix("-p3"): row for row in read(out)}
    for row in read(source):
        other = made[row.id]
        assert replace(other, id=row.id, messages=row.messages, provenance=MADE) == row
        assert (other.provenance.generator, other.provenance.model) == ("template paraphrased", "t")
        assert other.provenance.prompt_sha and other.provenance.seed == 3
        assert [marks(m.content) for m in row.messages] == [marks(m.content) for m in other.messages]
        assert other.messages[0] != row.messages[0]
    assert made["caption"].messages[1].content == "At 0:04 three cats are fed by Anna."
    assert made["qa"].messages[1].content == "From 0:00.0 to 0:04.5."
    assert made["choice"].messages[1].content == "B. The cat"  # the line of the question that it was
    assert made["speech"].messages[0].content == '[0:02.0-0:04.0] "Go home!"\nWhich words does Anna say?'
    assert made["speech"].messages[1].content == "Go home!"


@pytest.mark.parametrize(
    ("change", "row", "reason"),
    [
        (lambda text: text.replace("Anna", "she"), "caption", "must keep the names Anna"),
        (lambda text: text.replace("cats are", "cats of Bob are"), "caption", "must not have the names Bob"),
        (lambda text: text.replace("three", "some"), "caption", "must have the numbers 3"),
        (lambda text: text.replace("0:04", "0:05"), "caption", "must keep 0:04"),
        (lambda text: text.replace("\n", " "), "choice", "must keep A., B."),
        (lambda text: {v: k for k, v in OTHER.items()}[text], "qa", "the words are the same as before"),
        (lambda text: "¿Cuándo se pueden ver los gatos en este vídeo?", "qa", "reads as"),
    ],
)
def test_rows_that_lose_what_must_stay_are_refused(tmp_path: Path, change: Callable[[str], str], row: str, reason: str):
    with chat_server(writer(change)) as url:
        status, out = paraphrased(written(tmp_path), url)
    rejects = {line["item"]: line for line in map(json.loads, out.with_name("other.jsonl.rejects.jsonl").open())}
    assert status == 0 and reason in rejects[row]["reason"] and rejects[row]["step"] == "paraphrase"
    assert {r.id.removesuffix("-p0") for r in read(out)} == ROWS.keys() - rejects.keys()


def test_a_model_is_told_why_and_a_second_run_repeats_nothing(tmp_path: Path):
    source, asked = written(tmp_path), []
    with chat_server(writer(lambda text: text.replace("Anna", "she"), asked)) as url:
        status, out = paraphrased(source, url)
    assert status == 0 and any("cannot be used" in text and "must keep the names Anna" in text for text in asked)
    before = out.read_bytes()
    with chat_server(lambda body: (500, "no", {})) as url:
        assert paraphrased(source, url) == (0, out) and out.read_bytes() == before


def test_training_reads_both_files(tmp_path: Path):
    source = written(tmp_path)
    with chat_server(writer()) as url:
        _, out = paraphrased(source, url)
    rows = InstructionRows([str(source), f"{out}"])
    assert rows.sizes == [4, 4] and len({row.id for row in rows}) == 8 and len({row.video for row in rows}) == 1
    both = tmp_path / "both.jsonl"
    both.write_text(source.read_text() + out.read_text())
    assert [pair.caption for pair in read_pairs(both)] == [ROWS["caption"][2], OTHER[ROWS["caption"][2]]]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Anna sees Bob. Then I wave at O'Neil.", {"Bob", "O'Neil"}),
        ('A. A dog\nB. The "Fox"', {"Fox"}),
        ("Yes: Two cats (Tom and Kim).", {"Tom", "Kim"}),
        ("一只猫。", set()),
    ],
)
def test_names_are_words_with_a_capital_within_a_sentence(text: str, found: set[str]):
    assert names(text) == found


def test_numbers_are_counted_in_words_and_digits():
    assert numbers("One of three cats, 3 dogs and twelve mice at 0:04.") == {"3": 2, "12": 1, "04": 1}
