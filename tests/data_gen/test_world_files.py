"""What make_world.py writes: files that decode to what their annotation says, the same each time."""

import hashlib
import json
import subprocess
import sys
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from PIL import Image

from data_gen.make_world import main
from data_gen.world.clip import Event, WorldClip
from data_gen.world.config import WorldConfig
from data_gen.world.draw import frames
from data_gen.world.fonts import glyph_names
from data_gen.world.scene import draw_clips
from data_gen.world.splits import SPLITS
from data_gen.world.vocabulary import COLOURS, GLYPHS, KINDS
from videollm.config import SamplingConfig
from videollm.video import Frames, decode

ROOT = Path(__file__).parents[2]
FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
COUNTS = {"train": 10, "order": 4, "perturbed": 5, "style": 2}
ARGUMENTS = ["--seed", "7", "--seconds", "2", "3"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("world")
    splits = [f"{name}={count}" for name, count in COUNTS.items()]
    assert main(["--out", str(out), "--split", *splits, *ARGUMENTS, "--processes", "1", "--contact-sheet"]) == 0
    return out


def read(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "annotations.jsonl").read_text(encoding="utf-8").splitlines()]


def decoded(world: Path, truth: dict[str, Any]) -> Frames:
    return decode(world / truth["split"] / truth["video"], SamplingConfig(fps=500))


def digest(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.suffix in (".mp4", ".jsonl")]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_same_arguments_make_the_same_files_with_any_number_of_processes(world: Path, tmp_path: Path):
    splits = [f"{name}={COUNTS[name]}" for name in ("perturbed", "train")]
    command = [sys.executable, ROOT / "data_gen" / "make_world.py", "--out", tmp_path, "--split", *splits, *ARGUMENTS]
    subprocess.run([*command, "--processes", "2"], check=True, capture_output=True)
    for name in ("perturbed", "train"):
        assert digest(tmp_path / name) == digest(world / name)
        assert len(digest(tmp_path / name)) == COUNTS[name] + 1


def test_fewer_clips_are_the_first_of_many(world: Path, tmp_path: Path):
    assert main(["--out", str(tmp_path), "--split", "train=2", *ARGUMENTS, "--processes", "1"]) == 0
    few, many = (path / "train" / "annotations.jsonl" for path in (tmp_path, world))
    assert few.read_text().splitlines() == many.read_text().splitlines()[:2]


def test_annotations_have_the_fields_of_the_contract(world: Path):
    for name, count in COUNTS.items():
        rows = read(world / name)
        assert [row["id"] for row in rows] == [f"{name}-{k:06d}" for k in range(count)]
        for row in rows:
            assert row["split"] == name and row["seed"] == 7 and (row["width"], row["height"]) == (96, 96)
            assert set(row["captions"]) == {"en", "zh", "es"}
            assert set(row["captions"]["en"]) == {"short", "detailed", "dense"}
            assert [thing["id"] for thing in row["objects"]] == list(range(len(row["objects"])))
            assert {event["kind"] for event in row["events"]} <= set(KINDS)


def test_frames_are_stored_at_the_times_of_the_tracks(world: Path):
    for name in COUNTS:
        for truth in read(world / name):
            shown = decoded(world, truth)
            times = [row[0] for row in truth["objects"][0]["track"]]
            assert shown.times_s.tolist() == pytest.approx(times, abs=1e-4)
            assert shown.info.duration_s == pytest.approx(truth["duration_s"], abs=1e-3)
            assert shown.info.codec == "h264" and (shown.info.width, shown.info.height) == (96, 96)


def test_dropped_frames_and_speed_change_the_times(world: Path):
    by_name = {truth["perturbation"]: truth for truth in read(world / "perturbed")}
    gaps = np.diff([row[0] for row in by_name["frame_drop"]["objects"][0]["track"]])
    assert set(gaps.round(3)) == {0.083, 0.167}
    assert by_name["speed"]["fps"] in (6.0, 24.0)


def test_things_have_their_colour_where_and_when_their_tracks_say(world: Path):
    """Away from events, when nothing is half there."""
    checked = 0
    for truth in read(world / "train"):
        pixels = decoded(world, truth).pixels.numpy()
        busy = [(event["start_s"], event["end_s"]) for event in truth["events"]]
        turned = {event["object"]: event for event in truth["events"] if event["kind"] == "change_colour"}
        for thing in truth["objects"]:
            for row, picture in zip(thing["track"], pixels, strict=True):
                time_s, x, y, radius, _, visible = row
                if any(start < time_s < end for start, end in busy):
                    continue
                has_turned = thing["id"] in turned and time_s >= turned[thing["id"]]["end_s"]
                colour = turned[thing["id"]]["to"] if has_turned else thing["colour"]
                assert _shows(picture, x, y, radius, colour) >= visible, (truth["id"], thing["shape"], row)
                checked += visible
    assert checked > 300


