"""Every reader on a small file of its format, with one broken row that must be reported where it is."""

import csv
import io
import json
from pathlib import Path

import pytest

from videollm.datasets.annotation_file import AnnotationFile, BrokenRows
from videollm.datasets.clip import Clip
from videollm.datasets.registry import CLIP_READERS, choose_clip_reader
from videollm.errors import DataError

Table = list[list[object]]


def table(rows: Table, delimiter: str = ",") -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return text.getvalue()


WORLD = {
    "id": "train-000001",
    "video": "clips/train-000001.mp4",
    "split": "train",
    "seed": 0,
    "duration_s": 4.0,
    "fps": 12.0,
    "width": 64,
    "height": 64,
    "style": "flat",
    "background": ["plain"],
    "perturbation": None,
    "cuts": [],
    "objects": [],
    "events": [],
    "captions": {
        "en": {"short": "a circle moves", "detailed": "A red circle moves left.",
               "dense": [{"start": 0, "end": 1, "text": "it moves"}]},
        "zh": {"short": "圆形移动", "detailed": "红色圆形向左移动。", "dense": []},
    },
    "questions": [
        {"kind": "count", "language": "en", "question": "How many?", "answer": "2",
         "choices": ["1", "2"], "correct": 1, "answer_times": [[0, 1]]}
    ],
    "negatives": {"attribute_swap": {"en": "a square moves"}},
    "order_pair": None,
}  # fmt: skip

# format: (file name, content, where the broken row is, what the first good clip says)
FORMATS: dict[str, tuple[str, object, str, tuple[str, ...]]] = {
    "msrvtt": (
        "train_val_videodatainfo.json",
        {
            "videos": [{"video_id": "video0"}, {"video_id": "video1"}],
            "sentences": [{"video_id": "video0", "caption": "a man sings"},
                          {"video_id": "video0", "caption": "singing"}],
        },
        "video 2",
        ("a man sings", "singing"),
    ),
    "msvd": (
        "AllVideoDescriptions.txt",
        "# comment\n-4wsuPCjDBc_5_15 a squirrel eats a peanut\nnonsense\n",
        "line 3",
        ("a squirrel eats a peanut",),
    ),
    "activitynet": (
        "train.json",
        {
            "v_a": {"duration": 9.0, "timestamps": [[0, 4], [4, 9]], "sentences": ["He runs. ", "He falls."]},
            "v_b": {"duration": 9.0, "timestamps": [[0, 4]], "sentences": []},
        },
        "entry 2",
        ("He runs.", "He falls."),
    ),
    "didemo": (
        "train_data.json",
        [
            {"annotation_id": 7, "description": "a dog jumps", "video": "x.avi", "times": [[0, 1], [1, 1], [1, 1]]},
            {"annotation_id": 8, "description": "nothing", "video": "x.avi", "times": []},
        ],
        "entry 2",
        ("a dog jumps",),
    ),
    "lsmdc": (
        "LSMDC16_annos_training.csv",
        "0001_Film_00.00.51.926-00.00.54.129\t00.00.51.926\t00.00.54.129\t00.00.51.926\t00.00.54.129"
        "\tSomeone waits.\nbad\n",
        "line 2",
        ("Someone waits.",),
    ),
    "webvid": (
        "results_2M_val.csv",
        table(
            [
                ["videoid", "contentUrl", "duration", "page_dir", "name"],
                ["1", "u", "PT00H00M14S", "p", "roses, red"],
                ["2", "u", "PT00H00M14S", "p", ""],
            ]
        ),
        "line 3",
        ("roses, red",),
    ),
    "howto100m": (
        "caption.json",
        {
            "v": {"text": ["take flour", ""], "start": [0.5, 3], "end": [2.0, 4]},
            "w": {"text": ["a"], "start": [], "end": []},
        },
        "entry 2",
        ("take flour",),
    ),
    "subtitles": (
        "trip.es.srt",
        "1\n00:00:01,000 --> 00:00:02,500\nBuenos días\n\n"
        "2\n00:00:03,000 --> 00:00:04,000\nAdiós\n\n3\n5 -> --> 6\nroto\n",
        "line 10",
        ("Buenos días",),
    ),
    "kinetics": (
        "train.csv",
        table(
            [
                ["label", "youtube_id", "time_start", "time_end", "split"],
                ["abseiling", "abc", 3, 13, "train"],
                ["abseiling", "abd", "x", 13, "train"],
            ]
        ),
        "line 3",
        ("abseiling",),
    ),
    "something": (
        "train.json",
        [
            {"id": "1", "label": "holding a cup", "template": "Holding [something]", "placeholders": ["a cup"]},
            {"id": "2"},
        ],
        "entry 2",
        ("holding a cup",),
    ),
    "video_chatgpt": (
        "instructions.json",
        [{"q": "What is it?", "a": "A cat.", "video_id": "v_1"}, {"q": "What?", "a": None, "video_id": "v_1"}],
        "entry 2",
        ("What is it?", "A cat."),
    ),
    "llava": (
        "train_video.json",
        [
            {"id": 1, "video": "v_1.pkl",
             "conversations": [{"from": "human", "value": "What?\n<video>"}, {"from": "gpt", "value": "This."}]},
            {"id": 2, "video": "v_1.mp4", "image": "a.jpg", "conversations": []},
        ],
        "entry 2",
        ("What?", "This."),
    ),
    "world": (
        "annotations.jsonl",
        json.dumps(WORLD) + "\n{broken\n",
        "line 2",
        ("a circle moves", "A red circle moves left.", "it moves", "圆形移动", "红色圆形向左移动。"),
    ),
    "plain": (
        "mine.csv",
        table([["video", "caption", "start"], ["a.mp4", "a cat, asleep", "1.5"], ["a.mp4", "x", "soon"]]),
        "line 3",
        ("a cat, asleep",),
    ),
}  # fmt: skip


