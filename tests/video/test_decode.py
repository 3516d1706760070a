"""Every way of reading returns the very frames, and their times, that a plain pass over the file shows."""

import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import imageio_ffmpeg
import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from tests.video.clips import HEIGHT, WIDTH, every_frame, number_of, picture, write_clip
from tests.video.conftest import CLIPS, VFR_TICKS
from videollm.config import SamplingConfig
from videollm.errors import ConfigError, VideoDecodeError, VideoRangeError
from videollm.video import Frames, decode, iter_frames, probe
from videollm.video.decoding import View, iter_views

DECORD_READS = [
    "mp4", "one group", "no b-frames", "offset mp4", "offset mkv", "variable rate mp4", "variable rate mkv",
    "open groups", "intra refresh", "fragmented", "hevc 10-bit", "vp9 webm", "mov", "flv", "rotated mov",
]  # fmt: skip


def times_of(name: str) -> np.ndarray:
    """When each frame of a clip is shown, in seconds from the first: what was written, not what was read."""
    how = CLIPS[name][1]
    ticks = np.array(how.get("ticks", range(48)), np.float64)
    return (ticks - ticks[0]) / how.get("rate", 24)


def as_shown(name: str, image: np.ndarray) -> np.ndarray:
    turned = np.rot90(image, CLIPS[name][1].get("rotation", 0) // 90)  # the muxer's angle is counterclockwise
    return turned[:, ::-1] if name == "mirrored" else turned


def images(frames: Frames) -> np.ndarray:
    return frames.pixels.permute(0, 2, 3, 1).numpy()


def some_times(name: str) -> list[SamplingConfig]:
    """Samplings that visit few and many groups of pictures, neighbours, and a range."""
    times = times_of(name)
    return [
        SamplingConfig(frames=1),
        SamplingConfig(frames=7),
        SamplingConfig(fps=10),
        SamplingConfig(times_s=(times[8], times[9] + 0.005, times[13], times[-1])),
        SamplingConfig(fps=1000, start_s=0.4, end_s=0.9),
        SamplingConfig(fps=1000),
    ]


@pytest.mark.parametrize("name", CLIPS)
def test_frames_are_those_of_a_plain_pass_at_their_written_times(name, clip):
    stored, times = every_frame(clip(name)), times_of(name)
    assert len(stored) == len(times)
    for sampling in some_times(name):
        frames = decode(clip(name), sampling)
        numbers = [int(np.abs(times - t).argmin()) for t in frames.times_s.tolist()]
        assert frames.times_s.tolist() == pytest.approx(times[numbers], abs=0.0006)  # Matroska counts milliseconds
        assert frames.lost == 0
        for number, image in zip(numbers, images(frames), strict=True):
            assert np.array_equal(image, as_shown(name, stored[number])), (sampling, number)
    assert numbers == list(range(len(times)))  # the last sampling asked for every frame


@pytest.mark.parametrize("name", ["mp4", "variable rate mkv", "avi with b-frames", "raw h264", "av1", "vp9 webm"])
def test_pictures_carry_the_number_they_were_written_with(name, clip):
    frames = decode(clip(name), SamplingConfig(fps=1000))
    assert [number_of(image) for image in images(frames)] == list(range(len(times_of(name))))


@pytest.mark.parametrize("name", DECORD_READS)
def test_decord_returns_the_same_frames_at_the_same_times(name, clip):
    pytest.importorskip("decord")
    for sampling in some_times(name)[1:5]:
        ours = decode(clip(name), sampling)
        theirs = decode(clip(name), replace(sampling, decoder="decord"))
        assert torch.equal(ours.times_s, theirs.times_s)
        difference = (ours.pixels.float() - theirs.pixels.float()).abs().mean((1, 2, 3))
        assert difference.max() < 2, sampling  # neighbouring frames differ by 10 and more


@pytest.mark.parametrize(
    "name", ["transport stream", "avi with b-frames", "rotated mkv", "mirrored", "gif", "raw h264"]
)
def test_decord_is_refused_where_it_would_return_other_frames(name, clip):
    pytest.importorskip("decord")
    with pytest.raises(VideoDecodeError, match=r"a\.\w+: decord cannot be used here: .*; use the decoder 'pyav'"):
        decode(clip(name), SamplingConfig(frames=2, decoder="decord"))


def test_a_target_takes_the_frame_shown_then(clip):
    """In the variable-rate clip frame 6 (tick 11) stays until frame 7 (tick 30)."""
    seconds = np.array([0.0, 10.9, 11.0, 29.9, 30.0]) / 24
    frames = decode(clip("variable rate mp4"), SamplingConfig(times_s=tuple(seconds)))
    assert [number_of(image) for image in images(frames)] == [0, 5, 6, 7]
    assert frames.times_s.tolist() == pytest.approx([0, 10 / 24, 11 / 24, 30 / 24])


def test_uniform_samples_are_the_middles_of_equal_parts(clip):
    frames = decode(clip("mp4"), SamplingConfig(frames=4))  # 48 frames in 2 s
    assert [number_of(image) for image in images(frames)] == [6, 18, 30, 42]


def test_key_frames(clip):
    frames = decode(clip("no b-frames"), SamplingConfig(keyframes=True))
    assert [number_of(image) for image in images(frames)] == [0, 10, 20, 30, 40]
    few = decode(clip("no b-frames"), SamplingConfig(keyframes=True, max_frames=2, start_s=0.2))
    assert [number_of(image) for image in images(few)] == [20, 40]


def test_an_edit_list_hides_what_it_cuts(clip, tmp_path):
    """Cut without encoding again, the file keeps frames before the cut that are decoded and not shown."""
    path = tmp_path / "cut.mp4"
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    cut = [ffmpeg, "-v", "error", "-ss", "1.2", "-i", str(clip("mp4")), "-c", "copy", str(path)]
    subprocess.run(cut, check=True)
    frames = decode(path, SamplingConfig(fps=1000))
    stored = every_frame(path)
    numbers = [number_of(image) for image in images(frames)]
    assert numbers == list(range(numbers[0], 48)) and numbers[0] >= 28
    assert len(stored) == len(frames) and frames.lost == 0
    assert frames.times_s.tolist() == pytest.approx(np.arange(len(numbers)) / 24, abs=1e-4)
    assert frames.info.duration_s == pytest.approx(len(numbers) / 24, abs=0.01)


def test_pictures_that_are_only_referred_to_are_no_frames(clip, tmp_path):
    """VP8's two-pass encoder stores such pictures as packets with times of their own."""
    path = tmp_path / "a.webm"
    encode = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(clip("mp4")), "-c:v", "libvpx", "-b:v", "400k"]
    encode += ["-auto-alt-ref", "1", "-lag-in-frames", "16", "-passlogfile", str(tmp_path / "log")]
    subprocess.run([*encode, "-pass", "1", "-f", "null", "-"], check=True)
    subprocess.run([*encode, "-pass", "2", str(path)], check=True)
    with av.open(str(path)) as container:
        assert sum(packet.size > 0 for packet in container.demux(video=0)) > 48
    frames = decode(path, SamplingConfig(fps=1000))
    assert [number_of(image) for image in images(frames)] == list(range(48))
    assert frames.lost == 0


