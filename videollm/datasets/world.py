"""The synthetic world of `data_gen/make_world.py`, in which everything is known.

    DIR/SPLIT/annotations.jsonl   one line a clip
    DIR/SPLIT/clips/ID.mp4

For training, captions at three levels, questions and false captions. For evaluation, items for every task; without
--split all splits in the folder are read, except train.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

from videollm.datasets import world_moments, world_probes
from videollm.datasets.annotation_file import AnnotationFile, ClipReader
from videollm.datasets.clip import Clip, ClipQuestion, Note
from videollm.datasets.evaluation_folder import DatasetFolder, ItemQuery, ItemReader
from videollm.datasets.item import Item
from videollm.datasets.world_annotation import ANNOTATIONS, SHAPES, WorldAnnotation
from videollm.errors import DataError

# What a split asks of a model that was trained on `train`.
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


class World(ClipReader, ItemReader):
    name = "world"
    tasks = (
        *("openqa", "mcqa", "caption", "retrieval", "summary", "dense", "grounding", "classify"),
        "live",
        *("hallucination", "abstention", "paraphrase", "flip", "evidence"),
    )
    files: ClassVar = {split: f"{split}/{ANNOTATIONS}" for split in GENERALISATION}

    def recognises(self, file: AnnotationFile) -> bool:
        return file.suffix == ".jsonl" and {"objects", "events", "captions", "questions"} <= file.fields

    def clips(self, file: AnnotationFile) -> Iterator[Clip]:
        for where, values in file.rows():
            with file.broken.row(where):
                clip = WorldAnnotation.from_values(values)
                yield annotated_clip(clip, file.video(clip.video))

    def default_splits(self, root: Path) -> tuple[str, ...]:
        present = tuple(split for split, file in self.files.items() if (root / file).is_file())
        return tuple(split for split in present if split != "train") or present

    def items(self, folder: DatasetFolder, split: str, query: ItemQuery) -> Iterator[Item]:
        for number, values in enumerate(folder.json_lines(self.files[split]), 1):
            try:
                clip = WorldAnnotation.from_values(values)
            except DataError as error:
                raise DataError(f"{folder.root / self.files[split]} line {number}: {error}") from error
            for item in _MAKERS[query.task](clip, folder.root / split, query.languages):
                item.slices.update(
                    split=clip.split,
                    generalisation=GENERALISATION[clip.split],
                    style=clip.style,
                    perturbation=clip.perturbation or "none",
                )
                yield item


def annotated_clip(clip: WorldAnnotation, video: Path) -> Clip:
    """Returns what instruction data is made from. video: the file of the clip."""
    return Clip(
        id=clip.id,
        video=video,
        source=World.name,
        notes=tuple(_notes(clip)),
        questions=tuple(_clip_questions(clip)),
        negatives=tuple(
            Note(kind="short", text=text, language=language)
            for captions in clip.negatives.values()
            for language, text in captions.items()
        ),
    )


def _notes(clip: WorldAnnotation) -> Iterator[Note]:
    for language, captions in clip.captions.items():
        yield Note(kind="short", text=captions.short, language=language)
        yield Note(kind="detailed", text=captions.detailed, language=language)
        for part in captions.dense:
            yield Note(kind="event", text=part.text, language=language, start=part.start, end=part.end)


def _clip_questions(clip: WorldAnnotation) -> Iterator[ClipQuestion]:
    for asked in clip.questions:
        yield ClipQuestion(
            kind=asked.kind,
            question=asked.question,
            answer=asked.answer,
            language=asked.language,
            choices=asked.choices,
            correct=asked.correct,
            answer_times=asked.answer_times,
        )


def _questions(clip: WorldAnnotation, folder: Path, languages: tuple[str, ...]) -> Iterator[Item]:
    numbers: Counter[str] = Counter()
    for asked in clip.questions:
        # Languages that are not read are counted too, so that an id does not depend on what is read.
        numbers[asked.language] += 1
        if asked.language not in languages:
            continue
        yield Item(
            id=f"{clip.id}/{asked.language}/{numbers[asked.language]}",
            video=folder / clip.video,
            question=asked.question,
            references=(asked.answer,),
            choices=asked.choices,
            spans=asked.answer_times,
            slices={"kind": asked.kind, "language": asked.language},
        )


def _short_captions(clip: WorldAnnotation, folder: Path, languages: tuple[str, ...]) -> Iterator[Item]:
    for language in languages:
        yield _described(clip, folder, language, clip.captions[language].short)


def _detailed_captions(clip: WorldAnnotation, folder: Path, languages: tuple[str, ...]) -> Iterator[Item]:
    for language in languages:
        yield _described(clip, folder, language, clip.captions[language].detailed)


def _described(clip: WorldAnnotation, folder: Path, language: str, text: str) -> Item:
    return Item(
        id=f"{clip.id}/{language}",
        video=folder / clip.video,
        question=clip.captions[language].short,
        references=(text,),
        spans=tuple((event.start_s, event.end_s) for event in clip.events),
        slices={"language": language},
    )


def _dense_captions(clip: WorldAnnotation, folder: Path, languages: tuple[str, ...]) -> Iterator[Item]:
    for language in languages:
        parts = clip.captions[language].dense
        yield Item(
            id=f"{clip.id}/{language}",
            video=folder / clip.video,
            references=tuple(part.text for part in parts),
            spans=tuple((part.start, part.end) for part in parts),
            slices={"language": language},
        )


def _events(clip: WorldAnnotation, folder: Path, languages: tuple[str, ...]) -> Iterator[Item]:
    """Each event whose sentence describes no other event of the clip, so that it has one right span."""
    for language in languages:
        parts = clip.captions[language].dense
        texts = Counter(part.text for part in parts)
        for number, (part, event) in enumerate(zip(parts, clip.events, strict=True), 1):
            if texts[part.text] == 1:
                yield Item(
                    id=f"{clip.id}/{language}/{number}",
                    video=folder / clip.video,
                    question=part.text,
                    spans=((part.start, part.end),),
                    slices={"language": language, "kind": event.kind},
                )


def _shapes(clip: WorldAnnotation, folder: Path, languages: tuple[str, ...]) -> Iterator[Item]:
    """Which of ten shapes the clip shows; it shows exactly one of them. The names are English in every language."""
    present = sorted({thing.shape for thing in clip.objects})
    absent = [shape for shape in SHAPES if shape not in present]
    # The number of the clip rotates both lists, so that every shape is right, and wrong, about equally often.
    right = present[clip.number % len(present)]
    others = [absent[(clip.number + step) % len(absent)] for step in range(min(CHOICES - 1, len(absent)))]
    yield Item(
        id=clip.id,
        video=folder / clip.video,
        references=(right,),
        choices=tuple(sorted([right, *others])),
        slices={"kind": right},
    )


_MAKERS: dict[str, Callable[[WorldAnnotation, Path, tuple[str, ...]], Iterator[Item]]] = {
    "openqa": _questions,
    "mcqa": _questions,
    "caption": _short_captions,
    "retrieval": _short_captions,
    "summary": _detailed_captions,
    "dense": _dense_captions,
    "grounding": _events,
    "classify": _shapes,
    "live": world_moments.moments,
    "hallucination": world_probes.hallucination,
    "abstention": world_probes.questions,
    "evidence": world_probes.questions,
    "paraphrase": world_probes.paraphrase,
    "flip": world_probes.flip,
}
