"""The schema of instruction data, and the command that checks files of it."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fork_server import python
from videollm.cli import main
from videollm.datasets.schema import Message, Provenance, Sample, check, format_time, quantile, read, stats, words
from videollm.errors import DataError, VideoNotFoundError

SAMPLE = Path(__file__).parents[2] / "scripts/samples/sample.mp4"
TURN = (Message("user", "What is it?"), Message("assistant", "A cat."))
GOOD = Sample(
    id="a",
    video="a.mp4",
    start=None,
    end=None,
    task="qa/what",
    language="en",
    messages=TURN,
    answer_times=((0.0, 4.0),),
    provenance=Provenance(
        source="csv", generator="template", model=None, prompt_sha=None, created="2026-01-01T00:00:00+00:00", seed=0
    ),
)

texts = st.text(min_size=1).filter(str.strip)
times = st.floats(0, 1e4)


FOUND = replace(GOOD, provenance=replace(GOOD.provenance, model="a + b", score=0.75, threshold=0.6, reviewed=True))


def test_what_models_found_keeps_its_score_and_other_rows_stay_as_they_were():
    assert Sample.from_json(FOUND.to_json()) == FOUND
    assert not {"score", "threshold", "reviewed"} & json.loads(GOOD.to_json())["provenance"].keys()


@given(texts, texts, st.lists(st.tuples(texts, texts), min_size=1), st.lists(st.tuples(times, times).map(sorted)))
def test_a_sample_survives_its_line(name: str, video: str, turns: list[tuple[str, str]], spans: list[list[float]]):
    messages = [Message(role, m) for turn in turns for role, m in zip(("user", "assistant"), turn, strict=True)]
    sample = replace(GOOD, id=name, video=video, messages=tuple(messages), answer_times=tuple((a, b) for a, b in spans))
    line = sample.to_json()
    assert Sample.from_json(line) == sample
    assert "\n" not in line
    assert list(sample.turns()) == turns


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"id": " "}, "id is empty"),
        ({"task": "riddle"}, "caption, qa"),
        ({"language": "english please"}, "code such as en"),
        ({"start": 5.0, "end": 5.0}, "0 <= start < end"),
        ({"start": float("nan")}, "0 <= start < end"),
        ({"start": 4.0, "end": 6.0}, "outside the part"),
        ({"answer_times": ((3.0, 2.0),)}, "0 <= start <= end"),
        ({"messages": TURN[:1]}, "assistant last"),
        ({"messages": TURN[::-1]}, "alternate"),
        ({"messages": ()}, "alternate"),
        ({"messages": (TURN[0], Message("assistant", " \n"))}, "empty"),
        ({"messages": (*TURN, Message("system", "x"), *TURN)}, "alternate"),
        ({"provenance": replace(GOOD.provenance, created="2026-01-01")}, "time zone"),
        ({"provenance": replace(GOOD.provenance, created="yesterday")}, "ISO 8601"),
        ({"provenance": replace(GOOD.provenance, score=1.5)}, "provenance.score is 1.5"),
    ],
)
def test_what_is_wrong_is_said(changes: dict, reason: str):
    with pytest.raises(DataError, match=reason):
        replace(GOOD, **changes)


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda row: row.pop("task"), "no task"),
        (lambda row: row.update(extra=1), "unknown field extra"),
        (lambda row: row.update(start="0"), "start '0'"),
        (lambda row: row.update(start=True), "start True"),
        (lambda row: row.update(messages=["hello"]), "must be an object with role, content"),
        (lambda row: row["messages"][0].update(content=None), "content None"),
        (lambda row: row.update(answer_times=[[1]]), r"\[start, end\]"),
        (lambda row: row["provenance"].pop("seed"), "no seed"),
        (lambda row: row["provenance"].update(reviewed=1), "reviewed 1"),
        (lambda row: row["provenance"].update(score=True), "score True"),
    ],
)
def test_lines_of_another_shape_are_refused(edit, reason: str):
    row = json.loads(GOOD.to_json())
    edit(row)
    with pytest.raises(DataError, match=reason):
        Sample.from_json(json.dumps(row))


def test_a_line_that_is_no_object_is_refused():
    for line in ("", "{", "[]", "3"):
        with pytest.raises(DataError):
            Sample.from_json(line)


def test_words_count_chinese_by_character():
    assert words("The cat's 2 legs.") == ["the", "cat", "s", "2", "legs"]
    assert words("红色圆形 moves") == ["红", "色", "圆", "形", "moves"]


@pytest.mark.parametrize(
    ("seconds", "decimals", "text"),
    [
        (4.4, 0, "0:04"),
        (59.6, 0, "1:00"),
        (750, 0, "12:30"),
        (3723, 0, "1:02:03"),
        (4.21, 1, "0:04.2"),
        (59.96, 1, "1:00.0"),
    ],
)
def test_times_are_written_as_clocks_show_them(seconds: float, decimals: int, text: str):
    assert format_time(seconds, decimals) == text


def write(path: Path, *lines: Sample | str) -> Path:
    path.write_text("".join((line if isinstance(line, str) else line.to_json()) + "\n" for line in lines))
    return path


def test_check_finds_what_only_other_rows_and_files_show(tmp_path: Path):
    file = write(
        tmp_path / "data.jsonl",
        GOOD,
        GOOD,
        "{}",
        replace(GOOD, id="b"),
        replace(GOOD, id="c", answer_times=((9.0, 12.0),)),
        replace(GOOD, id="d", start=1.0, end=12.0, answer_times=()),
        replace(GOOD, id="e", video="none.mp4"),
        replace(GOOD, id="f", start=1.0, answer_times=((1.0, 10.05),)),
    )
    asked = []

    def duration_s(path: Path) -> float:
        asked.append(path.name)
        if path.name == "none.mp4":
            raise VideoNotFoundError(path, "no such file")
        return 10.0

    found = check(file, duration_s)
    rows = [p.row for p in found.problems]
    assert (found.rows, found.videos) == (8, 2)
    assert rows == [2, 2, 3, 4, 5, 5, 6, 7]
    assert "row 1" in str(found.problems[0]) and "no such file" in str(found.problems[-1])
    assert asked == ["a.mp4", "none.mp4"]


def test_read_names_the_row(tmp_path: Path):
    file = write(tmp_path / "data.jsonl", GOOD, "no JSON")
    with pytest.raises(DataError, match="row 2: not JSON"):
        list(read(file))
    with pytest.raises(DataError, match="cannot be read"):
        list(read(tmp_path / "none.jsonl"))


def test_stats_count(tmp_path: Path):
    talk = replace(GOOD, id="b", task="conversation", language="zh", messages=TURN * 3, video="b.mp4")
    found = stats(read(write(tmp_path / "data.jsonl", GOOD, talk)))
    assert (found.rows, found.videos) == (2, 2)
    assert found.tasks == {"qa/what": 1, "conversation": 1} and found.languages == {"en": 1, "zh": 1}
    assert found.turns == {1: 1, 3: 1} and found.question_words == {3: 4} and found.answer_words == {2: 4}
    assert "qa/what 1" in str(found)


@given(st.lists(st.integers(0, 50), min_size=1), st.floats(0.01, 1))
def test_quantile_is_that_of_the_sorted_list(values: list[int], share: float):
    counts = {v: values.count(v) for v in values}
    reached = quantile(counts, share)
    assert sum(v <= reached for v in values) >= share * len(values)
    assert sum(v < reached for v in values) < share * len(values)


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [python(), "-m", "videollm.cli", "data", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_the_command_checks_real_files(tmp_path: Path):
    good = replace(GOOD, video=str(SAMPLE))
    done = run("check", write(tmp_path / "good.jsonl", good))
    assert (done.returncode, done.stderr) == (0, "") and "1 rows, 1 videos, 0 problems" in done.stdout
    late = replace(good, id="b", start=4.0, answer_times=((11.0, 14.0),))
    done = run("check", write(tmp_path / "bad.jsonl", good, late), "--json")
    (problem,) = json.loads(done.stdout)["problems"]
    assert done.returncode == 2 and problem["row"] == 2 and "lasts 12.00 s" in problem["reason"]
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_the_command_counts(tmp_path: Path):
    file = write(tmp_path / "data.jsonl", GOOD)
    assert json.loads(run("stats", file, "--json").stdout)["tasks"] == {"qa/what": 1}
    assert run("stats", tmp_path / "none.jsonl").returncode == 2
    assert run("check", write(tmp_path / "empty.jsonl")).returncode == 2


def test_features_lists_unusable_videos_and_fails_where_none_is_usable(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "text.mp4").write_text("not a video")
    gone, text = replace(GOOD, video="gone.mp4"), replace(GOOD, video="text.mp4")
    text_alone = replace(GOOD, video="", answer_times=())
    options = ["--model", "debug", "--out", str(tmp_path / "features")]
    assert main(["features", str(write(tmp_path / "bad.jsonl", gone, text, text_alone)), *options]) == 2
    said = capsys.readouterr()
    (line,) = said.err.strip().splitlines()
    assert "none of 2 videos can be used; gone.mp4: no such file" in line and said.out == ""

    some = write(tmp_path / "some.jsonl", gone, replace(GOOD, video=str(SAMPLE)))
    assert main(["features", str(some), *options, "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["videos"], made["new"], made["problems"].keys()) == (2, 1, {"gone.mp4"})
    assert main(["features", str(write(tmp_path / "text.jsonl", text_alone)), *options]) == 0
