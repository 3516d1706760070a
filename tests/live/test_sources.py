"""Sources as they are: playlists that go on, cameras that are gone for a while, files that grow, damaged data."""

import threading
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from time import time
from typing import Any

import av
import pytest

from scripts.live_sources import HLSServer
from tests.live.conftest import SIDE, RTSPServer, brightness, watching, write_clip
from videollm.errors import ConfigError, VideoNotFoundError
from videollm.live.clock import StreamClock
from videollm.live.packets import ClipRequest
from videollm.live.reader import ClipWritten, StreamEnded, StreamFrame, StreamLost
from videollm.live.source import StreamSource


def seconds_of(frames: list[StreamFrame]) -> list[int]:
    """The second of the clip that each frame shows, by its brightness."""
    levels = {brightness(second): second for second in range(50)}
    return [levels[min(levels, key=lambda level: abs(level - float(f.pixels.float().mean())))] for f in frames]


def test_hls_goes_on_and_comes_back(hls: HLSServer, tmp_path: Path):
    with watching(StreamSource(url=hls.url, timeout_s=2)) as watched:
        watched.until(lambda w: len(w.frames) >= 4)
        for before, after in pairwise(watched.frames):
            assert after.time - before.time == pytest.approx(1, abs=0.15)  # by the stream's own clock
        shown = seconds_of(watched.frames)
        assert shown == list(range(shown[0], shown[0] + len(shown)))
        first = watched.frames[1].time
        watched.reader.clip(ClipRequest(first, first + 1.5, str(tmp_path / "clip.mp4")))
        (clip,) = watched.until(lambda w: w.of(ClipWritten))
        assert not clip.problem and clip.start <= first and clip.end >= first + 1.3
        with av.open(str(tmp_path / "clip.mp4")) as file:
            assert 15 <= sum(1 for _ in file.decode(video=0)) <= 40  # from the key frame before on

        hls.is_down = True
        watched.until(lambda w: w.of(StreamLost))
        known = len(watched.frames)
        hls.is_down = False
        watched.until(lambda w: len(w.frames) >= known + 2)
        times = [f.time for f in watched.frames]
        assert times == sorted(times) and abs(times[-1] - time()) < 5
        assert watched.reader.stats.reconnects >= 1


def test_hls_that_is_encrypted(tmp_path: Path):
    server = HLSServer(tmp_path, write_clip, encrypted=True)
    with closing(server), watching(StreamSource(url=server.url, timeout_s=2)) as watched:
        watched.until(lambda w: len(w.frames) >= 4 or w.of(StreamLost))
        shown = seconds_of(watched.frames)
        assert len(shown) >= 4 and shown == list(range(shown[0], shown[0] + len(shown)))
        assert watched.reader.stats.lost == 0  # padding that is left in a segment would be damage


def test_a_camera_that_is_killed_and_back(rtsp: RTSPServer):
    with watching(StreamSource(url=rtsp.url("clip.mp4"), fps=2, timeout_s=3)) as watched:
        watched.until(lambda w: len(w.frames) >= 4)
        assert watched.frames[0].pixels.shape == (3, SIDE, SIDE)
        assert watched.frames[3].time - watched.frames[1].time == pytest.approx(1, abs=0.15)
        rtsp.kill()
        watched.until(lambda w: w.of(StreamLost))
        known = len(watched.frames)
        rtsp.start()
        watched.until(lambda w: len(w.frames) >= known + 2)
        times = [f.time for f in watched.frames]
        assert times == sorted(times) and abs(times[-1] - time()) < 3