@pytest.mark.parametrize(
    ("name", "codec", "fps"),
    [("mp4", "h264", 24), ("offset mkv", "h264", 24), ("hevc 10-bit", "hevc", 24), ("vp9 webm", "vp9", 24),
     ("av1", "av1", 24), ("gif", "gif", 20)],
)  # fmt: skip
def test_probe_takes_the_duration_from_the_packets(name, codec, fps, clip):
    info = probe(clip(name))
    assert (info.path, info.width, info.height, info.codec) == (str(clip(name)), WIDTH, HEIGHT, codec)
    assert info.duration_s == pytest.approx(48 / fps, abs=0.002)
    assert info.fps == pytest.approx(fps, rel=0.002)
    assert (info.rotation, info.has_audio, len(info.content_sha)) == (0, False, 64)


def test_variable_rate_duration_ends_with_the_last_frame(clip):
    assert probe(clip("variable rate mp4")).duration_s == pytest.approx((VFR_TICKS[-1] + 1) / 24, abs=0.03)


def test_audio_is_seen_and_does_not_matter(tmp_path):
    path = write_clip(tmp_path / "a.mp4", frames=12, audio=True)
    assert probe(path).has_audio
    assert len(decode(path, SamplingConfig(fps=1000))) == 12


@pytest.mark.parametrize(("counterclockwise", "clockwise"), [(90, 270), (180, 180), (-90, 90)])
def test_rotation(counterclockwise, clockwise, tmp_path):
    path = write_clip(tmp_path / "a.mp4", frames=2, rotation=counterclockwise, crf="10")
    frames = decode(path, SamplingConfig(frames=1))
    size = (HEIGHT, WIDTH) if clockwise != 180 else (WIDTH, HEIGHT)
    assert (frames.info.rotation, frames.info.width, frames.info.height) == (clockwise, *size)
    expected = np.rot90(picture(1), counterclockwise // 90)
    assert np.abs(images(frames)[0].astype(int) - expected).mean() < 8


def test_photo_orientation(tmp_path):
    """Phones store pictures as the sensor lies and say in EXIF how to turn them; 6 is a quarter clockwise."""
    path = tmp_path / "photo.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture(5)).save(path, quality=95, exif=exif)
    frames = decode(path, SamplingConfig(fps=2))
    assert (len(frames), frames.info.rotation, frames.info.fps) == (1, 90, 0.0)
    assert np.abs(images(frames)[0].astype(int) - np.rot90(picture(5), -1)).mean() < 8


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_a_picture_may_have_a_colour_profile(suffix, tmp_path):
    """Screenshots have one. PyAV 18 frees the name of a PNG's twice, which ended the process some time later."""
    path = tmp_path / f"photo.{suffix}"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(picture(5)).save(path, icc_profile=profile)
    program = f"import gc\nfrom videollm.video import probe\nprint(probe({str(path)!r}).codec)\ngc.collect()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif", "bmp"])
