"""Text files in many encodings, with line ends, characters and numbers that readers stumble over.

Right is what was written: rows come back as they are, `data check` and training agree, and a file that cannot be read
is a DataError that names it.
"""

import json
import random
from pathlib import Path
from typing import Any

from odd_inputs.values import TEXTS, changed
from train.data.pairs import read_pairs
from train.data.rows import InstructionRows
from videollm.datasets import schema
from videollm.errors import DataError, VideoError
from videollm.evaluate.run import read as read_predictions
from videollm.video.subtitles import read_subtitles

ENCODINGS = ("utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1", "utf-16-le", "utf-32")
ENDS = ("\n", "\n", "\r\n", "\r")
ROW: dict[str, Any] = {
    "id": "1", "video": "", "start": None, "end": None, "task": "qa", "language": "en",
    "messages": [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "A boat."}],
    "answer_times": [],
    "provenance": {"source": "s", "generator": "g", "model": None, "prompt_sha": None,
                   "created": "2026-01-31T12:00:00+00:00", "seed": 0},
}  # fmt: skip
CUES = (
    "1",
    "00:00:01,000 --> 00:00:02,000",
    "Hello",
    "",
    "2",
    "00:00:03.5 --> 00:00:02.0",
    "WEBVTT",
    "-->",
    "{\\an8}x",
)


class Text:
    def __init__(self, folder: Path):
        self.folder = folder

    def check(self, rng: random.Random) -> str:
        """Makes a file and reads it. Returns how it ended; AssertionError if that is wrong."""
        match rng.choice(("rows", "rows", "pairs", "predictions", "subtitles")):
            case "rows":
                return self._check_rows(rng)
            case "pairs":
                rows = [{"video": "a.mp4", "caption": "a cat", "start": 1, "end": 2, "false": ["a dog"]}] * 3
                path, _ = self._written(rng, "pairs.jsonl", [changed(row, rng, rng.choice((0, 1))) for row in rows])
                return ended(lambda: read_pairs(path))
            case "predictions":
                rows = [{"id": str(n), "prediction": {"answer": rng.choice(TEXTS)}} for n in range(3)]
                path, _ = self._written(rng, "p.jsonl", [changed(row, rng, rng.choice((0, 1))) for row in rows])
                return ended(lambda: read_predictions(path))
        path = self.folder / rng.choice(("a.srt", "a.vtt"))
        lines = [rng.choice((*CUES, rng.choice(TEXTS))) for _ in range(rng.choice((1, 6, 20)))]
        path.write_bytes(_encoded("\n".join(lines), rng.choice(ENCODINGS)))
        return ended(lambda: read_subtitles(path))

    def _check_rows(self, rng: random.Random) -> str:
        rows = []
        for number in range(rng.choice((1, 3))):
            said = rng.choice([text for text in TEXTS if text.strip()])
            messages = [ROW["messages"][0], {"role": "assistant", "content": f"{number} {said}"}]
            rows.append(changed(ROW | {"id": str(number), "messages": messages}, rng, rng.choice((0, 0, 1))))
        path, encoding = self._written(rng, "rows.jsonl", rows)
        try:
            checked = schema.check(path, lambda _: 10.0)
            problems = [*map(str, checked.problems)]
        except DataError as error:
            problems = [str(error)]
        try:
            read = InstructionRows([str(path)])
        except DataError as error:
            assert problems, f"data check passes what training refuses: {error}"
            return "DataError"
        only_about_videos = all("time " in p or "is also the id" in p or "same as in row" in p for p in problems)
        assert only_about_videos, f"training takes what data check refuses: {problems}"
        if encoding != "latin-1":
            texts = [message["content"] for row in rows for message in row["messages"]]
            assert [message.content for row in read for message in row.messages] == texts
        return "right"

    def _written(self, rng: random.Random, name: str, rows: list[Any]) -> tuple[Path, str]:
        encoding, end = rng.choice(ENCODINGS), rng.choice(ENDS)
        lines = [json.dumps(row, ensure_ascii=rng.random() < 0.5) for row in rows]
        if rng.random() < 0.1:
            lines.append(rng.choice(("{", "[" * 100_000, '{"a": ' + "9" * 5000 + "}", "", "\x00", "null")))
        path = self.folder / name
        path.write_bytes(_encoded(end.join(lines) + rng.choice((end, "")), encoding))
        return path, encoding


def ended(read: Any) -> str:
    """Calls a reader and returns how it ended."""
    try:
        read()
    except (DataError, VideoError) as error:
        assert str(error).strip() and "\n" not in str(error), f"the message is not one line: {error!r}"
        return type(error).__name__
    return "read"


def _encoded(text: str, encoding: str) -> bytes:
    return text.encode(encoding, "backslashreplace")
