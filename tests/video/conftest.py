import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.video.clips import write_clip

VFR_TICKS = [0, 1, 2, 5, 9, 10, 11, 30, 31, 33, 40, 60, 61, 62, 63, 80, 100, 120, 121, 122]

# What a clip is like -> file name and how it is written. Groups of pictures are short, so that reading skips some.
CLIPS: dict[str, tuple[str, dict[str, Any]]] = {
    "mp4": ("a.mp4", {"bf": "3", "g": "10"}),
    "one group": ("a.mp4", {"bf": "3", "g": "1000"}),
    "no b-frames": ("a.mp4", {"bf": "0", "g": "10", "sc_threshold": "0"}),
    "offset mp4": ("a.mp4", {"ticks": range(48, 96), "bf": "3", "g": "10"}),
    "offset mkv": ("a.mkv", {"ticks": range(48, 96), "bf": "3", "g": "10"}),
    "variable rate mp4": ("a.mp4", {"ticks": VFR_TICKS, "bf": "2", "g": "6"}),
    "variable rate mkv": ("a.mkv", {"ticks": VFR_TICKS, "bf": "2", "g": "6"}),
    "open groups": ("a.mp4", {"bf": "3", "x264-params": "open-gop=1:keyint=10:scenecut=0"}),
    "intra refresh": ("a.mp4", {"bf": "0", "x264-params": "intra-refresh=1:keyint=10:scenecut=0"}),
    "fragmented": ("a.mp4", {"bf": "3", "g": "10", "mux": {"movflags": "frag_keyframe+empty_moov"}}),
    "hevc 10-bit": (
        "a.mp4",
        {"codec": "libx265", "pixel_format": "yuv420p10le", "x265-params": "keyint=10:bframes=3:log-level=none"},
    ),
    "vp9 webm": ("a.webm", {"codec": "libvpx-vp9", "cpu-used": "5", "g": "10", "lag-in-frames": "16"}),
    "av1": ("a.mp4", {"codec": "libsvtav1", "preset": "10", "g": "10", "crf": "20", "svtav1-params": "lp=1"}),
    "mov": ("a.mov", {"codec": "mpeg4", "g": "10", "b": "4M"}),
    "transport stream": ("a.ts", {"codec": "mpeg2video", "bf": "2", "g": "10", "b": "4M"}),
    "avi with b-frames": ("a.avi", {"bf": "3", "g": "10"}),
    "raw h264": ("a.h264", {"bf": "3", "g": "10", "container": "h264"}),
    "flv": ("a.flv", {"bf": "3", "g": "10"}),
    "gif": ("a.gif", {"codec": "gif", "pixel_format": "rgb8", "rate": 20}),
    "rotated mov": ("a.mov", {"bf": "3", "g": "10", "rotation": 90}),
    "rotated mkv": ("a.mkv", {"bf": "3", "g": "10", "rotation": 180}),
    "mirrored": ("a.mp4", {"bf": "3", "g": "10", "rotation": 90, "mirrored": True}),
}


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The path of a clip of CLIPS, encoded when first asked for."""

    @cache
    def make(name: str) -> Path:
        file_name, how = CLIPS[name]
        made = write_clip(tmp_path_factory.mktemp("clip") / file_name, **how)
        # SVT-AV1 turns whoever encodes with it, if root, into a real-time process, and with it all that it then starts
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        return made

    return make
