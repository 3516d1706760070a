"""Edit lists, with which a video editor builds a montage again from the original files (.otio, .edl)."""

from collections.abc import Sequence
from pathlib import Path

from videollm.video.montage import Placed
from videollm.video.target import check_target

SUFFIXES = (".otio", ".edl")


def check_timeline(target: Path) -> None:
    """Raises ConfigError if no edit list of this name can be written."""
    check_target(target, "edit lists", SUFFIXES)


def write_timeline(placed: Sequence[Placed], target: Path, name: str) -> None:
    """Writes the shots of a montage as an edit list. The suffix of `target` says in which format.

    OpenTimelineIO's format (.otio) holds each file and its part at its own frame rate. CMX 3600 (.edl), which older
    editors read, has one frame rate, that of the first shot.

    Raises ConfigError as `check_timeline` does, and ModuleNotFoundError without the extra `edit`.
    """
    check_timeline(target)
    import opentimelineio as otio

    common = target.suffix.lower() == ".edl"
    track = otio.schema.Track(name, kind=otio.schema.TrackKind.Video)
    for one in placed:
        shot, fps = one.shot, placed[0].fps if common else one.fps
        rate = round(fps) if common else fps  # CMX 3600 counts whole frames
        start, length = (
            otio.opentime.RationalTime(round(seconds * rate), rate)
            for seconds in (shot.start_s, shot.end_s - shot.start_s)
        )
        track.append(
            otio.schema.Clip(
                Path(shot.path).name,
                otio.schema.ExternalReference(Path(shot.path).absolute().as_uri()),
                otio.opentime.TimeRange(start, length),
            )
        )
    timeline = otio.schema.Timeline(name)
    timeline.tracks.append(track)
    otio.adapters.write_to_file(timeline, str(target))
