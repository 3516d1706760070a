"""Show that a model hears, on new clips whose sounds are known.

    python train/experiments/sound.py --model DIR

Asks the model that recipe `world_sound` trained about the sounds of clips that no training draws, beside two controls:
`silent`, the same clips with the noise of the background alone, and `swapped`, with the sound of another clip. Prints a
table of the shares of exact answers with their 95 % intervals over clips.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from train.data.rendered import RenderedClip, RenderedClips
from train.data.rendered_conversations import segment
from train.experiments.world_answers import TestClip, answers, kinds
from videollm import checkpoint
from videollm.datasets.schema import Message, Provenance, Sample
from videollm.encoders.audio import AudioEncoder, HearingEncoder
from videollm.errors import ConfigError
from videollm.evaluate.metrics.bootstrap import mean_interval
from videollm.features.encode import SegmentFeatures

SEED = 0  # of the test clips, which training does not use
SEEN_QUESTIONS = 3  # about each clip, beside its caption, that need no sound
SEVERAL = "_of_several"  # after a kind of question whose answer does not follow from there being one sound or event


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--model", default="runs/world_sound", metavar="DIR", help="checkpoint directory of world_sound"
    )
    parser.add_argument("--clips", type=int, default=300, metavar="N", help="number of new clips (default: 300)")
    options = parser.parse_args(argv)
    model = checkpoint.load(options.model)
    if not isinstance(model.encoder, HearingEncoder):
        raise ConfigError(f"{options.model} does not hear; give a checkpoint of recipe world_sound")
    rendered = RenderedClips(options.clips, SEED, sound=True)
    clips = [rendered[i] for i in range(options.clips)]
    asked = [TestClip(segment(clip, model.encoder.audio), torch.zeros(2, 3), questions(clip)) for clip in clips]
    right = answers(
        model, asked, {name: [shown] for name, shown in showings(asked, clips, model.encoder.audio).items()}
    )
    print(table(right, kinds(asked), [str(i) for i, clip in enumerate(asked) for _ in clip.questions]))


def questions(clip: RenderedClip) -> tuple[Sample, ...]:
    """Returns the questions about the sounds of a clip, and some about what is seen."""
    many = {"first": len(clip.sounds) > 1, "last": len(clip.sounds) > 1, "while": len(clip.clip.events) > 1}
    made = [("seen", *turn) for turn in clip.turns(SEEN_QUESTIONS)]
    made += [(kind + SEVERAL * many.get(kind, False), *turn) for kind, *turn in clip.sound_turns()]
    made_by = Provenance(
        source="world", generator="sound", model=None, prompt_sha=None, created="2026-01-01T00:00:00+00:00", seed=SEED
    )
    return tuple(
        Sample(
            id=f"{clip.index}-{number}",
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


def showings(
    asked: Sequence[TestClip], clips: Sequence[RenderedClip], ear: AudioEncoder
) -> dict[str, list[SegmentFeatures]]:
    """Returns the clips as they are (`own`) and under each control."""
    own, half = [clip.segment for clip in asked], len(asked) // 2
    return {
        "own": own,
        "silent": [segment(replace(clip, sounds=()), ear) for clip in clips],
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
