"""Sizes and times are those of what is decoded, whatever headers and timestamps claim."""

import itertools
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tests.video.clips import number_of, picture, write_clip, write_sound
from videollm.config import SamplingConfig
from videollm.errors import VideoFormatError
from videollm.video import Frames, decode, probe
from videollm.video.audio import iter_audio
from videollm.video.joined import part_starts
from videollm.video.subtitles import embedded_subtitles

EVERY = SamplingConfig(fps=1000)


def numbers(frames: Frames) -> list[int]:
    return [number_of(image) for image in frames.pixels.permute(0, 2, 3, 1).numpy()]


def rewritten(source: Path, target: Path, ticks: Sequence[int], tags: dict[str, str] | None = None) -> Path:
    """Copies a clip without B-frames and gives its packets the times `ticks`, in seconds * 24, and its stream tags."""
    with av.open(str(source)) as read, av.open(str(target), "w") as output:
        stream = output.add_stream_from_template(read.streams.video[0])
        stream.metadata.update(tags or {})
        packets = (packet for packet in read.demux(video=0) if packet.size)
        for packet, tick in zip(packets, ticks, strict=True):
            packet.time_base, packet.pts, packet.dts = Fraction(1, 24), tick, tick
            packet.duration, packet.stream = 1, stream
            output.mux(packet)
    return target


JOINED = [
    (3, "a.ts", {"bf": "3", "g": "10"}),
    (3, "a.ts", {"codec": "mpeg2video", "bf": "2", "g": "10", "b": "4M"}),
    (3, "a.mpg", {"codec": "mpeg2video", "bf": "2", "g": "10", "b": "4M"}),
    (2, "a.mkv", {"bf": "3", "g": "10"}),  # FFmpeg reads no third one
    (2, "a.webm", {"codec": "libvpx-vp9", "cpu-used": "5"}),
]


@pytest.mark.parametrize(("count", "name", "how"), JOINED)
def test_the_parts_of_a_joined_file_follow_one_another(count, name, how, tmp_path):
    path = write_clip(tmp_path / name, **how)
    path.write_bytes(count * path.read_bytes())
    frames = decode(path, EVERY)
    assert numbers(frames) == count * list(range(48)) and frames.lost == 0
    assert frames.times_s.tolist() == pytest.approx(np.arange(48 * count) / 24, abs=0.005)
    assert frames.info.duration_s == pytest.approx(2 * count, abs=0.005)
    assert frames.info.fps == pytest.approx(24, rel=0.01)
    few = decode(path, SamplingConfig(times_s=tuple(2 * n + 0.51 for n in range(count))))
    assert numbers(few) == count * [12]


def test_a_part_that_starts_within_the_one_before_follows_it(tmp_path):
    first = write_clip(tmp_path / "a.ts", g="10", bf="2")
    second = write_clip(tmp_path / "b.ts", ticks=range(36, 60), g="10", bf="2")
    (tmp_path / "c.ts").write_bytes(first.read_bytes() + second.read_bytes())
    frames = decode(tmp_path / "c.ts", EVERY)
    assert numbers(frames) == [*range(48), *range(24)]
    assert frames.times_s.diff().tolist() == pytest.approx([1 / 24] * 71, abs=0.001)


def test_sound_of_a_joined_file_stays_with_its_pictures(tmp_path):
    path = tmp_path / "a.ts"
    with av.open(str(path), "w") as output:
        stream, sound = output.add_stream("libx264", rate=24), output.add_stream("aac", rate=44100)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        write_sound(output, sound, 1.0)  # half as long as the pictures
        for number in range(48):
            frame = av.VideoFrame.from_ndarray(picture(number))
            frame.pts, frame.time_base = number, Fraction(1, 24)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    path.write_bytes(2 * path.read_bytes())
    pieces = list(iter_audio(path))
    gaps = [(a.end_s, b.start_s) for a, b in itertools.pairwise(pieces) if b.start_s > a.end_s + 0.1]
    assert gaps == [(pytest.approx(1.0, abs=0.1), pytest.approx(2.0, abs=0.1))]
    assert pieces[-1].end_s == pytest.approx(3.0, abs=0.1)


