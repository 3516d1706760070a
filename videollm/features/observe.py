"""What the senses find in a video. Each runs once for a content, when it is first needed, and its findings are kept.

Time and memory are bounded: `objects` and `faces` look at a frame a second, of long videos at MAX_FRAMES evenly spread
ones; `speech` and `sounds` hear at most half an hour, of longer sound evenly spread half minutes. Where subtitles
come with the video, they are what is said, and `speech` does not listen.
"""

import functools
import hashlib
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch

from videollm import assets
from videollm.config import SamplingConfig, SenseName, split_sense
from videollm.encoders.base import FrameEncoder
from videollm.errors import AssetError, CheckpointError, VideoError
from videollm.features.cache import FeatureCache
from videollm.features.encode import EncodedVideo, Onlooker, encode_video
from videollm.senses.finding import NOTHING, Finding, Findings, finding_from
from videollm.senses.windows import thinned
from videollm.video.audio import iter_audio
from videollm.video.decoding import View, probe
from videollm.video.frames import Frames, VideoInfo
from videollm.video.subtitles import embedded_subtitles, read_subtitles, subtitle_files

if TYPE_CHECKING:  # see `_objects`
    from videollm.senses.following import Following

FPS, MAX_FRAMES = 1.0, 300

Device = str | torch.device | None


@dataclass(frozen=True, slots=True)
class SenseKind:
    """load: builds the sense from a directory, "" for its asset, on a device. asset: its weights, None where they are
    always those of a directory. revision: changes with whatever changes its findings."""

    load: Callable[[str, Device], Callable[[Path], Iterable[Finding]]]
    asset: str | None
    revision: int = 1

    def key(self, directory: str) -> str:
        """Identifies the sense with its weights."""
        if not directory:
            assert self.asset is not None  # `split_sense` asks for a directory
            return f"{assets.ASSETS[self.asset].key}-{self.revision}"
        files = sorted(p for p in Path(directory).iterdir() if p.is_file()) if Path(directory).is_dir() else []
        stamps = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in files]
        return f"{hashlib.sha256(repr((str(Path(directory).resolve()), stamps)).encode()).hexdigest()}-{self.revision}"


class LookingSense:
    """A sense that looks at frames while they are decoded for others. ms: what its looking took."""

    def __init__(self, sense: Any):
        self.ms = 0.0
        self._following: Following = sense.following()
        self.onlooker = Onlooker(View(sense.sampling, sense.short_side), self._add)

    def _add(self, frames: Frames) -> None:
        started = perf_counter()
        self._following.add(frames)
        self.ms += 1000 * (perf_counter() - started)

    def findings(self) -> list[Finding] | None:
        """What was found, None where no frames came."""
        return self._following.findings() if self._following.frames else None


def find(
    path: str | os.PathLike[str],
    senses: Sequence[str],
    cache: FeatureCache | None = None,
    device: Device = None,
    looks: Mapping[str, LookingSense] = MappingProxyType({}),
) -> Findings:
    """What `senses` find in a video, in order of time.

    senses: see `videollm.config.split_sense`. cache: where findings of the same content and sense are read if they are
    there, and written if not. looks: of senses that have looked already. A sense whose weights cannot be fetched or
    loaded, or that cannot read the file, is left out and named in `problems`. Raises the VideoError family where the
    video itself cannot be opened.
    """
    if not senses:
        return NOTHING
    info, path = probe(path), Path(path)
    found: list[Finding] = []
    used: list[str] = []
    ms: dict[str, float] = {}
    problems: dict[str, str] = {}
    sound = info.has_audio
    for sense in senses:
        name, _ = split_sense(sense)
        started = perf_counter()
        try:
            said = _subtitles(path) if name == "speech" else []
            sound = sound or bool(said)
            if name not in HEARING or (info.has_audio and not said):
                found += _remembered(path, info, sense, cache, device, looks.get(sense))
            found += said
            used.append(name)
        except (AssetError, CheckpointError, VideoError) as error:
            problems[name] = str(error)
        looked_ms = looks[sense].ms if sense in looks else 0.0
        ms[name] = round(1000 * (perf_counter() - started) + looked_ms, 1)
    # An object is believed to be seen until the next frame would have been looked at, which may be after the end.
    ends = [f if f.kind in ("speech", "sound") else replace(f, end_s=min(f.end_s, info.duration_s)) for f in found]
    ordered = tuple(sorted(ends, key=lambda f: f.start_s))
    return Findings(senses=tuple(used), found=ordered, sound=sound, ms=ms, problems=problems)