def source(folder: Path, name: str, *, strict: bool = False) -> AnnotationFile:
    file, content, _, _ = FORMATS[name]
    path = folder / file
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return AnnotationFile(path, folder, BrokenRows(strict=strict))


def read(source: AnnotationFile) -> list[Clip]:
    return list(choose_clip_reader(source).clips(source))


def test_every_format_is_tested():
    assert FORMATS.keys() == CLIP_READERS.keys()


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_is_recognised_and_read(tmp_path: Path, name: str):
    opened = source(tmp_path, name)
    assert choose_clip_reader(opened).name == name == choose_clip_reader(opened, name).name
    clip = read(opened)[0]
    said = [note.text for note in clip.notes] + [m.content for dialogue in clip.dialogues for m in dialogue]
    assert tuple(said) == FORMATS[name][3]
    assert clip.source == name and clip.video.parent.is_relative_to(tmp_path)


@pytest.mark.parametrize("name", FORMATS)
def test_a_broken_row_is_reported_where_it_is(tmp_path: Path, name: str):
    opened = source(tmp_path, name)
    assert len(read(opened)) == 1
    assert opened.broken.count == 1
    assert f"{opened.path.name} {FORMATS[name][2]}: " in opened.broken.shown[0]
    with pytest.raises(DataError, match=FORMATS[name][2]):
        read(source(tmp_path, name, strict=True))


def test_times_durations_and_questions_are_kept(tmp_path: Path):
    def first(name: str) -> Clip:
        return read(source(tmp_path, name))[0]

    assert first("didemo").notes[0].start == 5 and first("didemo").notes[0].end == 10
    assert first("activitynet").duration is None and first("webvid").duration is None  # only the file knows
    assert first("plain").start == 1.5
    cue = first("subtitles").notes[0]
    assert (cue.kind, cue.language, cue.start, cue.end) == ("speech", "es", 1.0, 2.5)
    world = first("world")
    assert world.questions[0].choices == ("1", "2") and world.questions[0].answer_times == ((0, 1),)
    assert world.negatives[0].text == "a square moves" and world.languages == ["en", "zh"]


