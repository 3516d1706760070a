"""What a model names and answers of new clips of the world, decoded from their files, under controls.

Controls show a model the clip's frames in another order, or the frames of another clip. A model that answers alike then
has not seen motion or order.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from train.data.dense_truth import COLOUR_NUMBER, KIND_NUMBER, SHAPE_NUMBER
from train.data.packing import PackedPrompt, collate_packed
from train.data.rows import InstructionRows
from train.tasks.dense_heads import ReadoutHeads, named_right
from videollm.config import ModelConfig
from videollm.datasets.schema import Message, Sample
from videollm.datasets.world_annotation import WorldAnnotation, WorldEvent, read_world
from videollm.encoders.debug import DebugEncoder
from videollm.encoders.pixels import SquarePixels
from videollm.features.encode import SegmentFeatures, encode_video
from videollm.model import Model
from videollm.models.processor import IGNORE
from videollm.models.visual_prompting import VisualBatch

Showings = Mapping[str, list[list[SegmentFeatures]]]  # what is shown in place of each clip, by the name of the control
BATCH = 16
SHUFFLES = 3  # orders that are drawn for each clip; the control is their mean


@dataclass(frozen=True, slots=True)
class TestClip:
    """A clip as the model sees it, its first and last event by number (2,3), and the questions about it."""

    __test__ = False  # pytest would take the class for a test

    segment: SegmentFeatures
    named: torch.Tensor
    questions: tuple[Sample, ...]


def test_clips(split: Path, questions: Path, config: ModelConfig) -> list[TestClip]:
    """Decodes all clips of a split. `questions` is the file that `make_instructions.py` wrote about them."""
    asked: dict[str, list[Sample]] = defaultdict(list)
    for sample in InstructionRows([str(questions)]):
        asked[Path(sample.video).name].append(sample)
    # A model of the world reads pixels; the embeddings for evidence are not used here, and the debug encoder is fast.
    encoder = SquarePixels(DebugEncoder(), config.encoder.pixels, config.encoder.resize)
    made = []
    for clip in read_world(split):
        video = encode_video(split / clip.video, encoder, config.sampling)
        (segment,) = video.segments(config, encoder.vocabulary, 1)
        named = torch.tensor([_named(clip, event) for event in (clip.events[0], clip.events[-1])])
        made.append(TestClip(segment, named, tuple(asked[Path(clip.video).name])))
    return made


test_clips.__test__ = False  # type: ignore[attr-defined]


def _named(clip: WorldAnnotation, event: WorldEvent) -> tuple[int, int, int]:
    if event.object is None:
        return KIND_NUMBER[event.kind], 0, 0
    thing = clip.objects[event.object]
    return KIND_NUMBER[event.kind], SHAPE_NUMBER[thing.shape], COLOUR_NUMBER[thing.colour]


def controls(clips: Sequence[TestClip]) -> Showings:
    """Returns the showings of the clips as they are (`own`) and under each control, each of one segment a clip."""
    shown = [clip.segment for clip in clips]
    half = len(shown) // 2
    rng = np.random.default_rng(0)

    def ordered(order: Callable[[int], np.ndarray]) -> list[SegmentFeatures]:
        orders = [torch.from_numpy(order(len(s.tokens)).copy()) for s in shown]
        return [replace(s, tokens=s.tokens[o]) for s, o in zip(shown, orders, strict=True)]

    return {
        "own": [shown],
        "shuffled": [ordered(rng.permutation) for _ in range(SHUFFLES)],
        "reversed": [ordered(lambda count: np.arange(count)[::-1])],
        "other clip": [shown[half:] + shown[:half]],
    }


@torch.inference_mode()
def readout(
    model: Model, heads: ReadoutHeads, clips: Sequence[TestClip], shown: Showings
) -> dict[str, dict[str, float]]:
    """Returns the shares of right kinds, of right events and of clips with both events right, by control."""
    model.llm.eval()
    found = {}
    named = torch.stack([clip.named for clip in clips])
    for name, showings in shown.items():
        right = torch.cat([named_right(_names(model, heads, segments), named) for segments in showings])
        found[name] = {
            "kind": right[..., 0].float().mean().item(),
            "event": right.all(-1).float().mean().item(),
            "both events": right.all(-1).all(-1).float().mean().item(),
        }
    return found


def _names(model: Model, heads: ReadoutHeads, segments: Sequence[SegmentFeatures]) -> list[torch.Tensor]:
    parts = []
    for start in range(0, len(segments), BATCH):
        some = segments[start : start + BATCH]
        visual = VisualBatch.pad([s.tokens for s in some], [s.times_s for s in some])
        parts.append(heads.named(model.llm.temporal(visual.tokens.float(), visual.times_s, visual.mask))[:3])
    return [torch.cat(logits) for logits in zip(*parts, strict=True)]


def answers(model: Model, clips: Sequence[TestClip], shown: Showings) -> dict[str, np.ndarray]:
    """Returns for each control the share of its showings in which each question is answered right, (questions,)."""
    return {
        name: np.mean([answered(model, clips, segments) for segments in showings], axis=0)
        for name, showings in shown.items()
    }


@torch.inference_mode()
def answered(model: Model, clips: Sequence[TestClip], segments: Sequence[SegmentFeatures] | None) -> np.ndarray:
    """Returns bool (questions,): which answers are exactly what greedy decoding would write.

    Each of their tokens is then the likeliest one after those before it. `segments` are shown in place of the clips;
    None shows nothing. Questions are in the order of the clips.
    """
    model.llm.eval()
    right: list[bool] = []
    for start in range(0, len(clips), BATCH):
        numbers = range(start, min(start + BATCH, len(clips)))
        rows = [_packed(model, clips[i].questions, [segments[i]] if segments else []) for i in numbers]
        batch = collate_packed(rows, model.processor.tokenizer.pad_token_id)
        labels = torch.nn.functional.pad(batch.pop("labels")[:, 1:], (0, 1), value=IGNORE)
        likeliest = model.llm(**batch).logits.argmax(-1)
        wrong = (labels != IGNORE) & (likeliest != labels)
        for row, is_wrong in zip(rows, wrong, strict=True):
            missed = {row.branches[i] for i in is_wrong.nonzero().flatten().tolist()}
            right += [branch not in missed for branch in range(1, max(row.branches) + 1)]
    return np.array(right)


def _packed(model: Model, questions: Sequence[Sample], segments: Sequence[SegmentFeatures]) -> PackedPrompt:
    prompts = [[Message(m.role, m.content) for m in sample.messages] for sample in questions]
    return PackedPrompt.of([model.processor(messages, segments) for messages in prompts])


def kinds(clips: Sequence[TestClip]) -> np.ndarray:
    """Returns the kind of each question, in the order of the clips."""
    return np.array([sample.task.removeprefix("qa/") for clip in clips for sample in clip.questions])


def by_kind(right: Mapping[str, np.ndarray], kind: np.ndarray) -> dict[str, dict[str, float]]:
    """Returns the share of right answers to each kind of question, by control."""
    return {
        name: {k: float(values[kind == k].mean()) for k in dict.fromkeys(kind.tolist())}
        for name, values in right.items()
    }
