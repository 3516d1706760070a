"""Names of video and picture files."""

import os
from pathlib import Path

# Published data sets use the first six, so looking for a file ends early.
VIDEO_SUFFIXES = tuple(
    f".{name}"
    for names in (
        "mp4 webm mkv avi mov gif",
        "3g2 3gp asf divx dv f4v flv h264 hevc m2ts m2v m4v mpeg mpg mts mxf ogm ogv ts vob wmv y4m",
    )
    for name in names.split()
)
PICTURE_SUFFIXES = (".avif", ".bmp", ".heic", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def is_picture(path: Path) -> bool:
    """Whether a file has the name of a picture."""
    return path.suffix.lower() in PICTURE_SUFFIXES


def find_video(folder: Path, name: str) -> Path:
    """The file of a video that an annotation names with or without its suffix, or of a picture that it names with it.

    The file need not exist: without any match the name with `.mp4` is returned, so that an error can show it. Raises
    ValueError if the name is empty, or leads out of the folder: annotations may come from anybody.
    """
    if not name:
        raise ValueError("the video's name is empty")
    path = folder / name
    if not Path(os.path.abspath(path)).is_relative_to(os.path.abspath(folder)):
        raise ValueError(f"the video {name!r} is not below the folder of the videos, {folder}")
    if path.suffix.lower() in VIDEO_SUFFIXES or is_picture(path):
        return path
    # The suffix is appended, not replaced: YouTube ids and film names contain dots.
    candidates = (path.with_name(path.name + suffix) for suffix in VIDEO_SUFFIXES)
    # os.path and not Path.is_file, which raises OSError where a name is too long.
    return next((c for c in candidates if os.path.isfile(c)), path.with_name(f"{path.name}.mp4"))
