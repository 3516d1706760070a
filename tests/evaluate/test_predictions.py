"""Predictions of other programs are scored as they are meant, or refused with their line."""

import json
import re
import string
from pathlib import Path

import pytest

from videollm.cli import main
from videollm.evaluate.metrics.answers import contains, exact, f1

ITEMS = {
    "mcqa": {"question": "Which?", "references": ["a cat"], "choices": ["a dog", "a cat", "B"]},
    "openqa": {"question": "What?", "references": ["A"]},
    "caption": {"references": ["a cat sits"]},
    "dense": {"references": ["a cat", "a dog"], "spans": [[0, 2], [2, 4]]},
    "grounding": {"question": "a cat", "spans": [[0, 2]]},
    "classify": {"references": ["cat"], "choices": ["dog", "cat"]},
    "summary": {"references": ["a cat"], "spans": [[0, 2]]},
    "retrieval": {"question": "a cat"},
}


def score(
    folder: Path, capsys, task: str, prediction: object, id: object = "0", items: dict | None = None
) -> tuple[int, dict, str]:
    """The exit code, the scores and the message of scoring one prediction."""
    (folder / "items.jsonl").write_text(json.dumps({"id": "0", "video": "v.mp4", **(items or ITEMS[task])}) + "\n")
    (folder / "p.jsonl").write_text("\n" + json.dumps({"id": id, "prediction": prediction}))
    options = ["--task", task, "--data", str(folder), "--out", str(folder / "out"), "--json"]
    code = main(["eval", "score", str(folder / "p.jsonl"), *options])
    printed = capsys.readouterr()
    scores = json.loads(printed.out)["scores"] if printed.out else {}
    return code, {name: cell["value"] for name, cell in scores.items()}, printed.err


@pytest.mark.parametrize("choice", [1, "b", "(B)", "B.", "The answer is B", "a cat", " A CAT "])
def test_choices_are_understood(choice, tmp_path, capsys):
    items = ITEMS["mcqa"] | {"choices": ["a dog", "a cat", "a bird"]}
    code, scores, _ = score(tmp_path, capsys, "mcqa", {"choice": choice}, items=items)
    assert code == 0 and scores["accuracy"] == 1


REFUSED = [
    *(("mcqa", {"choice": c}, "choice is") for c in (True, [1], 3, -1, 99, "1", "0", "", "D", "neither", "B", 1.0)),
    ("mcqa", {"cloze": 1}, "it has no 'choice'"),
    *(("openqa", {"answer": a}, "answer is") for a in (None, 2, ["A"])),
    ("openqa", {}, "it has no 'answer'"),
    ("caption", {"answer": None}, "answer is"),
    ("dense", {"captions": [[0, 1]]}, "captions has [0, 1]; each is [start, end, text]"),
    ("dense", {"captions": [[2, 1, "x"]]}, "it must be 0 <= start <= end"),
    ("dense", {"captions": [["0", 1, "x"]]}, "each is [start, end, text]"),
    ("grounding", {"spans": [[0, 1]]}, "each is [start, end, score]"),
    ("grounding", {"spans": [0, 1, 2]}, "each is [start, end, score]"),
    ("classify", {"labels": [["bird", 0.5]]}, "labels has 'bird', which is no label"),
    ("classify", {"labels": ["cat"]}, "each is [label, probability]"),
    ("summary", {"answer": "a", "parts": [[0]]}, "each is [start, end, text]"),
    ("retrieval", {"scores": ["1"]}, "each is a number"),
    ("openqa", [], "prediction is [], not an object"),
]


@pytest.mark.parametrize(("task", "prediction", "reason"), REFUSED)
def test_other_forms_are_refused_with_their_line(task, prediction, reason, tmp_path, capsys):
    code, _, message = score(tmp_path, capsys, task, prediction)
    assert code == 2 and "p.jsonl line 2 is not a prediction" in message and reason in message
    assert message.count("\n") == 1


def test_scores_of_another_number_of_videos_and_ids_that_are_no_text(tmp_path, capsys):
    code, _, message = score(tmp_path, capsys, "retrieval", {"scores": [1.0, 2.0]})
    assert code == 2 and "has 2 scores; it must have one for each of the 1 videos" in message
    code, _, message = score(tmp_path, capsys, "openqa", {"answer": "A"}, id=0)
    assert code == 2 and "line 2 is not a prediction: id is 0, not a text" in message


@pytest.mark.parametrize(
    ("task", "prediction"),
    [
        ("openqa", {"answer": ""}),
        ("openqa", {"answer": "the"}),
        ("caption", {"answer": ""}),
        ("dense", {"captions": []}),
        ("grounding", {"spans": []}),
        ("classify", {"labels": []}),
        ("summary", {"answer": "", "parts": []}),
    ],
)
def test_empty_predictions_score_nothing(task, prediction, tmp_path, capsys):
    code, scores, _ = score(tmp_path, capsys, task, prediction)
    assert code == 0 and set(scores.values()) <= {0.0, None} and scores


@pytest.mark.parametrize("measure", [exact, f1, contains])
@pytest.mark.parametrize("right", ["A", "the", "?", "+", "♥", "an"])
@pytest.mark.parametrize("given", ["", " ", "...", "the a"])
def test_an_answer_without_words_equals_nothing(measure, right, given):
    assert measure(given, [right]) == 0 or (measure is not exact and given == "the a" and right != "?")
    assert exact(right, [right]) == 1 == f1(right, [right])


# Words that differ in a vowel or tone only, words with their parts, and different spellings of one word.
PAIRS = [
    ("की", "का"), ("किताब", "कताब"), ("कि", "क"), ("हिंदी", "हिंदी"),
    ("ไม้", "ไม"), ("น้ำ", "นำ"), ("ไทย", "ไทย"),
    ("が", "か"), ("パン", "ハン"), ("ぱぱ", "はは"), ("ガラス", "ガラス"),
    ("কাজ", "কজ"), ("مدرسة", "مدرس"), ("한국", "한국"),
]  # fmt: skip


def normalised_as_squad_does(text: str) -> str:
    """The rules of SQuAD's evaluation: lower case, no ASCII punctuation, no English articles, single spaces."""
    plain = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", plain).split())


@pytest.mark.parametrize(("given", "right"), PAIRS)
def test_marks_of_other_scripts_are_letters_as_for_squad(given, right):
    same = normalised_as_squad_does(given) == normalised_as_squad_does(right)
    assert exact(given, [right]) == same
    assert (f1(given, [right]) == 1) == same


def test_accents_of_latin_letters_are_left_out():
    assert exact("un cafe\u0301", ["Un CAFÉ"]) == 1 == exact("Zurich", ["Zürich"])
    assert exact("é", ["e"]) == 1 and exact("Ёлка", ["Елка"]) == 1