def test_a_still_image_is_a_video_of_one_frame(suffix, tmp_path):
    path = tmp_path / f"still.{suffix}"
    Image.fromarray(picture(5)).save(path)
    frames = decode(path, SamplingConfig(frames=8))
    assert frames.times_s.tolist() == [0.0]
    assert frames.info.fps == 0.0
    assert number_of(images(frames)[0]) == 5


def test_pixels_that_are_not_square_are_shown_as_meant(tmp_path):
    path = write_clip(tmp_path / "a.mp4", frames=2, pixel_aspect=Fraction(4, 3))
    frames = decode(path, SamplingConfig(frames=1), short_side=60)
    assert (frames.info.width, frames.info.height) == (213, 120)
    assert frames.pixels.shape == (1, 3, 60, 106)


def test_4k(tmp_path):
    path = write_clip(tmp_path / "a.mp4", frames=2, size=(3840, 2160), preset="ultrafast")
    assert decode(path, SamplingConfig(frames=1), short_side=224).pixels.shape == (1, 3, 224, 398)
    assert decode(path, SamplingConfig(frames=1)).pixels.shape == (1, 3, 2160, 3840)


@pytest.mark.parametrize("short_side", [16, 24, 32, 40, 48, 56])
def test_decord_returns_narrow_frames_without_the_padding_of_their_rows(short_side, clip):
    pytest.importorskip("decord")
    sampling = SamplingConfig(frames=2)
    ours = decode(clip("mp4"), sampling, short_side=short_side).pixels
    theirs = decode(clip("mp4"), replace(sampling, decoder="decord"), short_side=short_side).pixels
    assert ours.shape == theirs.shape and (ours.float() - theirs.float()).abs().mean() < 3


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
def test_short_side_is_that_of_the_picture_as_shown(decoder, clip):
    frames = decode(clip("rotated mov"), SamplingConfig(frames=2, decoder=decoder), short_side=60)
    assert frames.pixels.shape == (2, 3, 80, 60)


