"""The synthetic world of data_gen/make_world.py, in which everything is known.

    DIR/SPLIT/annotations.jsonl   one line a clip
    DIR/SPLIT/clips/ID.mp4

Without --split all splits that are there are read, except train.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from videollm.evaluate.item import Item
from videollm.evaluate.readers import world_probes
from videollm.evaluate.readers.base import Folder, Reader, Wanted

Row = dict[str, Any]

NEEDED = {"id", "video", "split", "style", "perturbation", "objects", "events", "captions", "questions"}

# What a split asks of a model that has learnt from `train`.
GENERALISATION = {
    "train": "trained on",
    "val": "in domain",
    "test": "in domain",
    "unseen": "zero-shot",
    "style": "cross-domain",
    "perturbed": "perturbation",
    "long_tail": "long tail",
    "long": "longer video",
    "order": "order of frames",
}
CHOICES = 10  # labels to choose from in classification


class WorldReader(Reader):
    name = "world"
    tasks = (
        *("openqa", "mcqa", "caption", "retrieval", "summary", "dense", "grounding", "classify"),
        *("hallucination", "abstention", "paraphrase", "flip", "evidence"),
    )
    files: ClassVar = {split: f"{split}/annotations.jsonl" for split in GENERALISATION}

    def splits(self, root: Path) -> tuple[str, ...]:
        there = tuple(split for split, file in self.files.items() if (root / file).is_file())
        return tuple(split for split in there if split != "train") or there

    def items(self, folder: Folder, split: str, wanted: Wanted) -> Iterator[Item]:
        for row in rows(folder, split):
            for item in _MAKERS[wanted.task](row, folder.root / split, wanted.languages):
                yield _sliced(item, row)


def rows(folder: Folder, split: str) -> Iterator[Row]:
    """The annotations of a split's clips."""
    for number, row in enumerate(folder.json_lines(f"{split}/annotations.jsonl"), 1):
        if missing := NEEDED - row.keys():
            raise ValueError(f"line {number} has no {', '.join(sorted(missing))}")
        yield row


def _sliced(item: Item, row: Row) -> Item:
    item.slices.update(
        split=row["split"],
        generalisation=GENERALISATION[row["split"]],
        style=row["style"],
        perturbation=row["perturbation"] or "none",
    )
    return item


def _questions(row: Row, folder: Path, languages: tuple[str, ...]) -> Iterator[Item]:
    numbers: Counter[str] = Counter()
    for asked in row["questions"]:
        language = asked["language"]
        numbers[language] += 1
        if language not in languages:
            continue
        yield Item(
            id=f"{row['id']}/{language}/{numbers[language]}",
            video=folder / row["video"],
            question=asked["question"],
            references=(asked["answer"],),
            choices=tuple(asked["choices"] or ()),
            spans=tuple((a, b) for a, b in asked["answer_times"]),
            slices={"kind": asked["kind"], "language": language},
        )


def _captions(row: Row, folder: Path, languages: tuple[str, ...]) -> Iterator[Item]:
    yield from _described(row, folder, languages, "short")


def _detailed(row: Row, folder: Path, languages: tuple[str, ...]) -> Iterator[Item]:
    yield from _described(row, folder, languages, "detailed")


def _described(row: Row, folder: Path, languages: tuple[str, ...], level: str) -> Iterator[Item]:
    for language in languages:
        yield Item(
            id=f"{row['id']}/{language}",
            video=folder / row["video"],
            question=row["captions"][language]["short"],
            references=(row["captions"][language][level],),
            spans=tuple((event["start_s"], event["end_s"]) for event in row["events"]),
            slices={"language": language},
        )


def _dense(row: Row, folder: Path, languages: tuple[str, ...]) -> Iterator[Item]:
    for language in languages:
        parts = row["captions"][language]["dense"]
        yield Item(
            id=f"{row['id']}/{language}",
            video=folder / row["video"],
            references=tuple(part["text"] for part in parts),
            spans=tuple((part["start"], part["end"]) for part in parts),
            slices={"language": language},
        )


def _events(row: Row, folder: Path, languages: tuple[str, ...]) -> Iterator[Item]:
    """Each event that is told apart by its words."""
    for language in languages:
        parts = row["captions"][language]["dense"]
        texts = Counter(part["text"] for part in parts)
        for number, (part, event) in enumerate(zip(parts, row["events"], strict=True), 1):
            if texts[part["text"]] == 1:
                yield Item(
                    id=f"{row['id']}/{language}/{number}",
                    video=folder / row["video"],
                    question=part["text"],
                    spans=((part["start"], part["end"]),),
                    slices={"language": language, "kind": event["kind"]},
                )


def _shapes(row: Row, folder: Path, languages: tuple[str, ...]) -> Iterator[Item]:
    """Which of ten shapes the clip shows; only one of them is there. Names are English."""
    there = sorted({thing["shape"] for thing in row["objects"]})
    absent = [shape for shape in SHAPES if shape not in there]
    turn = int(row["id"].rsplit("-", 1)[-1])
    right = there[turn % len(there)]
    others = [absent[(turn + step) % len(absent)] for step in range(min(CHOICES - 1, len(absent)))]
    yield Item(
        id=row["id"],
        video=folder / row["video"],
        references=(right,),
        choices=tuple(sorted([right, *others])),
        slices={"kind": right},
    )


# fmt: off
SHAPES = (
    "circle", "square", "triangle", "star", "heart", "diamond", "cross", "hexagon", "arrow", "house", "tree", "car",
    "fish", "flower", "cup", "boat", "cloud", "moon", "key", "umbrella", "mushroom", "butterfly", "rocket",
)
# fmt: on

_MAKERS: dict[str, Callable[[Row, Path, tuple[str, ...]], Iterator[Item]]] = {
    "openqa": _questions,
    "mcqa": _questions,
    "caption": _captions,
    "retrieval": _captions,
    "summary": _detailed,
    "dense": _dense,
    "grounding": _events,
    "classify": _shapes,
    "hallucination": world_probes.hallucination,
    "abstention": world_probes.questions,
    "evidence": world_probes.questions,
    "paraphrase": world_probes.paraphrase,
    "flip": world_probes.flip,
}
