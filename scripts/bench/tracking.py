"""How well objects are followed: python scripts/bench/tracking.py [--clips 40] [--out FILE]

The world's clips say exactly where every thing is. The tracker of `videollm track` gets boxes of the frames that it
would look at and is scored by TrackEval, the reference implementation of HOTA, MOTA and IDF1 (`pip install --no-deps
trackeval`; its dependencies include an OpenCV with windows, which the scores do not need). Boxes are the true ones, or
true ones spoilt as a detector spoils them: MISSED of them left out, places shifted by SHIFT of the size, FALSE boxes a
frame added. The control gives every box a number of its own. The last row is the whole command on rendered clips, whose
drawn shapes the detector was not trained on.

Numbers are kept apart by class in `videollm track`; here all boxes have one class, which is harder.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from report import Row, describe_machine, publish
from torchvision.ops import box_iou
from trackeval.metrics import CLEAR, HOTA, Identity

from data_gen.world.config import WorldConfig
from data_gen.world.make import Job, run
from videollm.datasets.world_annotation import WorldAnnotation
from videollm.senses.objects import ObjectSense
from videollm.senses.tracks import Detection, Tracker
from videollm.video.decoding import decode

MISSED, SHIFT, FALSE = 0.2, 0.05, 0.1
LEAST_SIDE = 0.02  # of a true box that counts, as a share of the picture: less of a thing at the rim is no thing
RATES = (2.0, 12.0)  # that of `videollm track`, and every frame of the clips
DETECTED = 10  # clips that the detector looks at
METRICS = (HOTA(), CLEAR({"PRINT_CONFIG": False}), Identity({"PRINT_CONFIG": False}))

Box = tuple[float, float, float, float]
Boxes = dict[int, Box]  # by the number of the thing
Clip = list[Boxes]  # one for each frame that is looked at


def true_boxes(truth: WorldAnnotation, times_s: Sequence[float]) -> Clip:
    """Where every visible thing is at these times."""
    frames: Clip = []
    for time_s in times_s:
        boxes = {}
        for thing in truth.objects:
            point = min(thing.track, key=lambda p: abs(p.time_s - time_s))
            box = np.clip(
                [point.x - point.radius, point.y - point.radius, point.x + point.radius, point.y + point.radius], 0, 1
            )
            if point.visible and min(box[2] - box[0], box[3] - box[1]) >= LEAST_SIDE:
                boxes[thing.id] = tuple(box.tolist())
        frames.append(boxes)
    return frames


def spoilt(frames: Clip, rng: np.random.Generator) -> list[list[Box]]:
    found = []
    for boxes in frames:
        kept = [np.array(box) for box in boxes.values() if rng.random() >= MISSED]
        kept = [box + SHIFT * rng.standard_normal(4) * (box[2] - box[0]) for box in kept]
        for _ in range(rng.poisson(FALSE)):
            x, y, side = rng.uniform(0, 0.8), rng.uniform(0, 0.8), rng.uniform(0.1, 0.2)
            kept.append(np.array([x, y, x + side, y + side]))
        found.append([tuple(np.clip(box, 0, 1).tolist()) for box in kept])
    return found


def followed(frames: Iterable[Sequence[Box]]) -> Clip:
    """The boxes with the numbers that the tracker gives them."""
    tracker, count = Tracker(), 0
    for time_s, boxes in enumerate(frames):
        tracker.add(float(time_s), [Detection("thing", 1.0, box) for box in boxes])
        count += 1
    numbered: Clip = [{} for _ in range(count)]
    for track in tracker.tracks:
        for time_s, detection in zip(track.times_s, track.detections, strict=True):
            numbered[int(time_s)][track.number] = detection.box
    return numbered


def unfollowed(frames: Iterable[Sequence[Box]]) -> Clip:
    """The control: every box is a new thing."""
    numbers = iter(range(10**9))
    return [{next(numbers): box for box in boxes} for boxes in frames]


def scores(clips: Sequence[tuple[Clip, Clip]]) -> dict[str, float]:
    """HOTA, MOTA and IDF1 of (true, found) clips together."""
    totals = {}
    for metric in METRICS:
        each = {str(n): metric.eval_sequence(_sequence(*clip)) for n, clip in enumerate(clips)}
        totals |= metric.combine_sequences(each)
    return {name: float(np.mean(totals[name])) for name in ("HOTA", "MOTA", "IDF1")}


def _sequence(true: Clip, found: Clip) -> dict:
    """A clip as TrackEval takes it: numbers from 0 without holes, and overlaps."""
    places = [
        {name: n for n, name in enumerate(sorted({k for boxes in clip for k in boxes}))} for clip in (true, found)
    ]
    ids = [
        [np.array([place[k] for k in boxes], int) for boxes in clip]
        for clip, place in zip((true, found), places, strict=True)
    ]
    overlaps = [
        box_iou(torch.tensor(list(t.values())).view(-1, 4), torch.tensor(list(f.values())).view(-1, 4)).numpy()
        for t, f in zip(true, found, strict=True)
    ]
    return {
        "num_timesteps": len(true),
        "num_gt_ids": len(places[0]),
        "num_tracker_ids": len(places[1]),
        "num_gt_dets": sum(map(len, true)),
        "num_tracker_dets": sum(map(len, found)),
        "gt_ids": ids[0],
        "tracker_ids": ids[1],
        "similarity_scores": overlaps,
    }


def measure_tracker(truths: Sequence[WorldAnnotation], rate: float) -> list[Row]:
    def rows(what: str, boxes: Callable[[Clip], list[list[Box]]]) -> list[Row]:
        made = []
        for name, number in (("", followed), (", every box new (control)", unfollowed)):
            clips = []
            for truth in truths:
                frames = true_boxes(truth, np.arange(0, truth.duration_s, 1 / rate).tolist())
                clips.append((frames, number(boxes(frames))))
            made.append(_row(f"{what}, {rate:g} frames a second{name}", clips))
        return made

    rng = np.random.default_rng(0)
    exact = rows("exact boxes", lambda frames: [list(boxes.values()) for boxes in frames])
    return exact + rows("spoilt boxes", lambda frames: spoilt(frames, rng))


def measure_command(truths: Sequence[WorldAnnotation], folder: Path) -> Row:
    sense, clips = ObjectSense(device="cpu"), []
    for truth in truths[:DETECTED]:
        times = decode(folder / truth.video, sense.sampling).times_s.tolist()
        found: Clip = [{} for _ in times]
        for track in sense.tracks(folder / truth.video):
            for time_s, detection in zip(track.times_s, track.detections, strict=True):
                found[times.index(time_s)][track.number] = detection.box
        clips.append((true_boxes(truth, times), found))
    return _row("the detector's boxes of drawn shapes", clips)


def _row(what: str, clips: Sequence[tuple[Clip, Clip]]) -> Row:
    values = scores(clips)
    note = f"MOTA {values['MOTA']:.3f}, IDF1 {values['IDF1']:.3f}; {len(clips)} clips"
    return Row("tracking", f"HOTA, {what}", values["HOTA"], note=note, more_is_better=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--out", type=Path, help="write JSON here")
    options = parser.parse_args()
    config = WorldConfig(seconds=(8.0, 8.0), fps=Fraction(12), size=160)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "clips").mkdir()
        lines = [line for n in range(options.clips) for line in run(Job(config, folder, "test", n))]
        truths = [WorldAnnotation.from_values(json.loads(line)) for line in lines]
        rows = [row for rate in RATES for row in measure_tracker(truths, rate)]
        rows.append(measure_command(truths, folder))
    publish(rows, describe_machine(torch.float32, 1024), options.out)


if __name__ == "__main__":
    main()