def test_subtitles_of_a_joined_file_stay_with_its_pictures(tmp_path):
    clip, path = write_clip(tmp_path / "clip.mkv", g="10"), tmp_path / "a.mkv"
    (tmp_path / "a.srt").write_text("1\n00:00:00,500 --> 00:00:01,000\nhello\n")
    with av.open(str(clip)) as read, av.open(str(tmp_path / "a.srt")) as text, av.open(str(path), "w") as output:
        streams = [output.add_stream_from_template(s) for s in (read.streams.video[0], text.streams.subtitles[0])]
        for packet in [*text.demux(), *read.demux(video=0)]:
            if packet.size:
                packet.stream = streams[packet.stream.type == "subtitle"]
                output.mux(packet)
    path.write_bytes(2 * path.read_bytes())
    assert [cue.start_s for cue in embedded_subtitles(path)] == pytest.approx([0.5, 2.5], abs=0.01)


@pytest.mark.parametrize(
    ("stamps", "starts"),
    [
        ([0, 3, 1, 2, 4, 7, 5, 6], [0]),  # in order of decoding
        ([0, 1, 2, 3, 1, 5, 6, 7], [0]),  # one wrong timestamp
        ([0, 1, 2, 900, 4, 5, 6, 7], [0]),
        ([0, 1, 2, 3, 0, 1, 2, 3], [0, 4]),
        ([0, 1, 2, 3, None, 1, 2, 3], [0]),
    ],
)
def test_a_wrong_timestamp_begins_no_part(stamps, starts):
    assert part_starts(stamps, np.array([True] + [False] * 3 + [True] + [False] * 3)) == starts
    if starts == [0] and None not in stamps and 3 not in stamps[1:2]:
        assert part_starts(stamps, np.ones(8, bool)) == starts  # where every picture is a key frame


TAGS = ["00:00:03,000000000", "three", "3", "", "1:2:3:4", "inf", "nan:nan:nan", "-1:00:00", "9" * 400 + ":00:00",
        "01:00:03.000000000", "１:００:０３"]  # fmt: skip


@pytest.mark.parametrize("name", ["a.mkv", "a.nut"])
def test_a_duration_tag_says_nothing_of_a_whole_file(name, tmp_path):
    clip = write_clip(tmp_path / "clip.mkv", bf="0", frames=12)
    for tag in TAGS:
        frames = decode(rewritten(clip, tmp_path / name, range(12), {"DURATION": tag}), EVERY)
        assert (len(frames), frames.lost) == (12, 0), tag
        assert frames.info.duration_s == pytest.approx(0.5, abs=0.002), tag


def test_frames_that_avi_claims_beyond_its_whole_data_are_not_missing(tmp_path):
    path = write_clip(tmp_path / "a.avi", codec="mpeg4")
    data = bytearray(path.read_bytes())
    at = data.index(b"strh") + 8 + 32  # the length of the stream in its header
    data[at : at + 4] = (1000).to_bytes(4, "little")
    path.write_bytes(data)
    assert decode(path, EVERY).lost == 0


def test_a_last_frame_years_later_is_refused(tmp_path):
    clip = write_clip(tmp_path / "clip.mkv", bf="0", frames=8)
    path = rewritten(clip, tmp_path / "a.mkv", [*range(7), 24 * 86400 * 365])
    with pytest.raises(VideoFormatError, match=r"its timestamps span 365\.0 days; the limit is 7 days"):
        probe(path)
    path = rewritten(clip, tmp_path / "b.mkv", [*range(7), 24 * 86400])
    frames = decode(path, SamplingConfig(fps=1))  # an hour or a day can be true
    assert frames.times_s.tolist() == pytest.approx([0, 6 / 24, 86400], abs=0.01)


@pytest.mark.parametrize(("size", "aspect"), [((3840, 2), None), ((34, 600), None), ((160, 120), Fraction(20, 1))])
def test_extreme_shapes_are_refused(size, aspect, tmp_path):
    path = write_clip(tmp_path / "a.mov", size=size, frames=2, pixel_aspect=aspect)
    with pytest.raises(VideoFormatError, match="the limit is 16 to 1"):
        probe(path)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_pictures_of_too_many_pixels_are_refused_before_they_are_decoded(suffix, tmp_path):
    path = tmp_path / f"a.{suffix}"
    Image.new("L", (8200, 8200)).save(path)
    with pytest.raises(VideoFormatError, match="8200x8200 pixels; the limit is 67108864"):
        probe(path)


def tiled(path: Path, colours: Sequence[tuple[int, int, int]]) -> Path:
    """Writes an AVIF whose picture is a grid of 2x2 tiles of 64x64 pixels."""
    tiles = []
    for colour in colours:
        Image.new("RGB", (64, 64), colour).save(path, "AVIF", quality=100, subsampling="4:4:4")
        tiles.append(path.read_bytes())
    path.write_bytes(grid_of(tiles))
    return path


