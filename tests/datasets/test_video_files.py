"""Videos that annotations name with and without a suffix."""

from pathlib import Path

import pytest

from videollm.datasets.video_files import VIDEO_SUFFIXES, find_video


def test_a_video_is_found_by_its_name_and_names_keep_their_dots(tmp_path: Path):
    for name in ("a.webm", "film_00.51.926.avi", "b.mp4", "b.mkv"):
        (tmp_path / name).touch()
    assert find_video(tmp_path, "a") == tmp_path / "a.webm"
    assert find_video(tmp_path, "film_00.51.926") == tmp_path / "film_00.51.926.avi"
    assert find_video(tmp_path, "b") == tmp_path / "b.mp4"  # the more common suffix
    assert find_video(tmp_path, "b.mkv") == tmp_path / "b.mkv"


def test_a_missing_video_keeps_its_suffix_or_gets_the_common_one(tmp_path: Path):
    assert find_video(tmp_path, "sub/c") == tmp_path / "sub/c.mp4"
    assert find_video(tmp_path, "c.MOV") == tmp_path / "c.MOV"
    with pytest.raises(ValueError, match="name is empty"):
        find_video(tmp_path, "")


def test_suffixes_are_lower_case_and_each_is_listed_once():
    assert len(set(VIDEO_SUFFIXES)) == len(VIDEO_SUFFIXES)
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in VIDEO_SUFFIXES)


@pytest.mark.parametrize("name", ["../secret.mp4", "a/../../secret.mp4", "/etc/passwd", "../videos-2/a"])
def test_names_do_not_lead_out_of_the_folder(name: str, tmp_path: Path):
    with pytest.raises(ValueError, match="is not below the folder"):
        find_video(tmp_path / "videos", name)
    assert find_video(tmp_path / "videos", str(tmp_path / "videos/a.mp4")) == tmp_path / "videos/a.mp4"