def test_a_file_that_grows(tmp_path: Path):
    data = write_clip(tmp_path / "all.ts", 8).read_bytes()
    growing, half = tmp_path / "growing.ts", len(data) // 2 // 188 * 188
    growing.write_bytes(data[:half])
    more = threading.Event()

    def grow() -> None:
        more.wait()
        with growing.open("ab") as file:
            for at in range(half, len(data), 188 * 8):
                file.write(data[at : at + 188 * 8])
                file.flush()

    threading.Thread(target=grow, daemon=True).start()
    with watching(StreamSource(url=str(growing), follow=True, timeout_s=3)) as watched:
        threading.Timer(3.0, more.set).start()
        (end,) = watched.until(lambda w: w.of(StreamEnded))
        assert end == StreamEnded("it has come to its end")
        assert set(seconds_of(watched.frames)) <= {4, 5, 6, 7} and len(watched.frames) >= 2  # not what was there before


def test_damaged_pictures_are_left_out_and_counted(tmp_path: Path):
    file = write_clip(tmp_path / "clip.ts", 12)
    data = bytearray(file.read_bytes())
    for at in range(len(data) // 2, len(data) // 2 + 188 * 3):
        data[at] ^= 0x5A
    file.write_bytes(data)
    with watching(StreamSource(url=str(file), fps=10, speed=100)) as watched:
        watched.until(lambda w: w.of(StreamEnded))
        assert watched.reader.stats.lost > 0
        assert 60 <= len(watched.frames) < 120
        for frame in watched.frames:
            assert float(frame.pixels.float().std()) < 3  # every picture of the clip has one colour


@pytest.mark.parametrize("target", ["", "file:///etc/passwd", "http://10.0.0.1/live.m3u8"])
def test_only_public_addresses_where_that_is_asked_for(hls: HLSServer, target: str):
    hls.redirect = target
    source = StreamSource(url=hls.url, public_only=not target, timeout_s=2)
    with watching(source, give_up_s=0.1) as watched:
        (end,) = watched.until(lambda w: w.of(StreamEnded))
        assert end.failed and not watched.frames
        if not target:
            assert "127.0.0.1 is not a public address" in end.reason


def test_what_is_no_stream_is_refused(tmp_path: Path):
    file = tmp_path / "clip.mp4"
    file.write_bytes(b"no video")
    cases: tuple[tuple[str, dict[str, Any], str], ...] = (
        ("ftp://host/a", {}, "ftp:// streams are not supported"),
        ("rtsp://host/a", {"speed": 2.0}, "speed and follow apply to files"),
        (str(file), {"fps": 0.0}, "fps is 0"),
    )
    for url, options, reason in cases:
        with pytest.raises(ConfigError, match=reason):
            StreamSource(url=url, **options)
    with pytest.raises(VideoNotFoundError, match="no such file"):
        StreamSource(url=str(tmp_path / "missing.mp4"))
    assert StreamSource(url="rtsp://me:secret@host/cam?token=x").name == "rtsp://host/cam"
    with watching(StreamSource(url=str(file))) as watched:
        (end,) = watched.until(lambda w: w.of(StreamEnded))
        assert end.failed and "not a video" in end.reason


def test_the_clock_of_a_stream():
    now = [1000.0]
    clock = StreamClock(live=True, paced=False, now=lambda: now[0])

    def at(stamp_s: float, arrival: float, waited: bool = True) -> float:
        now[0] = arrival
        clock.advance(stamp_s, waited)
        return round(stamp_s + clock.shift_s, 3)

    assert at(50.0, 1000.0) == 1000.0
    assert at(51.0, 1004.0) == 1001.0  # held up on its way
    assert at(52.0, 1004.0, waited=False) == 1002.0
    assert at(3.0, 1005.0) == 1005.0  # a camera that has started again counts from 0
    assert at(90000.0, 1006.0) == 1006.0
    assert at(90001.0, 1060.0) == 1060.0  # the source stood still for a minute
    assert at(90003.0, 1060.5) == 1060.5  # nothing comes before it was filmed
    assert clock.jumps == 4
    for number in range(1, 1000):  # a clock that is slow by 2 %, at the edge of what has been filmed
        shown = at(90003.0 + 0.98 * number, 1060.5 + number)
        assert 1060.5 + number - shown <= 3.1
    assert clock.jumps == 4 + 6
