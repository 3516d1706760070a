"""Show that a model hears, on new clips whose sounds are known.

    python train/experiments/sound.py --model DIR [--world SPLIT]

Asks the model that recipe `world_sound` trained about the sounds of clips that no training draws, or of the files of a
split that `make_world.py --sound` wrote (with `--size 64 --fps 8 --seconds 3 --things 1 2`, as the clips are), beside
two controls: `silent`, the same clips with the noise of the background alone, and `swapped`, with the sound of another
clip. Prints a table of the shares of exact answers with their 95 % intervals over clips.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from train.data.rendered import CAPTION_QUESTION, RenderedClip, RenderedClips, background
from train.data.rendered_conversations import segment
from train.experiments.world_answers import TestClip, answers, kinds
from videollm import checkpoint
from videollm.datasets.schema import Message, Provenance, Sample
from videollm.datasets.world_annotation import WorldAnnotation, read_world
from videollm.encoders.audio import AudioEncoder, HearingEncoder
from videollm.errors import ConfigError, DataError
from videollm.evaluate.metrics.bootstrap import mean_interval
from videollm.features.encode import SegmentFeatures, encode_video
from videollm.model import Model

SEED = 0  # of the test clips, which training does not use
SEEN_QUESTIONS = 3  # about each clip, beside its caption, that need no sound
HEARD = "sound_"  # what the kinds of questions about sounds begin with in annotations
SEVERAL = "_of_several"  # after a kind of question whose answer does not follow from there being one sound or event


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--model", default="runs/world_sound", metavar="DIR", help="checkpoint directory of world_sound"
    )
    parser.add_argument("--clips", type=int, default=300, metavar="N", help="number of new clips (default: 300)")
    parser.add_argument("--world", type=Path, metavar="SPLIT", help="folder of a split with sound, instead of --clips")
    options = parser.parse_args(argv)
    model = checkpoint.load(options.model)
    if not isinstance(model.encoder, HearingEncoder):
        raise ConfigError(f"{options.model} does not hear; give a checkpoint of recipe world_sound")
    ear = model.encoder.audio
    if options.world:
        asked = [from_file(options.world, clip, model) for clip in read_world(options.world)]
        silent = [replace(clip.segment, audio=quiet(clip.segment.end_s, ear)) for clip in asked]
    else:
        rendered = RenderedClips(options.clips, SEED, sound=True)
        clips = [rendered[i] for i in range(options.clips)]
        asked = [TestClip(segment(clip, ear), torch.zeros(2, 3), from_world(clip)) for clip in clips]
        silent = [segment(replace(clip, sounds=()), ear) for clip in clips]
    right = answers(model, asked, {name: [shown] for name, shown in showings(asked, silent).items()})
    print(table(right, kinds(asked), [str(i) for i, clip in enumerate(asked) for _ in clip.questions]))


def from_world(clip: RenderedClip) -> tuple[Sample, ...]:
    """Returns the questions about the sounds of a clip, and some about what is seen."""
    return questions(str(clip.index), clip.turns(SEEN_QUESTIONS), clip.sound_turns(), len(clip.clip.events))


def from_file(split: Path, clip: WorldAnnotation, model: Model) -> TestClip:
    """Returns a clip as the model sees and hears its file. Raises DataError if the annotation has no sounds."""
    if clip.sounds is None:
        raise DataError(f"{split}: {clip.id} has no sound; make the split with make_world.py --sound")
    video = encode_video(split / clip.video, model.encoder, model.config.sampling)
    (shown,) = video.segments(model.config, model.encoder.vocabulary, 1)
    said = [q for q in clip.questions if q.language == "en"]
    heard = [(q.kind.removeprefix(HEARD), q.question, q.answer) for q in said if q.kind.startswith(HEARD)]
    seen = [(q.question, q.answer) for q in said if not q.kind.startswith(HEARD)][:SEEN_QUESTIONS]
    seen = [(CAPTION_QUESTION, clip.captions["en"].short), *seen]
    return TestClip(shown, torch.zeros(2, 3), questions(clip.id, seen, heard, len(clip.events)))


def quiet(seconds: float, ear: AudioEncoder) -> torch.Tensor | None:
    """Returns what the noise behind all sounds is heard as."""
    heard = ear.encode_audio(background(seconds, SEED))
    return None if heard is None else heard.tokens


def questions(
    clip: str, seen: Sequence[tuple[str, str]], heard: Sequence[tuple[str, str, str]], events: int
) -> tuple[Sample, ...]:
    """Returns questions as samples.

    Args:
        clip: The name of the clip.
        seen: Questions about what is seen, with the answers.
        heard: Those about sounds, each after its kind, one of `SOUND_QUESTIONS`.
        events: The number of events of the clip.
    """
    sounds = next(int(answer) for kind, _, answer in heard if kind == "count")
    many = {"first": sounds > 1, "last": sounds > 1, "while": events > 1}
    made = [("seen", *turn) for turn in seen]
    made += [(kind + SEVERAL * many.get(kind, False), *turn) for kind, *turn in heard]
    made_by = Provenance(
        source="world", generator="sound", model=None, prompt_sha=None, created="2026-01-01T00:00:00+00:00", seed=SEED
    )
    return tuple(
        Sample(
            id=f"{clip}-{number}",
            video="",
            start=None,
            end=None,
            task=f"qa/{kind}",
            language="en",
            messages=(Message("user", question), Message("assistant", answer)),
            answer_times=(),
            provenance=made_by,
        )
        for number, (kind, question, answer) in enumerate(made)
    )


def showings(asked: Sequence[TestClip], silent: list[SegmentFeatures]) -> dict[str, list[SegmentFeatures]]:
    """Returns the clips as they are (`own`) and under each control."""
    own, half = [clip.segment for clip in asked], len(asked) // 2
    return {
        "own": own,
        "silent": silent,
        "swapped": [replace(s, audio=o.audio) for s, o in zip(own, own[half:] + own[:half], strict=True)],
    }


def table(right: dict[str, np.ndarray], kind: np.ndarray, clips: Sequence[str]) -> str:
    """Returns a Markdown table of the share of right answers to each kind of question, by control."""
    lines = ["| | questions | " + " | ".join(right) + " |", "|---" * (2 + len(right)) + "|"]
    sound = kind != "seen"
    rows = {name: kind == name for name in sorted(set(kind.tolist()))} | {"all about sound": sound}
    for name, chosen in rows.items():
        numbers = np.flatnonzero(chosen)
        cells = []
        for values in right.values():
            found = mean_interval(values[numbers], [clips[i] for i in numbers.tolist()])
            cells.append(f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})")
        lines.append(f"| {name.replace('_', ' ')} | {len(numbers)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