def _shows(picture: np.ndarray, x: float, y: float, radius: float, colour: str) -> bool:
    """Whether within 0.9 radii of a place pixels have about this colour, or a lit or shaded form of it.

    picture: uint8 (3,H,W)."""
    size = picture.shape[1]
    rows, columns = np.mgrid[:size, :size] + 0.5
    near = picture[:, np.hypot(columns - x * size, rows - y * size) < 0.9 * radius * size].astype(float)
    wanted = np.array(COLOURS[colour], float)[:, None]
    distances = [
        np.linalg.norm(near - np.minimum(wanted * light, 255), axis=0) for light in (0.6, 0.7, 0.8, 0.9, 1.0, 1.1)
    ]
    return bool((np.min(distances, axis=0) < 60).mean() > 0.06)


def test_order_pairs_hold_the_same_frames_in_another_order(world: Path):
    one, two, three, four = (decoded(world, truth).pixels.numpy() for truth in read(world / "order"))
    np.testing.assert_array_equal(one, two[::-1])
    assert (one != two).any()
    cut = round(read(world / "order")[2]["cuts"][0] * 12)
    np.testing.assert_array_equal(np.concatenate([three[cut:], three[:cut]]), four)
    paired = [truth["order_pair"] for truth in read(world / "order")]
    assert paired == ["order-000001", "order-000000", "order-000003", "order-000002"]


@pytest.mark.parametrize("index", range(6))
def test_bags_of_drawn_frames_of_a_pair_are_equal(index: int):
    bags = [
        sorted(picture.tobytes() for picture in frames(clip, 64, (), None))
        for clip in draw_clips(WorldConfig(size=64), "order", index)
    ]
    assert bags[0] == bags[1]


@cache
def examples() -> dict[str, tuple[WorldClip, Event]]:
    """One clip with each kind of event."""
    found: dict[str, tuple[WorldClip, Event]] = {}
    for index in range(2000):
        (clip,) = draw_clips(WorldConfig(), "long_tail", index)
        for event in clip.events:
            found.setdefault(event.kind, (clip, event))
        if len(found) == len(KINDS):
            return found
    raise AssertionError(f"no {set(KINDS) - set(found)} in 2000 clips")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_event_shows_in_the_pixels_and_in_its_time_alone(kind: str):
    clip, event = examples()[kind]
    pictures = np.stack(list(frames(clip, 96, (), None))).astype(int)
    during = pictures[event.start : event.end + 1]
    seen = np.abs(during - during[0]).max((0, 3)) > 40
    assert seen.mean() > 0.004  # of the frame's area: 37 of 96 x 96 pixels
    before = max([e.end for e in clip.events if e.end < event.start] + [s for s in clip.scenes if s <= event.start])
    assert (pictures[before : event.start + 1] == pictures[event.start]).all()
    assert (pictures[event.start + 1] != pictures[event.start]).any()
    assert (pictures[event.end - 1] != pictures[event.end]).any()


def test_perturbations_show_in_the_pixels():
    for index, name in enumerate(("noise", "blur", "occlusion")):
        (clip,) = draw_clips(WorldConfig(), "perturbed", index)
        clean = next(frames(clip.variant(perturbation=None), 96, (), None)).astype(int)
        disturbed = next(frames(clip, 96, (), None)).astype(int)
        assert clip.perturbation == name and np.abs(clean - disturbed).mean() > 1


@pytest.mark.parametrize(
    ("fps", "size"), [(Fraction(30000, 1001), 64), (Fraction(25), 224), (Fraction(15, 2), 96)], ids=str
)
def test_any_rate_and_size(fps: Fraction, size: int, tmp_path: Path):
    arguments = ["--fps", str(fps), "--size", str(size), "--seconds", "3", "--processes", "1"]
    assert main(["--out", str(tmp_path), "--split", "train=1", *arguments]) == 0
    (truth,) = read(tmp_path / "train")
    shown = decoded(tmp_path, truth)
    assert len(shown) == int(3 * fps) and shown.pixels.shape[2:] == (size, size)
    assert shown.times_s.tolist() == pytest.approx([float(k / fps) for k in range(len(shown))], abs=1e-4)


