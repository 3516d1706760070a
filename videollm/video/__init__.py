"""Reading of video files: frames with their presentation times."""

from videollm.video.decode import decode, iter_frames, probe
from videollm.video.frames import Frames, VideoInfo

__all__ = ["Frames", "VideoInfo", "decode", "iter_frames", "probe"]