def test_colours_are_right(tmp_path):
    path = tmp_path / "red.png"
    Image.fromarray(np.full((32, 32, 3), (200, 30, 60), np.uint8)).save(path)
    assert images(decode(path, SamplingConfig(frames=1)))[0, 5, 5].tolist() == [200, 30, 60]


@pytest.mark.parametrize("chunk", [1, 7, 16, 64])
def test_pieces_join_to_the_whole(chunk, clip):
    whole = decode(clip("mp4"), SamplingConfig(fps=8))
    parts = list(iter_frames(clip("mp4"), SamplingConfig(fps=8), chunk=chunk))
    assert [len(part) for part in parts[:-1]] == [chunk] * (len(parts) - 1)
    assert torch.equal(torch.cat([part.pixels for part in parts]), whole.pixels)
    assert torch.equal(torch.cat([part.times_s for part in parts]), whole.times_s)


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
@pytest.mark.parametrize("name", ["mp4", "open groups", "rotated mov"])
def test_views_of_one_decoding_are_those_of_several(name, decoder, clip):
    samplings = [SamplingConfig(fps=8), SamplingConfig(fps=3, decoder=decoder), SamplingConfig(frames=2, start_s=1.0)]
    views = [View(sampling, side) for sampling, side in zip(samplings, (None, 40, 60), strict=True)]
    pieces = list(iter_views(clip(name), views, chunk=5))
    for number, view in enumerate(views):
        alone = decode(clip(name), view.sampling, short_side=view.short_side)
        together = [frames for n, frames in pieces if n == number]
        assert torch.equal(torch.cat([frames.pixels for frames in together]), alone.pixels)
        assert torch.equal(torch.cat([frames.times_s for frames in together]), alone.times_s)


@pytest.mark.parametrize(
    "sampling",
    [SamplingConfig(frames=2, start_s=2.0), SamplingConfig(times_s=(0.5, 2.5)), SamplingConfig(times_s=(-0.1,)),
     SamplingConfig(keyframes=True, start_s=0.05, end_s=0.3)],
)  # fmt: skip
def test_times_outside_the_video_are_an_error(sampling, clip):
    with pytest.raises(VideoRangeError, match=r"a\.mp4: .* s$"):
        decode(clip("mp4"), sampling)


def test_an_end_beyond_the_video_means_its_end(clip):
    whole, beyond = (decode(clip("mp4"), SamplingConfig(frames=4, end_s=end)) for end in (None, 99.0))
    assert torch.equal(whole.times_s, beyond.times_s)


def test_values_that_cannot_be_are_named(clip):
    with pytest.raises(ConfigError, match="decoder is 'opencv'"):
        SamplingConfig(frames=1, decoder=cast(Any, "opencv"))
    with pytest.raises(ConfigError, match="short_side is 0"):
        decode(clip("mp4"), SamplingConfig(frames=1), short_side=0)
    with pytest.raises(ConfigError, match="chunk is 0"):
        iter_frames(clip("mp4"), SamplingConfig(frames=1), chunk=0)


def test_a_file_that_changes_is_read_again(tmp_path):
    path: Path = write_clip(tmp_path / "a.mp4", frames=4)
    before = probe(path)
    write_clip(path, frames=8)
    after = probe(path)
    assert before.content_sha != after.content_sha
    assert after.duration_s == pytest.approx(2 * before.duration_s)
