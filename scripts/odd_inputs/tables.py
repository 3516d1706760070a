"""Tables and annotations of which parts were replaced, and predictions of every task.

Right is that every row is read or counted as broken, that a row without damage is read as it is, and that a score is a
number from 0 up, or a DataError.
"""

import csv
import io
import json
import random
from pathlib import Path
from typing import Any

import numpy as np

from odd_inputs.text import ended
from odd_inputs.values import TEXTS, changed
from videollm.datasets.annotation_file import AnnotationFile
from videollm.datasets.evaluation_folder import ItemQuery
from videollm.datasets.item import Item
from videollm.datasets.registry import ITEM_READERS, choose_clip_reader
from videollm.errors import DataError
from videollm.evaluate.predictions import checked
from videollm.evaluate.question_only import question_only
from videollm.evaluate.tasks import TASKS

CUE = {"start": [0.5, 3], "end": [2.0, 4], "text": ["take flour", "stir"]}
SAID = [{"from": "human", "value": "<video>\nWhat?"}, {"from": "gpt", "value": "This."}]
# Annotation files of published formats, by name.
ANNOTATIONS: dict[str, Any] = {
    "msrvtt.json": {"videos": [{"video_id": "a", "split": "train"}], "sentences": [{"video_id": "a", "caption": "x"}]},
    "activitynet.json": {"v_a": {"duration": 9.0, "timestamps": [[0, 4], [4, 9]], "sentences": ["Runs.", "Falls."]}},
    "didemo.json": [{"annotation_id": 7, "description": "a dog", "video": "x.avi", "times": [[0, 1], [1, 1]]}],
    "howto100m.json": {"v": CUE},
    "something.json": [{"id": "1", "label": "holding a cup", "template": "Holding [something]", "placeholders": ["a"]}],
    "video_chatgpt.json": [{"q": "What is it?", "a": "A cat.", "video_id": "v_1"}],
    "llava.json": [{"id": 1, "video": "v.mp4", "conversations": SAID}, {"image": "a.jpg", "conversations": SAID}],
}  # fmt: skip
ITEM: dict[str, Any] = {
    "id": "a", "video": "a.mp4", "question": "What?", "references": ["red"], "choices": ["red", "blue"],
    "spans": [[0, 1]], "slices": {"kind": "colour"},
}  # fmt: skip
PREDICTIONS: dict[str, dict[str, Any]] = {
    "mcqa": {"choice": 0, "cloze": 1},
    "openqa": {"answer": "red", "paraphrase": "red"},
    "caption": {"answer": "red"},
    "dense": {"captions": [[0, 1, "red"]]},
    "grounding": {"spans": [[0, 1, 0.5]]},
    "classify": {"labels": [["red", 0.9], ["blue", 0.1]]},
    "retrieval": {"scores": [0.5]},
    "summary": {"answer": "red", "parts": [[0, 1, "red"]]},
}


class Tables:
    def __init__(self, folder: Path):
        self.folder = folder

    def check(self, rng: random.Random) -> str:
        """Makes a file or a prediction and reads it. Returns how it ended; AssertionError if that is wrong."""
        return rng.choice((self._own, self._annotation, self._items, self._prediction, self._prediction))(rng)

    def _own(self, rng: random.Random) -> str:
        """A table with a row as it should be, and odd ones around it."""
        good = {"video": "a.mp4", "question": "Which, then?", "a": "red", "b": "blue", "c": 'a "b", c', "answer": "C"}
        rows = [good, *({name: rng.choice((text, rng.choice(TEXTS))) for name, text in good.items()} for _ in range(3))]
        rng.shuffle(rows)
        text = io.StringIO()
        table = csv.DictWriter(text, [*good], delimiter=rng.choice(",;\t"), lineterminator=rng.choice(("\n", "\r\n")))
        table.writeheader()
        table.writerows(rows)
        path = self.folder / "own.csv"
        path.write_bytes(text.getvalue().encode("utf-8", "backslashreplace"))
        try:
            file = AnnotationFile(path, self.folder)
            clips = [*choose_clip_reader(file).clips(file)]
        except DataError:
            assert any("\0" in value for row in rows for value in row.values()), "a table without NUL is refused"
            return "DataError"
        questions = [question for clip in clips for question in clip.questions]
        assert file.broken.count or len(clips) == len(rows), "a row was lost without a word"
        found = any(q.choices == ("red", "blue", 'a "b", c') and q.answer == 'a "b", c' for q in questions)
        assert found or "not CSV" in str(file.broken.reasons), f"the good row is lost: {file.broken.shown}"
        return "right"

    def _annotation(self, rng: random.Random) -> str:
        name = rng.choice([*ANNOTATIONS])
        path = self.folder / name
        path.write_text(json.dumps(changed(ANNOTATIONS[name], rng, rng.choice((0, 1, 1, 3)))), encoding="utf-8")

        def read() -> None:
            file = AnnotationFile(path, self.folder)
            for clip in choose_clip_reader(file).clips(file):
                assert clip.id and (clip.video is None or str(clip.video).startswith(str(self.folder)))

        return ended(read)

    def _items(self, rng: random.Random) -> str:
        """Items of one's own: what is read can be scored, and guessed at."""
        task = rng.choice([*TASKS])
        rows = [changed(ITEM | {"id": str(n)}, rng, rng.choice((0, 1))) for n in range(3)]
        (self.folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

        def read() -> None:
            items = ITEM_READERS["own"].read(self.folder, ItemQuery(task)).items
            fitting = [item for item in items if TASKS[task].lacks(item) is None]
            if fitting:
                question_only(task, fitting, fitting)
                TASKS[task].chance(fitting)

        return ended(read)

    def _prediction(self, rng: random.Random) -> str:
        task = rng.choice([*PREDICTIONS])
        item = Item(**ITEM | {"video": Path("a.mp4"), "references": ("red",), "choices": ("red", "blue"),
                              "spans": ((0.0, 1.0),)})  # fmt: skip
        prediction = changed(PREDICTIONS[task], rng, rng.choice((0, 1, 1, 3)))
        if not isinstance(prediction, dict):
            return "no object"  # the reader of the file refuses it

        def score() -> None:
            rows = TASKS[task].score([item], [checked(task, item, prediction)])
            for metric, values in rows.items():
                known = values[~np.isnan(values)]
                assert np.isfinite(known).all() and (known >= 0).all(), f"{task} {metric} of {prediction}: {values}"

        return ended(score)
