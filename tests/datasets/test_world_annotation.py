"""The typed annotation of the synthetic world against the files that its maker writes."""

import json
from pathlib import Path

import pytest

from data_gen.world.config import WorldConfig
from data_gen.world.scene import draw_clips
from data_gen.world.shapes import DRAWINGS
from data_gen.world.splits import SPLITS
from data_gen.world.truth import annotate
from data_gen.world.vocabulary import RARE_SHAPES, SYMMETRY
from videollm.datasets.world import GENERALISATION
from videollm.datasets.world_annotation import ANNOTATIONS, SHAPES, WorldAnnotation, read_world
from videollm.errors import DataError

CONFIG = WorldConfig(size=64, seconds=(2.0, 4.0))


@pytest.fixture(scope="module")
def annotations() -> list[WorldAnnotation]:
    return [
        annotate(clip, CONFIG, clip_id=f"{split}-{index:06}", split=split, number=index, order_pair=None)
        for split in ("train", "perturbed", "long_tail")
        for index in range(6)
        for clip in draw_clips(CONFIG, split, index)
    ]


def test_an_annotation_is_the_same_after_it_was_written_and_read(annotations: list[WorldAnnotation], tmp_path: Path):
    text = "".join(annotation.to_json() + "\n" for annotation in annotations)
    (tmp_path / ANNOTATIONS).write_text(text, encoding="utf-8")
    read = list(read_world(tmp_path))
    assert "".join(annotation.to_json() + "\n" for annotation in read) == text
    for made, again in zip(annotations, read, strict=True):
        assert made.objects == again.objects and made.questions == again.questions
        assert made.captions == again.captions and made.number == again.number
    changes = [event for annotation in read for event in annotation.events if event.before is not None]
    assert changes and all(event.after is not None for event in changes)


def test_values_that_an_event_lacks_are_not_written(annotations: list[WorldAnnotation]):
    for annotation in annotations:
        for event, values in zip(annotation.events, annotation.to_values()["events"], strict=True):
            assert ("from" in values) == ("to" in values) == (event.before is not None)
            assert ("times" in values) == (event.times is not None) and "before" not in values


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda values: values.pop("questions"), "line 2: no questions"),
        (lambda values: values["captions"]["en"].pop("dense"), "line 2: no 'dense'"),
        (lambda values: values.update(colour="red"), "line 2: not an annotation of the world: .*'colour'"),
        (lambda values: values["objects"][0]["track"][0].pop(), "line 2: not an annotation of the world"),
        (lambda values: values.update(objects=None), "line 2: not an annotation of the world"),
    ],
)
def test_a_broken_line_is_named(annotations: list[WorldAnnotation], change, said: str, tmp_path: Path):
    values = json.loads(annotations[1].to_json())
    change(values)
    (tmp_path / ANNOTATIONS).write_text(f"{annotations[0].to_json()}\n{json.dumps(values)}\n")
    with pytest.raises(DataError, match=said):
        list(read_world(tmp_path))


def test_a_folder_without_annotations_and_a_line_that_is_no_json_are_errors(tmp_path: Path):
    with pytest.raises(DataError, match=r"annotations\.jsonl cannot be read: no such file"):
        list(read_world(tmp_path))
    (tmp_path / ANNOTATIONS).write_text("{\n")
    with pytest.raises(DataError, match="line 1: not JSON: Expecting property name"):
        list(read_world(tmp_path))


def test_the_world_and_its_readers_know_the_same_splits_and_shapes():
    assert SPLITS.keys() == GENERALISATION.keys()
    assert tuple(DRAWINGS) == SHAPES
    assert SYMMETRY.keys() | RARE_SHAPES <= set(SHAPES)
