"""What length and number cost: python scripts/bench/length.py [--minutes 1 10 60] [--clips 1000]

Length: `--model` is asked two questions about a new video of each length in minutes (1280x720, H.264, sampled at the
default rate). Each length runs once, in a process of its own (`ask_once.py`). The peak of memory also counts files that
are mapped, weights and libraries, which processes share. Number: an index is made of short clips, and a search runs
among each number of segments, which have random embeddings and no subtitles.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import av
import numpy as np
import torch
from long_video import encode_clip, repeat_clip
from report import Row, describe_machine, publish, timed

from videollm.retrieval.index import Index
from videollm.retrieval.search import search
from videollm.retrieval.table import SegmentRow, VideoRow

GOALS_S = {1: 2, 10: 8, 60: 30}  # from the file to one token, by minutes
GOAL_MB, GOAL_CLIPS = 1500, 10  # peak of memory; clips indexed in a second
CLIP_SIZE, CLIP_S, CLIP_RATE = (320, 240), 4, 25
EACH, SEGMENT_S = 10, 4.0  # segments of a video, and their length
REPEATS = 20


def measure_length(name: str, clip: Path, minutes: int, folder: Path) -> list[Row]:
    repeat_clip(clip, folder / "long.mp4", minutes)
    command = [sys.executable, str(Path(__file__).with_name("ask_once.py")), name, str(clip), str(folder / "long.mp4")]
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    first, second = found["first"], found["second"]
    parts = {name: ms for name, ms in first["ms"].items() if name not in ("first_token", "total")}
    spent = ", ".join(f"{name} {ms / 1000:.1f} s" for name, ms in parts.items())
    prompt = f"{first['frames']} frames in {first['segments']} segments, {first['prompt_tokens']} tokens of prompt"
    note, of = f"{spent}; {prompt}", f"{minutes} min of video"
    first_s, second_s = first["ms"]["total"] / 1000, second["ms"]["total"] / 1000
    memory = f"of which {found['private_bytes'] / 1e6:.0f} MB are in no file, at the end"
    return [
        Row("length", f"{of}: from the file to one token", first_s, "s", note, GOALS_S.get(minutes)),
        Row("length", f"{of}: one token of a second answer", second_s, "s"),
        Row("length", f"{of}: peak of memory", found["peak_bytes"] / 1e6, "MB", memory, GOAL_MB),
    ]


def measure_clips(name: str, count: int, folder: Path) -> Row:
    clips = folder / "clips"
    clips.mkdir()
    for number in range(count):
        _write_clip(clips / f"{number:04}.mp4", number)
    spent = timed(Index.create(folder / "index", name).update, [clips])
    note = f"{count} clips of {CLIP_S} s, {CLIP_SIZE[0]}x{CLIP_SIZE[1]}, in {spent:.0f} s, with loading"
    return Row("number", "indexing of short clips", count / spent, "clips/s", note, GOAL_CLIPS, more_is_better=True)


def _write_clip(path: Path, seed: int) -> None:
    """A small rough picture of its own that moves."""
    rough = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), np.uint8)
    texture = np.kron(rough, np.ones((20, 20, 1), np.uint8))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=CLIP_RATE, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = *CLIP_SIZE, "yuv420p"
        for i in range(CLIP_S * CLIP_RATE):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.roll(texture, 3 * i, 1))))
        container.mux(stream.encode())


def measure_number(name: str, segments: int, folder: Path) -> Row:
    index = Index.create(folder, name)
    embeddings = np.random.default_rng(0).standard_normal((segments, index.table.width), np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    duration_s, videos, rows = EACH * SEGMENT_S, {}, []
    for number, embedding in enumerate(embeddings):
        path, n = f"/videos/{number // EACH:05}.mp4", number % EACH
        videos[path] = VideoRow(path, 1, 1, "", path, duration_s, EACH, "")
        start_s = n * SEGMENT_S
        rows.append(SegmentRow(path, n, start_s, start_s + SEGMENT_S, path, duration_s, 0.0, [], "", embedding))
    index.table.replace([*videos.values()], rows)
    index.table.settle()
    search(index, "a cat")
    spent = [1000 * timed(search, index, f"a cat and {number} dogs") for number in range(REPEATS)]
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    note = f"{len(videos)} videos, {size / 1e6:.1f} MB on disk"
    return Row("number", f"search among {segments} segments", median(spent), "ms", note)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="lite")
    parser.add_argument("--minutes", type=int, nargs="+", default=[1, 10, 60])
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--segments", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--out", type=Path, help="write JSON here")
    options = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        encode_clip(clip)
        for minutes in options.minutes:
            rows += measure_length(options.model, clip, minutes, Path(folder))
        rows.append(measure_clips(options.model, options.clips, Path(folder)))
        rows += [measure_number(options.model, segments, Path(folder) / str(segments)) for segments in options.segments]
    publish(rows, describe_machine(torch.float32, 2048), options.out)


if __name__ == "__main__":
    main()