def test_a_mix_of_videos_pictures_and_text_keeps_all_three(tmp_path: Path):
    said = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A cat."}]
    alone = [said[0] | {"value": "What is a cat?"}, said[1]]
    rows = [
        {"id": "a", "video": "v.mp4", "conversations": said},
        {"id": "b", "image": "coco/b.jpg", "conversations": said},
        {"id": "c", "conversations": alone},
        {"id": "d", "conversations": said},
        {"id": "e", "image": ["1.jpg", "2.jpg"], "conversations": said},
    ]
    (tmp_path / "mix.json").write_text(json.dumps(rows))
    opened = AnnotationFile(tmp_path / "mix.json", tmp_path)
    clips = read(opened)
    assert [clip.video for clip in clips] == [tmp_path / "v.mp4", tmp_path / "coco/b.jpg", None]
    assert clips[1].dialogues[0][0].content == "What is it?" and clips[2].dialogues[0][0].content == "What is a cat?"
    assert [where.partition(": ")[0] for where in opened.broken.shown] == ["mix.json entry 4", "mix.json entry 5"]


@pytest.mark.parametrize(
    ("columns", "row"),
    [
        (["a", "b", "c", "answer"], ["red", "blue", "green", "B"]),
        (["a", "b", "c", "d", "answer"], ["red", "blue", "green", "", "Blue"]),
        (["choices", "answer"], ["red | blue | green", "b"]),
    ],
)
def test_a_table_of_ones_own_holds_options(tmp_path: Path, columns: list[object], row: list[object]):
    question: list[object] = ["a.mp4", "Which colour?"]
    bad = [[*question, *row[:-1], "seven"], [*question, *["red"] * (len(row) - 1), "red"]]
    rows: Table = [["video", "question", *columns], [*question, *row], *bad]
    (tmp_path / "mine.csv").write_text(table(rows))
    opened = AnnotationFile(tmp_path / "mine.csv", tmp_path)
    (clip,) = read(opened)
    (asked,) = clip.questions
    assert (asked.choices, asked.correct, asked.answer) == (("red", "blue", "green"), 1, "blue")
    assert "the answer is 'seven'; write one of the options or a letter up to C" in opened.broken.shown[0]
    assert "the options must be two or more different texts" in opened.broken.shown[1]


def test_videos_are_found_by_name_in_the_layouts_that_are_in_use(tmp_path: Path):
    for file in ("video0.webm", "abseiling/abc_000003_000013.mp4", "p/1.mp4", "trip.mkv"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    found = {name: read(source(tmp_path, name))[0].video for name in ("msrvtt", "kinetics", "webvid", "subtitles")}
    assert all(video.is_file() for video in found.values()), found
    assert read(source(tmp_path, "llava"))[0].video.name == "v_1.mp4"


def test_msvd_csv_keeps_its_languages(tmp_path: Path):
    rows: Table = [
        ["VideoID", "Start", "End", "WorkerID", "Source", "AnnotationTime", "Language", "Description"],
        ["abc", 1, 2, 0, "clean", 3, "Spanish", "un perro corre"],
        ["abc", 1, 2, 0, "clean", 3, "Klingon", "x"],
    ]
    (tmp_path / "corpus.csv").write_text(table(rows))
    opened = AnnotationFile(tmp_path / "corpus.csv", tmp_path)
    assert choose_clip_reader(opened).name == "msvd"
    (clip,) = read(opened)
    assert clip.id == "abc_1_2" and clip.notes[0].language == "es"
    assert opened.broken.shown == ["corpus.csv line 3: language 'Klingon' is not known"]


def test_an_unknown_file_lists_the_formats(tmp_path: Path):
    (tmp_path / "odd.json").write_text("[1, 2]")
    opened = AnnotationFile(tmp_path / "odd.json", tmp_path)
    with pytest.raises(DataError, match=r"no known format.*msrvtt"):
        choose_clip_reader(opened)
    with pytest.raises(DataError, match="not of format llava"):
        choose_clip_reader(opened, "llava")
    with pytest.raises(DataError, match="no such file"):
        AnnotationFile(tmp_path / "none.json", tmp_path)
    (tmp_path / "cut.json").write_text('{"videos": [')
    with pytest.raises(DataError, match="not JSON"):
        choose_clip_reader(AnnotationFile(tmp_path / "cut.json", tmp_path))
