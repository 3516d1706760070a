"""Translation of instruction data: what is not language stays, and rows that lose it are refused."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_gen.generators.base import with_transcript
from data_gen.generators.rewriting import marks
from data_gen.translate import main
from tests.inference.chat_server import Answer, chat_server
from tests.serve.conftest import starting
from videollm.datasets.clip import Note
from videollm.datasets.schema import Message, Provenance, Sample, read

MADE = Provenance(
    source="plain", generator="auto", model="m", prompt_sha=None, created="2026-01-01T00:00:00Z", seed=0, score=0.9
)
HEARD = with_transcript("What is said from 0:02 to 0:04?", [Note(kind="speech", text="Go home!", start=2.0, end=4.0)])
ROWS = {
    "when": ("When can cats be seen?", "From 0:00.0 to 0:04.5, in <video>."),
    "choice": ("Which animal is it?\nA. A dog\nB. A cat\nAnswer with the letter.", "B. A cat"),
    "speech": (HEARD, "Go home!"),
}
SPANISH = {
    "When can cats be seen?": "¿Cuándo se pueden ver los gatos?",
    "From 0:00.0 to 0:04.5, in <video>.": "De 0:00.0 a 0:04.5, en <video>.",
    ROWS["choice"][0]: "¿Qué animal es este?\nA. Un perro\nB. Un gato\nResponde con la letra.",
    "What is said from 0:02 to 0:04?": "¿Qué se dice de 0:02 a 0:04?",
}


def written(folder: Path) -> Path:
    (folder / "in").mkdir()
    (folder / "out").mkdir()
    rows = [
        Sample(
            id=id, video="clips/a.mp4", start=1.0, end=9.0, task="qa/x", language="en", answer_times=((1.5, 4.5),),
            messages=(Message("user", question), Message("assistant", answer)), provenance=MADE,
        )
        for id, (question, answer) in ROWS.items()
    ]  # fmt: skip
    path = folder / "in/rows.jsonl"
    path.write_text("".join(f"{row.to_json()}\n" for row in rows))
    return path


def translator(change: Callable[[str], str] = lambda text: text, asked: list[str] | None = None) -> Any:
    """Answers as a good translator does, with a change to each text."""

    def answer(body: dict[str, Any]) -> Answer:
        prompt = body["messages"][1]["content"].partition("## Texts\n")[2]
        texts = re.findall(r"^\d+\. (.*?)(?=\n\d+\. |\Z)", prompt.strip(), re.MULTILINE | re.DOTALL)
        if asked is not None:
            asked.append(body["messages"][-1]["content"])
        return 200, json.dumps({"texts": [change(SPANISH[text]) for text in texts]}), {}

    return answer


def translate(source: Path, url: str, *more: str) -> tuple[int, Path]:
    out = source.parents[1] / "out/es.jsonl"
    return main([str(source), "--out", str(out), "--language", "es", "--base-url", url, "--model", "t", *more]), out


def test_rows_keep_all_but_their_language(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source = written(tmp_path)
    with chat_server(translator()) as url:
        status, out = translate(source, url)
    assert status == 0 and "3 rows, 0 refused" in capsys.readouterr().out
    made = {row.id: row for row in read(out)}
    for row in read(source):
        other = made[row.id]
        assert (other.start, other.end, other.task, other.answer_times) == (1.0, 9.0, row.task, row.answer_times)
        assert (other.video, other.language) == ("../in/clips/a.mp4", "es")
        assert (other.provenance.generator, other.provenance.model) == ("auto translated", "t")
        assert other.provenance.prompt_sha and other.provenance.score == 0.9
        assert [marks(m.content) for m in row.messages] == [marks(m.content) for m in other.messages]
    assert made["choice"].messages[1].content == "B. Un gato"
    assert [m.content for m in made["speech"].messages] == [
        '[0:02.0-0:04.0] "Go home!"\n¿Qué se dice de 0:02 a 0:04?', "Go home!",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: text.replace("0:04.5", "0:05.4").replace("0:02", "2"), "must keep 0:0"),
        (lambda text: text.replace("<video>", "el vídeo"), "must keep 0:00.0, 0:04.5, <video>"),
        (lambda text: text.replace("\n", " "), "must keep A., B."),
    ],
)
def test_rows_that_lose_a_mark_are_asked_for_again_and_then_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Callable[[str], str], reason: str
):
    asked: list[str] = []
    with chat_server(translator(change, asked)) as url:
        status, out = translate(written(tmp_path), url)
    rejects = [json.loads(line) for line in out.with_name("es.jsonl.rejects.jsonl").read_text().splitlines()]
    assert status == 0 and rejects and len(rejects) + len(list(read(out))) == len(ROWS)
    assert any(reason in row["reason"] for row in rejects) and all(row["step"] == "translation" for row in rejects)
    assert any("cannot be used" in text and reason in text for text in asked)
    assert f"{len(rejects)} refused" in capsys.readouterr().out


def test_a_reply_in_the_wrong_language_is_refused_and_a_second_run_repeats_nothing(tmp_path: Path):
    source = written(tmp_path)
    english = {spanish: text for text, spanish in SPANISH.items()}
    with chat_server(translator(lambda text: english[text])) as url:
        status, out = translate(source, url)
    refused = {json.loads(line)["id"] for line in out.with_name("es.jsonl.rejects.jsonl").open()}
    assert status == 0 and "choice" in refused and {row.id for row in read(out)} == ROWS.keys() - refused
    before = out.read_bytes()
    with chat_server(lambda body: (500, "no", {})) as url:
        assert translate(source, url) == (0, out) and out.read_bytes() == before


def test_a_file_is_not_translated_into_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source = written(tmp_path)
    status = main([str(source), "--out", str(source), "--language", "es", "--base-url", "http://x/v1", "--model", "t"])
    assert status == 2 and "choose another" in capsys.readouterr().err


@pytest.mark.slow
def test_a_real_server_whose_model_cannot_translate_gives_no_wrong_row(tmp_path: Path):
    """The random model of `debug` behind `videollm serve`: its replies have the form, and not the marks."""
    source = written(tmp_path)
    with starting(tmp_path) as start:
        url = f"{start('--model', 'debug').ready().url}/v1"
        status, out = translate(source, url, "--concurrency", "1", "--model", "debug")
    refused = [json.loads(line)["id"] for line in out.with_name("es.jsonl.rejects.jsonl").open()]
    assert status == 0 and sorted([*refused, *(row.id for row in read(out))]) == sorted(ROWS)
    for row in read(out):
        question, answer = ROWS[row.id]
        assert [marks(m.content) for m in row.messages] == [marks(question), marks(answer)]
