"""Features of the rows' videos: kept in shards on disk, or encoded while training.

Kept features are computed once and mapped into memory, so later epochs neither decode nor encode. That takes disk
space: the patch tokens of 100,000 videos of 60 frames at ViT-L/14@336 are 7 TB in bfloat16. Encoding while training
keeps nothing, and decodes and encodes in every epoch.
"""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from accelerate import PartialState
from tqdm import tqdm

from train.data.augment import drawn_change
from train.data.rows import InstructionRows
from videollm.config import ModelConfig, SamplingConfig
from videollm.datasets.schema import Sample
from videollm.encoders.base import FrameEncoder
from videollm.errors import DataError, VideoError
from videollm.features.cache import cache_key
from videollm.features.encode import EncodedVideo, encode_video, row_sampling, stored_video
from videollm.features.shards import FeatureShards
from videollm.features.stored import StoredDtype, bytes_per_frame
from videollm.video.decoding import probe
from videollm.video.frames import VideoInfo

NONE = "none"  # what a recipe's `features` says to encode while training
PROBED = 64  # videos whose lengths estimate the size of the features


@dataclass(frozen=True, kw_only=True)
class VideoFeatures:
    """The features of rows' videos, as `encoder` makes them.

    shards: where they are kept; None: nowhere. changes: random changes of frames, names in `train.data.augment`; only
    without shards.
    """

    encoder: FrameEncoder
    config: ModelConfig
    shards: FeatureShards | None = None
    changes: tuple[str, ...] = ()

    @classmethod
    def at(cls, where: str, encoder: FrameEncoder, config: ModelConfig, dtype: StoredDtype = "auto") -> "VideoFeatures":
        """where: a directory, or `NONE`."""
        shards = None if where == NONE else FeatureShards(where, dtype)
        return cls(encoder=encoder, config=config, shards=shards)

    def video(self, sample: Sample, draw: int = 0) -> EncodedVideo:
        """The row's part of its video. draw: decides what is drawn at random for it.

        Raises DataError, which names the row, for a video that cannot be used.
        """
        sampling = self.sampling(sample)
        try:
            video = self._encoded(sample.video, sampling, draw)
        except VideoError as error:
            raise DataError(f"row {sample.id}: {error}") from error
        if (sampling.start_s, sampling.end_s) == (sample.start, sample.end):
            return video
        return cut(video, sample.start or 0.0, sample.end or video.end_s)

    def sampling(self, sample: Sample) -> SamplingConfig:
        """Which frames the row needs: of the whole video where all its rows can share them."""
        return row_sampling(self.config.sampling, sample.start, sample.end)

    def prepare(self, rows: InstructionRows, skip_bad: int) -> int:
        """Compute the features that are missing, each once, with the ranks sharing the work.

        Without shards, only the files' headers are read. Rows whose video cannot be used are left out; returns their
        number, and raises DataError where there are more than `skip_bad`.
        """
        broken = self._probe(rows) if self.shards is None else self._fill(self.shards, rows)
        reasons = {i: broken[s.video] for i, s in enumerate(rows) if s.video in broken}
        if len(reasons) > skip_bad:
            number, reason = next(iter(reasons.items()))
            raise DataError(
                f"{len(reasons)} rows have no usable video, and skip_bad allows {skip_bad}; the first is "
                f"row {rows[number].id}: {rows[number].video}: {reason}"
            )
        if reasons:
            rows.keep([i for i in range(len(rows)) if i not in reasons])
        return len(reasons)

    def _encoded(self, path: str, sampling: SamplingConfig, draw: int) -> EncodedVideo:
        if self.shards is not None:
            return stored_video(path, self.encoder, sampling, self.shards)
        change = drawn_change(self.changes, draw) if self.changes else None
        video = encode_video(path, self.encoder, sampling, change=change)
        # On the CPU, as features from shards are: the trainer moves whole batches.
        return EncodedVideo.from_saved(video.metadata(), {k: x.cpu() for k, x in video.tensors().items()})

    def _probe(self, rows: InstructionRows) -> dict[str, str]:
        """Why videos cannot be opened, by their path."""
        broken = {}
        for path in dict.fromkeys(sample.video for sample in rows if sample.video):
            try:
                probe(path)
            except VideoError as error:
                broken[path] = error.reason
        return broken

    def _fill(self, shards: FeatureShards, rows: InstructionRows) -> dict[str, str]:
        """Encode what the shards lack. Returns why videos cannot be used, by their path."""
        state = PartialState()
        wanted = dict.fromkeys((sample.video, self.sampling(sample)) for sample in rows if sample.video)
        todo = [one for one in wanted if not shards.broken(one[0]) and not self._kept(shards, *one)]
        if state.is_main_process:
            self._announce(shards, todo)
        for path, sampling in tqdm(
            todo[state.process_index :: state.num_processes], desc="features", unit=" videos", disable=None
        ):
            try:
                stored_video(path, self.encoder, sampling, shards)
            except VideoError as error:
                shards.note_broken(path, error.reason)
        state.wait_for_everyone()
        shards.reload()
        reasons = {path: shards.broken(path) for path, _ in wanted}
        return {path: reason for path, reason in reasons.items() if reason is not None}

    def _kept(self, shards: FeatureShards, path: str, sampling: SamplingConfig) -> bool:
        content, encoder = shards.content(path), self.encoder
        return content is not None and (
            cache_key(content, encoder.name, encoder.revision, sampling, encoder.image_size) in shards
        )

    def _announce(self, shards: FeatureShards, missing: Sequence[tuple[str, SamplingConfig]]) -> None:
        """State the size of what is about to be written, estimated from the lengths of some videos."""
        lengths = []
        for path, sampling in missing[:: max(1, len(missing) // PROBED)]:
            try:
                lengths.append(expected_frames(probe(path), sampling))
            except VideoError:
                continue  # reported when its features are computed
        if lengths:
            size = len(missing) * sum(lengths) / len(lengths) * bytes_per_frame(self.encoder, shards.dtype)
            free = shutil.disk_usage(shards.root).free
            print(
                f"features of {len(missing)} videos take about {size / 1e9:.3g} GB in {shards.root} "
                f"({shards.dtype}, {free / 1e9:.3g} GB are free); feature_dtype float16 or float8 takes less, "
                "features none takes nothing",
                file=sys.stderr,
            )


def expected_frames(info: VideoInfo, sampling: SamplingConfig) -> float:
    """About how many frames the sampling takes of a video."""
    if sampling.times_s is not None:
        return len(sampling.times_s)
    if sampling.frames is not None:
        return sampling.frames
    shown = min(sampling.end_s or info.duration_s, info.duration_s) - (sampling.start_s or 0.0)
    # Encoders of video place a key frame every one to ten seconds.
    frames = max(1.0, shown * (sampling.fps or 0.5))
    return min(frames, sampling.max_frames or frames)


def cut(video: EncodedVideo, start_s: float, end_s: float) -> EncodedVideo:
    """What is shown from start_s to end_s: where no frame lies between, the one that is shown at start_s."""
    times = video.times_s
    if not ((times >= start_s) & (times < end_s)).any():
        start_s = float(times[max(int((times <= start_s).sum()) - 1, 0)])
    return video.part(start_s, max(end_s, start_s + 1e-3))
