"""Instruction rows about the sample video, an image of it, and nothing."""

import json
from pathlib import Path

from PIL import Image

from videollm import SamplingConfig, decode
from videollm.datasets.schema import Message, Provenance, Sample

SAMPLE = Path(__file__).parents[2] / "scripts/samples/sample.mp4"
PROVENANCE = Provenance(
    source="test", generator="test", model=None, prompt_sha=None, created="2026-01-01T00:00:00+00:00", seed=None
)
CAPTIONS = [
    (None, None, "A cat opens its eyes, then a cup of coffee appears, then a rocket."),
    (0.0, 4.0, "A tabby cat looks past the camera."),
    (4.0, 8.0, "A cup of coffee appears on a saucer."),
    (8.0, 12.0, "A rocket on its pad disappears."),
    (0.0, 2.0, "The camera zooms in on a cat."),
    (9.0, 9.01, "A rocket moves up."),
]


def sample(name: str, task: str, *messages: str, video: str = str(SAMPLE), start=None, end=None) -> Sample:
    roles = ("user", "assistant") * (len(messages) // 2)
    return Sample(
        id=name,
        video=video,
        start=start,
        end=end,
        task=task,
        language="en",
        messages=tuple(Message(r, m) for r, m in zip(roles, messages, strict=True)),
        answer_times=(),
        provenance=PROVENANCE,
    )


def write_rows(path: Path) -> Path:
    """Twelve rows: six captions of parts, conversations of one and several turns, an image, text alone."""
    picture = path.with_suffix(".png")
    Image.fromarray(decode(SAMPLE, SamplingConfig(times_s=(5.0,))).pixels[0].permute(1, 2, 0).numpy()).save(picture)
    rows = [
        sample(str(i), "caption/short", "Describe it.", text, start=start, end=end)
        for i, (start, end, text) in enumerate(CAPTIONS)
    ]
    rows += [
        sample("talk", "conversation", "What comes first?", "A cat.", "And then?", "Coffee.", "And last?", "A rocket."),
        sample("qa", "qa/order", "What comes last?", "A rocket."),
        sample("image", "qa", "What is it?", "Coffee.", video=picture.name),
        sample("text", "qa", "What is two and two?", "Four.", video=""),
        sample("text2", "conversation", "Say yes.", "Yes.", "Say no.", "No.", video=""),
        sample("qa2", "qa", "Is there a dog?", "No, there is a cat, a cup of coffee and a rocket.", end=8.0),
    ]
    path.write_text("".join(row.to_json() + "\n" for row in rows))
    assert json.loads(path.read_text().splitlines()[0])["id"] == "0"
    return path