def test_photographs_become_backgrounds_that_things_stand_out_from(tmp_path: Path):
    noise = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "photo.png")
    config = WorldConfig(photos=(tmp_path / "photo.png",))
    clips = [clip for index in range(12) for clip in draw_clips(config, "train", index)]
    (clip, *_) = [clip for clip in clips if clip.backgrounds[0].kind == "photo"]
    picture = next(frames(clip, 96, config.photos, None))
    thing = next(thing for thing in clip.things if clip.stage.alpha[thing.id, 0] == 1)
    x, y, radius = (values[thing.id, 0] for values in clip.stage.on_screen())
    assert _shows(picture.transpose(2, 0, 1), x, y, radius, thing.colour)
    corner = picture[:10, :10].reshape(-1, 3).astype(int)
    assert corner.std() > 3 and (np.abs(corner - clip.backgrounds[0].level) < 100).all()


def test_a_font_adds_glyphs_to_the_shapes():
    names = glyph_names(FONT)
    assert {"sun", "snowman", "telephone"} <= set(names) <= set(GLYPHS)
    config = WorldConfig(font=FONT)
    clips = [clip for index in range(20) for clip in draw_clips(config, "train", index)]
    clip, thing = next((c, t) for c in clips for t in c.things if t.shape in names and c.stage.alpha[t.id, 0] == 1)
    picture = next(frames(clip, 224, (), FONT))
    x, y, radius = (values[thing.id, 0] for values in clip.stage.on_screen())
    assert _shows(picture.transpose(2, 0, 1), x, y, radius, thing.colour)


def test_the_contact_sheet_shows_every_clip(world: Path):
    for name, count in COUNTS.items():
        with Image.open(world / name / "contact_sheet.png") as sheet:
            rows = np.array_split(np.asarray(sheet.convert("L")), -(-count // 2))
        assert all(row.std() > 20 for row in rows)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--split", "training=3"], "no split 'training'; choose from train, val"),
        (["--split", "train"], "the number of clips of train is missing"),
        (["--split", "train=many"], "write train=N"),
        (["--split", "train=0"], "cannot have 0 clips"),
        (["--split", "order=3"], "an even number"),
        (["--videos", "1", "--size", "300"], "size is 300"),
        (["--videos", "1", "--size", "97"], "must be even"),
        (["--videos", "1", "--fps", "0"], "fps is 0"),
        (["--videos", "1", "--fps", "fast"], "'fast' is not a number of frames"),
        (["--videos", "1", "--fps", "2"], "8 frames; a clip needs at least 16"),
        (["--videos", "1", "--seconds", "1"], "lie in 2 to 60"),
        (["--videos", "1", "--seconds", "5", "4"], "must increase"),
        (["--videos", "1", "--seconds", "2", "3", "4"], "one or two numbers"),
        (["--videos", "1", "--things", "0", "2"], "things are 0 to 2"),
        (["--videos", "1", "--things", "2", "1"], "must increase and lie in 1 to 4"),
        (["--videos", "1", "--seed", "-1"], "seed is -1"),
        (["--videos", "1", "--processes", "0"], "processes is 0"),
        (["--videos", "1", "--photos", "nowhere"], "nowhere is not a folder"),
        (["--videos", "1", "--photos", "."], "has no picture"),
        (["--videos", "1", "--font", "nowhere.ttf"], "nowhere.ttf is not a font"),
        (["--videos", "few"], "invalid int value"),
        (["--unknown"], "unrecognized arguments"),
    ],
)
def test_bad_arguments_are_one_line_and_exit_code_2(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    try:
        status = main(["--out", "out", "--processes", "1", *arguments])
    except SystemExit as left:
        status = left.code
    error = capsys.readouterr().err
    assert status == 2 and error.count("\n") == 1 and says in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_broken_photograph_is_bad_input(processes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "photo.jpg").write_bytes(b"no picture")
    arguments = ["--photos", str(tmp_path), "--processes", processes]
    assert main(["--out", str(tmp_path / "out"), "--split", "train=12", *arguments]) == 2
    assert f"{tmp_path / 'photo.jpg'} is not a picture" in capsys.readouterr().err


def test_nothing_is_overwritten(world: Path, capsys: pytest.CaptureFixture[str]):
    before = digest(world)
    assert main(["--out", str(world), "--split", "val=1", "train=1"]) == 2
    assert "annotations.jsonl exists" in capsys.readouterr().err
    assert digest(world) == before


def test_worker_processes_start_without_torch():
    code = "import sys, data_gen.make_world; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_every_split_can_be_drawn_at_the_limits():
    shortest = WorldConfig(size=64, fps=Fraction(8), seconds=(2.0, 2.0))
    longest = WorldConfig(size=224, fps=Fraction(4), seconds=(60.0, 60.0))
    for split in SPLITS:
        for config in (shortest, longest):
            clip = draw_clips(config, split, 0)[0]
            assert clip.events and 2 <= clip.duration_s <= 60
