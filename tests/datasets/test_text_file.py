"""Rows are read in one way everywhere: whatever `data check` passes, training takes, and evaluation reads alike."""

import json
from pathlib import Path

import pytest

from train.data.pairs import CaptionPair, VideoInterval, read_pairs, write_pairs
from train.data.rows import InstructionRows
from videollm.datasets import schema
from videollm.datasets.annotation_file import AnnotationFile
from videollm.datasets.text_file import lines, parse_json
from videollm.errors import ConfigError, DataError
from videollm.evaluate.run import read as read_predictions

ROW = {
    "id": "1", "video": "", "start": None, "end": None, "task": "qa", "language": "en",
    "messages": [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "A \u2028 \x85 boat."}],
    "answer_times": [],
    "provenance": {"source": "s", "generator": "g", "model": None, "prompt_sha": None,
                   "created": "2026-01-31T12:00:00+00:00", "seed": 0},
}  # fmt: skip
GOOD = json.dumps(ROW, ensure_ascii=False)
SECOND = json.dumps(ROW | {"id": "2", "language": "es"} | {"messages": [*ROW["messages"], *ROW["messages"]]})
ENCODED = {
    "LF": f"{GOOD}\n{SECOND}\n".encode(),
    "CR": f"{GOOD}\r{SECOND}\r".encode(),
    "CR LF": f"{GOOD}\r\n{SECOND}".encode(),
    "mark": f"{GOOD}\n{SECOND}\n".encode("utf-8-sig"),
    "UTF-16": f"{GOOD}\n{SECOND}\n".encode("utf-16"),
}
BAD = {
    "latin-1": (f"{GOOD}\n".encode() + "{'é'}".encode("latin-1"), "row 2 is not UTF-8 text"),
    "nul": (f"{GOOD}\n\0".encode(), "row 2 has a NUL character"),
    "surrogate": (f"{GOOD}\n{SECOND}".replace("What?", "\\ud83d").encode(), "row 1: it has half of a surrogate pair"),
    "deep": (("[" * 100_000).encode(), "row 1: it is nested deeper than 64 levels"),
    "digits": (GOOD.replace('"seed": 0', f'"seed": {"9" * 5000}').encode(), "row 1: the number 99999999999999999999"),
    "infinite": (GOOD.replace('"start": null', '"start": 1e999').encode(), "row 1: the number 1e999 is too large"),
    "not a number": (GOOD.replace('"start": null', '"start": NaN').encode(), "row 1: not JSON: NaN is no number"),
    "nul in a path": (GOOD.replace('"video": ""', '"video": "a\\u0000b"').encode(), "row 1: video has a NUL character"),
}


def verdicts(path: Path) -> list[str]:
    """What checking and training say of a file, "" where they take it."""
    found = []
    try:
        checked = schema.check(path, lambda _: 1.0)
        found.append("; ".join(str(problem) for problem in checked.problems))
    except DataError as error:
        found.append(str(error))
    try:
        assert len(InstructionRows([str(path)])) > 0
        found.append("")
    except DataError as error:
        found.append(str(error))
    return found


@pytest.mark.parametrize("name", ENCODED)
def test_rows_in_every_encoding_and_with_every_end_of_line(name, tmp_path):
    path = tmp_path / "rows=1.jsonl"
    path.write_bytes(ENCODED[name])
    assert verdicts(path) == ["", ""]
    assert next(schema.read(path)).to_json() == GOOD
    file = AnnotationFile(path, tmp_path)
    assert [row["id"] for _, row in file.rows()] == ["1", "2"] and not file.broken.count


@pytest.mark.parametrize("name", BAD)
def test_bad_rows_are_named_alike_by_checking_and_training(name, tmp_path):
    path = tmp_path / "rows.jsonl"
    content, reason = BAD[name]
    path.write_bytes(content)
    for verdict in verdicts(path):
        assert reason in verdict, verdict
        assert len(verdict) < 400 and verdict.isprintable()


def test_what_is_written_is_read_again(tmp_path):
    pairs = [CaptionPair(VideoInterval(tmp_path / "v=1.mp4", 0.5, 2.0), "a \u2028 b \x85 c", "g", ("wrong\u2029",))]
    write_pairs(tmp_path / "pairs.jsonl", pairs)
    assert read_pairs(tmp_path / "pairs.jsonl") == pairs
    (tmp_path / "p.CSV").write_text('video,caption\r\nv.mp4,"two\nlines"\r\n', encoding="utf-16")
    assert [pair.caption for pair in read_pairs(tmp_path / "p.CSV")] == ["two\nlines"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("[1]", r"row 2: \[1\] is not an object"),
        ("{", "row 2: not JSON"),
        ('{"video": "v", "caption": "c", "start": "zero"}', "row 2: start is 'zero'; write a number of seconds"),
        ('{"video": "v", "caption": "c", "end": "0:00"}', "row 2: end is '0:00'"),
        ('{"video": "v", "caption": "c", "end": -1}', "row 2: end is -1"),
        ('{"video": 1, "caption": "c"}', "row 2: has 'video', 'caption'; it needs"),
        ('{"video": "v", "caption": "c", "false": "x"}', "row 2: false is 'x'; it is a list"),
    ],
)
def test_bad_pairs_are_named(line, reason, tmp_path):
    (tmp_path / "p.jsonl").write_text('{"video": "v", "caption": "c"}\n' + line + "\n\n")
    with pytest.raises(DataError, match=reason):
        read_pairs(tmp_path / "p.jsonl")


@pytest.mark.parametrize("weight", ["x", "nan", "inf", "-1", ""])
def test_weights_are_numbers(weight, tmp_path):
    with pytest.raises(ConfigError, match="write FILE, or FILE=WEIGHT with a number above 0"):
        InstructionRows([f"{tmp_path}/rows.jsonl={weight}"])


def test_predictions_are_read_like_rows(tmp_path):
    path = tmp_path / "p.jsonl"
    text = '{"id": "1", "prediction": {"answer": "a\u2028b"}}\r{"id": "2", "prediction": {"answer": "\x85"}}'
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        path.write_bytes(text.encode(encoding))
        assert [row.prediction["answer"] for row in read_predictions(path)["video"].values()] == ["a\u2028b", "\x85"]


def test_json_has_limits():
    assert parse_json("[" * 64 + "]" * 64) and parse_json('"\\ud83d\\ude00"') == "😀"
    assert parse_json(json.dumps("[" * 1000)) == "[" * 1000 and parse_json('"\\\\ud83d"') == "\\ud83d"
    with pytest.raises(DataError, match="deeper than 64"):
        parse_json("[" * 65 + "]" * 65)


def test_a_file_that_is_not_there(tmp_path):
    for path in (tmp_path / "none", tmp_path, f"{tmp_path}/\0"):
        with pytest.raises(DataError, match="cannot be read"):
            list(lines(path))