def box(kind: bytes, *content: bytes) -> bytes:
    data = b"".join(content)
    return (8 + len(data)).to_bytes(4, "big") + kind + data


def inside(data: bytes, kind: bytes) -> bytes:
    """The content of the first box of a kind."""
    at = data.index(kind)
    return data[at + 4 : at - 4 + int.from_bytes(data[at - 4 : at], "big")]


def grid_of(files: Sequence[bytes]) -> bytes:
    """Joins four AVIF files of one picture each to a grid (ISO/IEC 23008-12, 6.6.2.3)."""
    tiles = [inside(file, b"mdat") for file in files]
    full, count = bytes(4), len(tiles)
    entry = lambda n, kind: box(b"infe", b"\2\0\0\0", n.to_bytes(2, "big"), b"\0\0", kind, b"\0")  # noqa: E731
    infos = [entry(1, b"grid"), *(entry(n, b"av01") for n in range(2, 2 + count))]
    refs = box(b"dimg", b"\0\1", count.to_bytes(2, "big"), *(n.to_bytes(2, "big") for n in range(2, 2 + count)))
    size = lambda side: box(b"ispe", full, side.to_bytes(4, "big"), side.to_bytes(4, "big"))  # noqa: E731
    pixi = box(b"pixi", full, b"\3\x08\x08\x08")
    shared = box(b"av1C", inside(files[0], b"av1C"))
    ipco = box(b"ipco", size(128), size(64), pixi, shared)
    linked = [b"\0\1\3\1\3\x84", *(n.to_bytes(2, "big") + b"\3\2\3\x84" for n in range(2, 2 + count))]
    ipma = box(b"ipma", full, (1 + count).to_bytes(4, "big"), *linked)
    layout = b"\0\0\1\1" + (128).to_bytes(2, "big") * 2

    def meta(start: int) -> bytes:
        places, at = [], start
        for number, item in enumerate([layout, *tiles], 1):
            places.append(
                number.to_bytes(2, "big") + b"\0\0\0\1" + at.to_bytes(4, "big") + len(item).to_bytes(4, "big")
            )
            at += len(item)
        return box(
            b"meta",
            full,
            box(b"hdlr", full, full, b"pict", bytes(13)),
            box(b"pitm", full, b"\0\1"),
            box(b"iloc", full, b"\x44\0", (1 + count).to_bytes(2, "big"), *places),
            box(b"iinf", full, (1 + count).to_bytes(2, "big"), *infos),
            box(b"iref", full, refs),
            box(b"iprp", ipco, ipma),
        )

    head = box(b"ftyp", b"avif", full, b"avifmif1miaf")
    start = len(head) + len(meta(0)) + 8
    return head + meta(start) + box(b"mdat", layout, *tiles)


def test_tiles_of_a_picture_are_put_together(tmp_path):
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)]
    path = tiled(tmp_path / "grid.avif", colours)
    frames = decode(path, SamplingConfig(fps=2), short_side=64)
    assert (frames.info.width, frames.info.height, frames.info.duration_s) == (128, 128, 0.04)
    assert frames.pixels.shape == (1, 3, 64, 64)
    found = frames.pixels[0, :, 16::32, 16::32].flatten(1).T.int().numpy()
    assert np.abs(found - np.array(colours)).max() < 12
    heic = tmp_path / "grid.heic"
    heic.write_bytes(path.read_bytes().replace(b"avifmif1miaf", b"heicmif1heic").replace(b"ftypavif", b"ftypheic"))
    with pytest.raises(VideoFormatError, match="stored in tiles, which can be read in AVIF only"):
        probe(heic)


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_a_still_picture_before_the_video_is_not_the_video(name, tmp_path):
    clip = write_clip(tmp_path / "clip.mkv", frames=12, bf="0")
    path = tmp_path / name
    with av.open(str(clip)) as read, av.open(str(path), "w") as output:
        still = output.add_stream("mjpeg", rate=24)
        still.width, still.height, still.pix_fmt = 640, 480, "yuvj420p"
        moving = output.add_stream_from_template(read.streams.video[0])
        still.disposition, moving.disposition = 1, 0  # default and none
        output.mux(still.encode(av.VideoFrame.from_ndarray(picture(99, 640, 480))))
        output.mux(still.encode())
        for packet in read.demux(video=0):
            if packet.size:
                packet.stream = moving
                output.mux(packet)
    frames = decode(path, EVERY)
    assert numbers(frames) == list(range(12))
    assert (frames.info.width, frames.info.codec) == (160, "h264")
