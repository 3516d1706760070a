"""Video files in, frames with their presentation times out; segments of them; and a cache for what is made of them."""

from videollm.video.cache import CacheEntry, FeatureCache, cache_key
from videollm.video.decode import Backend, decode, iter_frames, probe
from videollm.video.frames import Frames, VideoInfo
from videollm.video.segments import Segment, merge_segments, scene_cuts, segment, thumbnails

__all__ = [
    "Backend",
    "CacheEntry",
    "FeatureCache",
    "Frames",
    "Segment",
    "VideoInfo",
    "cache_key",
    "decode",
    "iter_frames",
    "merge_segments",
    "probe",
    "scene_cuts",
    "segment",
    "thumbnails",
]
