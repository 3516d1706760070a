"""Which frames of a video are used."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal

from videollm.checks import check, check_choice, check_positive

Decoder = Literal["pyav", "decord"]
SamplingRule = Literal["middle", "video_llama", "video_chatgpt", "videochat2"]
MOST_FRAMES = 512  # of a video that one conversation is about; four minutes at two frames a second


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """Which frames of a video to use. Exactly one of `frames`, `fps`, `times_s` and `keyframes` must be set.

    Args:
        frames: So many frames, at the middles of equal parts of the range.
        fps: One frame every 1/fps seconds. If that gives more than `max_frames`, so many are spread evenly over the
            range.
        times_s: The frames that are shown at these times, in seconds from the first frame.
        keyframes: All key frames of the file, which are the fastest to decode, evenly thinned to at most `max_frames`.
        max_frames: The largest number of frames with `fps` or `keyframes`. None sets no limit.
        near_keyframes: Where `max_frames` thins the frames of `fps`, the key frame nearest to each time is taken in its
            place if it is nearer than 5.5 seconds, or than half the distance between times. This reads a long video
            many times faster, since only key frames are decoded without those before them.
        start_s, end_s: The part of the video in seconds. None means its start and its end.
        rule: How `frames` are chosen. "middle" chooses by time, as above. The others count frames, as the published
            system with this name does (see `videollm.video.rules`), so that its answers come from the frames that it
            was trained on.
        decoder: The decoder. "decord" needs the extra with this name. Its pixels differ slightly from PyAV's because it
            scales frames differently, so that features are cached separately for each decoder.

    Raises:
        ConfigError: If a value is out of range, or values contradict each other.
    """

    frames: int | None = None
    fps: float | None = None
    times_s: tuple[float, ...] | None = None
    keyframes: bool = False
    max_frames: int | None = None
    near_keyframes: bool = False
    start_s: float | None = None
    end_s: float | None = None
    rule: SamplingRule = "middle"
    decoder: Decoder = "pyav"

    def __post_init__(self) -> None:
        check_choice("decoder", self.decoder, Decoder)
        check_choice("sampling rule", self.rule, SamplingRule)
        check(self.rule == "middle" or self.frames is not None, f"the rule {self.rule!r} needs `frames`; set it")
        chosen = [self.frames is not None, self.fps is not None, self.times_s is not None, self.keyframes]
        check(sum(chosen) == 1, f"set exactly one of frames, fps, times_s, keyframes; got {self}")
        check_positive(frames=self.frames, fps=self.fps, max_frames=self.max_frames, end_s=self.end_s)
        check(self.times_s is None or len(self.times_s) > 0, "times_s is empty; give at least one time")
        check(all(math.isfinite(t) for t in self.times_s or ()), f"times_s has {self.times_s}; each is a number")
        check(self.start_s is None or 0 <= self.start_s < math.inf, f"start_s is {self.start_s}; it must be 0 or above")
        if self.start_s is not None and self.end_s is not None:
            check(self.end_s > self.start_s, f"end_s {self.end_s} must be above start_s {self.start_s}")

    def bounded(self) -> "SamplingConfig":
        """Returns the same sampling for a video of any length.

        A rate without `max_frames` gives at most `MOST_FRAMES`. A video that has more is read at its key frames, so
        that an hour takes about as long as some minutes. Other samplings are returned as they are.
        """
        if self.fps is None or self.max_frames is not None:
            return self
        return dataclasses.replace(self, max_frames=MOST_FRAMES, near_keyframes=True)
