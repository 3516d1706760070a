import json
from pathlib import Path

import av
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from videollm.cli import main
from videollm.config import SamplingConfig
from videollm.cpu import openvino_networks
from videollm.senses.detector import COCO, SSDMobileNetV2, _anchors
from videollm.senses.drawing import box_at
from videollm.senses.objects import ObjectSense, most_at_once
from videollm.senses.tracks import Detection, Tracker, mot_lines
from videollm.video.decoding import decode, probe

SAMPLE = Path(__file__).parents[2] / "scripts/samples/sample.mp4"


@pytest.fixture(scope="module")
def sense() -> ObjectSense:
    return ObjectSense()


def test_the_sample_holds_a_cat_and_then_a_cup(sense: ObjectSense):
    found = {f.text: f for f in sense(SAMPLE)}
    assert {"cat", "cup"} <= found.keys() and "person" not in found
    assert (found["cat"].start_s, found["cup"].start_s) == (0, 4)
    assert found["cat"].end_s == pytest.approx(4, abs=0.6) and found["cat"].score > 0.7
    left, top, right, bottom = found["cat"].box
    assert right - left > 0.8 and bottom - top > 0.8  # it fills the picture


def test_the_detector_does_not_mind_what_else_is_in_the_batch(sense: ObjectSense):
    pixels = decode(SAMPLE, SamplingConfig(frames=4)).pixels
    boxes, scores = sense.model(pixels)
    for at in range(4):
        one_box, one_score = sense.model(pixels[at : at + 1])
        torch.testing.assert_close(one_box[0], boxes[at], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(one_score[0], scores[at], atol=1e-4, rtol=1e-4)


def test_openvino_computes_what_pytorch_does(sense: ObjectSense, monkeypatch: pytest.MonkeyPatch):
    pixels = decode(SAMPLE, SamplingConfig(frames=3)).pixels
    fast = sense.model(pixels)
    assert "_compiled" in vars(sense.model)
    monkeypatch.setattr(openvino_networks, "serves", lambda device, dtype: False)
    for a, b in zip(fast, sense.model(pixels), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_the_network_is_the_published_one():
    """1,917 anchors of SSD with six feature maps; 80 names with COCO's numbers."""
    assert _anchors().shape == (1917, 4)
    assert (len(COCO), COCO[1], COCO[13], COCO[90]) == (80, "person", "stop sign", "toothbrush")
    assert sum(p.numel() for p in SSDMobileNetV2().parameters()) == pytest.approx(16.8e6, rel=0.01)


def test_people_of_a_picture_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    pixels = decode(SAMPLE.with_name("astronaut.mp4"), SamplingConfig(times_s=(1.0,))).pixels[0]
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(tmp_path / "astronaut.png")
    assert main(["ask", str(tmp_path / "astronaut.png"), "How many people are there?"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "1 person."
    assert main(["ask", str(tmp_path / "astronaut.png"), "Is there a person?"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "Yes, 1 person."


def test_the_command_writes_tracks_in_every_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["track", str(SAMPLE), "--label", "cat", "--json", "--open", str(tmp_path / "cat.mp4")]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["at_once"] == {"cat": 1} and [t["name"] for t in printed["tracks"]] == ["cat"]
    assert probe(tmp_path / "cat.mp4").duration_s == pytest.approx(probe(SAMPLE).duration_s, abs=0.2)
    drawn, plain = (decode(p, SamplingConfig(times_s=(2.0,)), short_side=240) for p in (tmp_path / "cat.mp4", SAMPLE))
    assert (drawn.pixels.float() - plain.pixels.float()).abs().mean() > 2  # a box was drawn
    assert main(["track", str(SAMPLE), "--open", str(tmp_path / "all.txt")]) == 0
    rows = [line.split(",") for line in (tmp_path / "all.txt").read_text().splitlines()]
    assert all(len(row) == 10 for row in rows) and rows == sorted(rows, key=lambda r: (int(r[0]), int(r[1])))
    assert main(["track", str(SAMPLE), "--label", "unicorn"]) == 2
    assert "no class is named unicorn; choose from person, bicycle" in capsys.readouterr().err


def moving(step: float, start: float, y: float) -> list[Detection]:
    return [Detection("cat", 0.9, (start + step * n, y, start + step * n + 0.2, y + 0.2)) for n in range(8)]


@settings(max_examples=50, deadline=None)
@given(step=st.floats(-0.03, 0.03), gap=st.integers(0, 2))
def test_objects_keep_their_numbers(step: float, gap: int):
    """Two cats that move apart from each other, one of them unseen for up to two frames; boxes in any order."""
    above, below = moving(step, 0.4, 0.1), moving(-step, 0.4, 0.6)
    tracker = Tracker()
    for n in range(8):
        seen = [below[n]] if 3 <= n < 3 + gap else [below[n], above[n]] if n % 2 else [above[n], below[n]]
        tracker.add(float(n), seen)
    assert [len(t.times_s) for t in tracker.tracks] == [8 - gap, 8]
    assert {d.box[1] for d in tracker.tracks[0].detections} == {0.1}
    assert most_at_once(tracker.tracks) == {"cat": 2}


def test_what_returns_after_long_is_another():
    tracker = Tracker()
    cat = [Detection("cat", 0.9, (0.1, 0.1, 0.5, 0.5))]
    for n, seen in enumerate([cat, cat, [], [], [], cat]):
        tracker.add(float(n), seen)
    assert [t.times_s for t in tracker.tracks] == [[0, 1], [5]]


def test_boxes_move_evenly_between_frames():
    tracker = Tracker()
    tracker.add(1.0, [Detection("cat", 0.9, (0.0, 0.0, 0.5, 0.5))])
    tracker.add(2.0, [Detection("cat", 0.9, (0.1, 0.0, 0.6, 0.5))])
    (track,) = tracker.tracks
    assert box_at(track, 1.5) == pytest.approx((0.05, 0.0, 0.55, 0.5))
    assert box_at(track, 0.9) is None and box_at(track, 2.1) is None
    assert mot_lines([track], 200, 100)[0] == "1,1,0.00,0.00,100.00,50.00,0.9000,-1,-1,-1\n"


def test_a_picture_is_enough(sense: ObjectSense, tmp_path: Path):
    frames = decode(SAMPLE, SamplingConfig(times_s=(1.0,)))
    with av.open(str(tmp_path / "cat.png"), "w") as output:
        stream = output.add_stream("png")
        stream.height, stream.width = frames.pixels.shape[-2:]
        stream.pix_fmt = "rgb24"
        picture = av.VideoFrame.from_ndarray(frames.pixels[0].permute(1, 2, 0).contiguous().numpy(), "rgb24")
        output.mux(stream.encode(picture))
        output.mux(stream.encode())
    assert [f.text for f in sense(tmp_path / "cat.png")] == ["cat"]
