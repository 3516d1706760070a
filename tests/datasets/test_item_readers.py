"""Published datasets as their folders are laid out, in miniature: what is read, what is said of what is not whole."""

import csv
import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from tests.evaluate.conftest import evaluate, write_lines
from videollm.datasets.evaluation_folder import EvaluationData, ItemQuery
from videollm.datasets.item import Item
from videollm.datasets.mvbench import FOLDERS
from videollm.datasets.registry import ITEM_READERS, choose_item_reader
from videollm.errors import DataError
from videollm.evaluate.tasks import TASKS


def written(rows: Any) -> str:
    return json.dumps(rows)


def lined(rows: list[Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def tabled(rows: list[dict[str, Any]], delimiter: str = ",") -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


@dataclass(frozen=True)
class FolderCase:
    """files: what the folder holds. expected: of the first item."""

    reader: str
    task: str
    files: dict[str, str]
    video: str
    expected: dict[str, Any]
    items: int = 1


MC = {"choices": ("a", "b", "c", "d", "e")}
FIVE = {f"a{n}": "abcde"[n] for n in range(5)}
TGIF = {"gif_name": "g1", "question": "What?"}
CASES = [
    FolderCase(
        "msrvtt-qa",
        "openqa",
        {"test_qa.json": written([{"id": 7, "video_id": 7010, "question": "What is cut?", "answer": "paper"}])},
        "videos/video7010.mp4",
        {"id": "7", "question": "What is cut?", "references": ("paper",), "slices": {"kind": "what", "split": "test"}},
    ),
    FolderCase(
        "msvd-qa",
        "openqa",
        {
            "test_qa.json": written([{"id": 1, "video_id": 2, "question": "Who?", "answer": "man"}]),
            "youtube_mapping.txt": "aa_1_5 vid1\nbb_2_9 vid2\n",
            "videos/bb_2_9.avi": "",
        },
        "videos/bb_2_9.avi",
        {"references": ("man",)},
    ),
    FolderCase(
        "tgif-qa",
        "openqa",
        {
            "Test_frameqa_question.csv": tabled([TGIF | {"answer": "cat"}], "\t"),
        },
        "videos/g1.gif",
        {"id": "frameqa/1", "references": ("cat",)},
    ),
    FolderCase(
        "tgif-qa",
        "mcqa",
        {
            "Test_action_question.csv": tabled(
                [TGIF | {f"a{n + 1}": "abcde"[n] for n in range(5)} | {"answer": 3}], "\t"
            )
        },
        "videos/g1.gif",
        {"references": ("d",), **MC},
    ),
    FolderCase(
        "activitynet-qa",
        "openqa",
        {
            "test_q.json": written([{"question_id": "x_1", "video_name": "x", "question": "is it?"}]),
            "test_a.json": written([{"question_id": "x_1", "answer": "yes", "type": 3}]),
        },
        "videos/v_x.mp4",
        {"id": "x_1", "references": ("yes",), "slices": {"kind": "yes/no", "split": "test"}},
    ),
    FolderCase(
        "next-qa",
        "mcqa",
        {
            "test.csv": tabled(
                [{"video": 3, "qid": 5, "question": "why did he run", "answer": 2, "type": "CW"} | FIVE]
            ),
            "map_vid_vidorID.json": written({"3": "1164/3"}),
        },
        "videos/1164/3.mp4",
        {
            "id": "3/5",
            "question": "Why did he run?",
            "references": ("c",),
            **MC,
            "slices": {"kind": "causal", "split": "test"},
        },
    ),
    FolderCase(
        "next-qa-oe",
        "openqa",
        {
            "oe/test.csv": tabled(
                [
                    {
                        "video": 3,
                        "qid": 5,
                        "question": "what then",
                        "answer": "sit",
                        "type": "TN",
                        "additional_ref_answer": "rest",
                    }
                ]
            )
        },
        "videos/3.mp4",
        {"references": ("sit", "rest")},
    ),
    FolderCase(
        "egoschema",
        "mcqa",
        {
            "questions.json": written(
                [{"q_uid": u, "question": "Why?", **{f"option {n}": "abcde"[n] for n in range(5)}} for u in "uv"]
            ),
            "subset_answers.json": written({"v": 4}),
        },
        "videos/v.mp4",
        {"id": "v", "references": ("e",), **MC},
    ),
    FolderCase(
        "mvbench",
        "mcqa",
        {
            f"json/{kind}.json": written(
                [{"video": "a.mp4", "question": "Q?", "candidates": ["x", "y"], "answer": "y", "start": 1.5, "end": 4}]
            )
            for kind in FOLDERS
        },
        "video/star/Charades_v1_480/a.mp4",
        {"id": "action_sequence/1", "start_s": 1.5, "end_s": 4, "references": ("y",), "choices": ("x", "y")},
        items=len(FOLDERS),
    ),
    FolderCase(
        "mlvu",
        "mcqa",
        {
            "json/2_needle.json": written(
                [
                    {
                        "video": "n.mp4",
                        "question": "Q?",
                        "candidates": ["x", "y"],
                        "answer": "x",
                        "question_type": "needle",
                    }
                ]
            )
        },
        "video/2_needle/n.mp4",
        {"id": "2_needle/1", "references": ("x",), "slices": {"kind": "needle", "split": "2_needle"}},
    ),
    FolderCase(
        "longvideobench",
        "mcqa",
        {
            "lvb_val.json": written(
                [
                    {
                        "id": "q1",
                        "video_path": "z.mp4",
                        "question": "Q?",
                        "candidates": ["x", "y"],
                        "correct_choice": 1,
                        "question_category": "S2E",
                        "duration_group": 600,
                    }
                ]
            )
        },
        "videos/z.mp4",
        {"references": ("y",), "slices": {"kind": "S2E", "length": "up to 600 s", "split": "val"}},
    ),
    FolderCase(
        "charades-sta",
        "grounding",
        {"charades_sta_test.txt": "3MSZA 24.3 30.4##person turns a light on.\n"},
        "videos/3MSZA.mp4",
        {"question": "person turns a light on.", "spans": ((24.3, 30.4),)},
    ),
    FolderCase(
        "qvhighlights",
        "grounding",
        {
            "highlight_val_release.jsonl": lined(
                [{"qid": 9, "vid": "v_60_210", "query": "A dog", "relevant_windows": [[0, 8], [20, 22]]}]
            )
        },
        "videos/v_60_210.mp4",
        {"id": "9", "spans": ((0.0, 8.0), (20.0, 22.0))},
    ),
    FolderCase(
        "didemo",
        "grounding",
        {
            "test_data.json": written(
                [{"annotation_id": 4, "video": "a.mov", "description": " a man ", "times": [[0, 0], [1, 2], [1, 2]]}]
            )
        },
        "videos/a.mov",
        {"id": "4", "question": "a man", "spans": ((5.0, 15.0),)},
    ),
    FolderCase(
        "didemo",
        "retrieval",
        {
            "test_data.json": written(
                [
                    {"annotation_id": n, "video": "a.mov", "description": text, "times": [[0, 0]]}
                    for n, text in enumerate(("a man", "he sits"))
                ]
            )
        },
        "videos/a.mov",
        {"question": "a man. he sits"},
    ),
    FolderCase(
        "vatex",
        "caption",
        {
            "vatex_validation_v1.0.json": written(
                [{"videoID": "y_0_10", "enCap": ["one", "two"], "chCap": ["一"]}],
            )
        },
        "videos/y_0_10.mp4",
        {"references": ("one", "two"), "slices": {"language": "en", "split": "validation"}},
    ),
    FolderCase(
        "video-chatgpt",
        "openqa",
        {"consistency_qa.json": written([{"Q1": "Who?", "Q2": "Which one?", "A": "He.", "video_name": "v_1"}])},
        "videos/v_1.mp4",
        {"question": "Who?", "paraphrase": "Which one?", "references": ("He.",)},
    ),
    FolderCase(
        "own",
        "grounding",
        {"items.jsonl": lined([{"id": "a", "video": "c.mp4", "question": "now", "spans": [[1, 2]]}])},
        "c.mp4",
        {"id": "a", "spans": ((1.0, 2.0),)},
    ),
]


def laid_out(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content, encoding="utf-8")
    return root


def read(root: Path, task: str, **query: Any) -> EvaluationData:
    return choose_item_reader(root, task).read(root, ItemQuery(task, **{"partial": True, **query}))


def matches(item: Item, expected: dict[str, Any]) -> bool:
    return {name: getattr(item, name) for name in expected} == expected


@pytest.mark.parametrize("case", CASES, ids=lambda s: f"{s.reader}-{s.task}")
def test_a_dataset_is_known_by_its_files_and_read(case: FolderCase, tmp_path: Path):
    root = laid_out(tmp_path, case.files)
    assert choose_item_reader(root, case.task).name == case.reader
    splits = ("action",) if (case.reader, case.task) == ("tgif-qa", "mcqa") else ()
    data = read(root, case.task, splits=splits)
    assert len(data.items) == case.items
    item = data.items[0]
    assert matches(item, case.expected) and item.video == root / case.video
    assert TASKS[case.task].lacks(item) is None
    for name, sha in data.files.items():
        assert sha == hashlib.sha256(case.files[name].encode()).hexdigest()


def test_every_dataset_is_tried():
    elsewhere = {"world", "video-mme"}  # the world in test_run.py, the other below: it is no text
    assert {s.reader for s in CASES} | elsewhere == set(ITEM_READERS)


def test_video_mme_is_parquet(tmp_path: Path):
    row = {
        "videoID": "v1", "question_id": "001-1", "question": "Q?", "options": ["A. x", "B. y"], "answer": "B",
        "task_type": "Counting", "duration": "short", "domain": "Sports",
    }  # fmt: skip
    (tmp_path / "videomme").mkdir()
    parquet.write_table(pa.Table.from_pylist([row]), tmp_path / "videomme/test-00000-of-00001.parquet")
    (item,) = read(tmp_path, "mcqa").items
    assert item.choices == ("x", "y") and item.references == ("y",) and item.video == tmp_path / "data/v1.mp4"
    assert item.slices == {"kind": "Counting", "length": "short", "domain": "Sports", "split": "test"}


def test_languages_are_read_as_asked(tmp_path: Path):
    root = laid_out(
        tmp_path, {"vatex_validation_v1.0.json": written([{"videoID": "y", "enCap": ["one"], "chCap": ["一"]}])}
    )
    items = read(root, "retrieval", languages=("en", "zh")).items
    assert [(i.question, i.slices["language"]) for i in items] == [("one", "en"), ("一", "zh")]


CHARADES = "charades_sta_test.txt"
Change = Callable[[Path], object]


@pytest.fixture
def charades(tmp_path: Path) -> Path:
    lines = "".join(f"V{n} 0.0 5.0##a person sits.\n" for n in range(3_720))
    return laid_out(tmp_path, {CHARADES: lines})


def test_a_whole_file_has_as_many_rows_as_published(charades: Path):
    assert len(read(charades, "grounding", partial=False).items) == 3_720


def test_a_cut_file_is_an_error_and_partial_a_note(charades: Path):
    lines = (charades / CHARADES).read_text().splitlines(keepends=True)
    (charades / CHARADES).write_text("".join(lines[:100]))
    with pytest.raises(DataError, match=r"test has 100 items; as published it has 3720; get .* --partial"):
        read(charades, "grounding", partial=False)
    assert read(charades, "grounding").notes == ("test has 100 items; as published it has 3720",)


def test_checksums_are_compared_where_the_folder_has_them(charades: Path):
    sha = hashlib.sha256((charades / CHARADES).read_bytes()).hexdigest()
    (charades / "SHA256SUMS").write_text(f"{sha}  {CHARADES}\n{'0' * 64}  not_read.txt\n")
    assert read(charades, "grounding", partial=False).files == {CHARADES: sha}
    (charades / "SHA256SUMS").write_text(f"{'0' * 64} *./{CHARADES}\n")
    with pytest.raises(DataError, match=f"has the sha256 {sha}, SHA256SUMS says 0000"):
        read(charades, "grounding", partial=False)
    (charades / "SHA256SUMS").write_text("nothing\n")
    with pytest.raises(DataError, match="is not what sha256sum writes"):
        read(charades, "grounding", partial=False)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda root: (root / CHARADES).write_text("V1 0.0 5.0 no marks\n"), "is not as charades-sta is published"),
        (lambda root: (root / CHARADES).write_text(""), "has no item of the splits test"),
        (lambda root: (root / CHARADES).write_bytes(b"\xff"), "is not UTF-8 text"),
        (lambda root: (root / CHARADES).unlink(), "has the files of no dataset for grounding; say --format"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(charades: Path, change: Change, said: str, capsys: pytest.CaptureFixture[str]):
    change(charades)
    assert evaluate("grounding", "--data", charades, "--partial", "--out", charades / "out") == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1


def test_a_missing_field_and_a_short_row_are_named(tmp_path: Path):
    root = laid_out(tmp_path, {"test_qa.json": written([{"id": 1, "video_id": 2, "question": "Who?"}])})
    with pytest.raises(DataError, match="no 'answer'"):
        read(root, "openqa")
    root = laid_out(tmp_path / "b", {"test.csv": "video,qid,question\n1,2,what\n1,2\n"})
    with pytest.raises(DataError, match="line 3 does not have the header's number of fields"):
        read(root, "mcqa")


def test_a_folder_of_two_datasets_asks_which(tmp_path: Path):
    root = laid_out(tmp_path, CASES[0].files | {"items.jsonl": lined([{"id": "a", "video": "b.mp4"}])})
    with pytest.raises(DataError, match="fits msrvtt-qa, own; say --format"):
        choose_item_reader(root, "openqa")
    assert choose_item_reader(root, "openqa", "own").name == "own"
    with pytest.raises(DataError, match="no format 'x'; choose from world"):
        choose_item_reader(root, "openqa", "x")


OWN = {"id": "a", "video": "b.mp4", "question": "?", "references": ["x"], "choices": ["x", "y"], "spans": [[0, 1]]}
OWN |= {"end_s": 2}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"question": {}}, "question is {}, not a text"),
        ({"references": "red"}, "references is 'red'; its values must be texts"),
        ({"choices": ["a", 3]}, "its values must be texts"),
        ({"slices": []}, "slices is \\[\\]; its values must be texts"),
        ({"start_s": "1"}, "start_s is '1', not a number of seconds"),
        ({"colour": 1}, "unexpected keyword argument 'colour'"),
    ],
)
def test_an_item_of_another_form_is_named(tmp_path: Path, changes: dict[str, object], said: str):
    write_lines(tmp_path / "items.jsonl", [OWN, OWN | {"id": "b"} | changes])
    with pytest.raises(DataError, match=f"items.jsonl, item 2: .*{said}"):
        read(tmp_path, "mcqa")


def test_own_data_fits_every_task(tmp_path: Path):
    write_lines(tmp_path / "items.jsonl", [OWN])
    for task in TASKS.values():
        assert task.lacks(read(tmp_path, task.name).items[0]) is None