def encode_and_observe(
    path: str | os.PathLike[str],
    encoder: FrameEncoder,
    sampling: SamplingConfig,
    senses: Sequence[str],
    cache: FeatureCache | None = None,
    device: Device = None,
) -> EncodedVideo:
    """Returns an encoded video with what `senses` find in the part that was encoded.

    The senses that look at frames get those of the decoding for the encoder, so that a new video is decoded once. See
    `videollm.features.encode.encode_video` and `find`.
    """
    looks = _looks(path, senses, cache, device)
    video = encode_video(path, encoder, sampling, cache, onlookers=[look.onlooker for look in looks.values()])
    if not senses:
        return video
    findings = find(path, senses, cache, device, looks)
    decode_ms = round(video.ms["decode"] - sum(look.ms for look in looks.values()), 1)
    return replace(video, findings=part_of(video, findings), ms={**video.ms, "decode": decode_ms, **findings.ms})


def _looks(
    path: str | os.PathLike[str], senses: Sequence[str], cache: FeatureCache | None, device: Device
) -> dict[str, LookingSense]:
    """Returns the senses that look at frames and whose findings are not in the cache. `find` says why others fail."""
    looks: dict[str, LookingSense] = {}
    for sense in senses:
        if split_sense(sense)[0] not in LOOKING or (cache is not None and cache.get(_key(probe(path), sense))):
            continue
        try:
            looks[sense] = LookingSense(_loaded(sense, device))
        except AssetError:
            continue
    return looks


def part_of(video: EncodedVideo, findings: Findings) -> Findings:
    """What was found in the part of the file that was encoded."""
    # What is heard after the last frame belongs to a video that is looked at to its end.
    end_s = video.end_s if video.end_s < video.info.duration_s else math.inf
    return findings.part(float(video.times_s[0]), end_s)


def _remembered(
    path: Path, info: VideoInfo, sense: str, cache: FeatureCache | None, device: Device, look: LookingSense | None
) -> list[Finding]:
    key = _key(info, sense)
    if cache is not None and (entry := cache.get(key)):
        return [finding_from(row) for row in entry.meta["findings"]]
    found = look.findings() if look is not None else None
    if found is None:
        found = list(_loaded(sense, device)(path))
    if cache is not None:
        cache.put(key, {}, {"findings": [asdict(f) for f in found]})
    return found


def _key(info: VideoInfo, sense: str) -> str:
    name, directory = split_sense(sense)
    return hashlib.sha256(f"{info.content_sha} {name} {SENSES[name].key(directory)}".encode()).hexdigest()


def _loaded(sense: str, device: Device) -> Any:
    return _loaded_on(*split_sense(sense), str(device) if device is not None else None)


@functools.cache
def _loaded_on(name: SenseName, directory: str, device: str | None) -> Callable[[Path], Iterable[Finding]]:
    """A sense with its weights, which stay in memory: a server asks for the same one again and again."""
    return SENSES[name].load(directory, device)


# The senses' networks take seconds to import, and findings that are kept need none of them.
def _objects(directory: str, device: Device) -> Callable[[Path], Iterable[Finding]]:
    from videollm.senses import objects

    return objects.ObjectSense(fps=FPS, max_frames=MAX_FRAMES, device=device)


def _faces(directory: str, device: Device) -> Callable[[Path], Iterable[Finding]]:
    from videollm.senses.faces import FaceSense  # runs on the CPU only

    return FaceSense(fps=FPS, max_frames=MAX_FRAMES)


def _speech(directory: str, device: Device) -> Callable[[Path], Iterable[Finding]]:
    from videollm.senses import speech

    sense = speech.SpeechSense(directory or f"asset:{speech.ASSET}", device=device)
    return lambda path: sense.transcribe(thinned(iter_audio(path), probe(path).duration_s))


def _sounds(directory: str, device: Device) -> Callable[[Path], Iterable[Finding]]:
    from videollm.senses.sounds import SoundSense

    sense = SoundSense(directory, device=device)
    return lambda path: sense.listen(thinned(iter_audio(path), probe(path).duration_s))


def _text(directory: str, device: Device) -> Callable[[Path], Iterable[Finding]]:
    from videollm.senses.text import TextSense  # needs the extra `ocr`; runs on the CPU only

    return TextSense()


def _subtitles(path: Path) -> list[Finding]:
    """The cues of the subtitle file beside a video, or else of its own streams. Raises VideoFormatError."""
    files = subtitle_files(path)
    cues = read_subtitles(files[0]) if files else embedded_subtitles(path)
    return [Finding(start_s=c.start_s, end_s=c.end_s, kind="speech", text=c.text, score=1.0) for c in cues]


SENSES: dict[SenseName, SenseKind] = {
    "speech": SenseKind(_speech, "whisper-base"),
    "objects": SenseKind(_objects, "ssd-mobilenet-v2"),
    "text": SenseKind(_text, "pp-ocrv6-small", revision=2),
    "faces": SenseKind(_faces, "centerface"),
    "sounds": SenseKind(_sounds, None),
}
HEARING: tuple[SenseName, ...] = ("speech", "sounds")  # senses that find nothing where there is no sound
LOOKING: tuple[SenseName, ...] = ("objects", "faces")  # senses that look at frames piece by piece, see `LookingSense`
