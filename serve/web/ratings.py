"""Rated answers of the page as rows of instruction data, which `train/` reads.

    python -m serve.web.ratings OUT --videos DIR

OUT/good.jsonl has the answers that people rated as good, to train on, and OUT/bad.jsonl those rated as bad, with the
same questions where both were given. The page keeps no uploads, so each video is found again in DIR by its content.
"""

import argparse
import hashlib
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from serve.web.conversation import PageTurn
from serve.web.history import FILE, History, KeptVersion, state_dir
from videollm.datasets.schema import Message, Provenance, Sample
from videollm.errors import VideoLLMError
from videollm.retrieval.video_files import find_videos

GOOD, BAD = 1, -1
LANGUAGE = "und"  # ISO 639 for a language that nobody determined
NOT_FOUND, SEVERAL = "whose video is in none of the folders", "about several videos"


class RatedRows:
    """The rated answers of all versions of all conversations. An answer that a retry replaced is one of them.

    Args:
        videos: The paths of videos by the SHA-256 of their content.

    Attributes:
        rows: Good and bad rows, each content once.
        left_out: How many answers were left out for which reason.
    """

    def __init__(self, versions: Iterable[KeptVersion], videos: Mapping[str, str]):
        self.rows: dict[int, list[Sample]] = {GOOD: [], BAD: []}
        self.left_out: Counter[str] = Counter()
        self._videos = videos
        seen: set[str] = set()
        contents: set[tuple[object, ...]] = set()
        for version in versions:
            for number, turn in enumerate(version.conversation.turns):
                if turn.rating not in self.rows or not turn.answer.strip() or turn.id in seen:
                    continue
                seen.add(turn.id)
                row = self._row(version, number)
                if row is not None and row.content not in contents:
                    contents.add(row.content)
                    self.rows[turn.rating].append(row)

    def _row(self, version: KeptVersion, number: int) -> Sample | None:
        turns = version.conversation.turns[: number + 1]
        turn, media = turns[-1], {one.sha for earlier in turns for one in earlier.media}
        if len(media) != 1:
            self.left_out[SEVERAL] += 1
            return None
        video = self._videos.get(media.pop())
        if video is None:
            self.left_out[NOT_FOUND] += 1
            return None
        shown = [*_good_before(turns), turn]
        times = {(evidence.start, evidence.end) for evidence in turn.evidence if turn.rating == GOOD}
        return Sample(
            id=turn.id,
            video=video,
            start=None,
            end=None,
            task="conversation" if len(shown) > 1 else "qa",
            language=LANGUAGE,
            messages=tuple(
                Message(role, text)
                for one in shown
                for role, text in (("user", one.question), ("assistant", one.answer))
            ),
            answer_times=tuple(sorted(times)),
            provenance=Provenance(
                source="page",
                generator="rating",
                model=turn.receipt.model if turn.receipt else None,
                prompt_sha=None,
                created=datetime.fromtimestamp(version.saved_at, UTC).isoformat(timespec="seconds"),
                seed=None,
            ),
        )


def _good_before(turns: Sequence[PageTurn]) -> list[PageTurn]:
    """The turns right before the last that were rated as good. Training learns every answer of a row."""
    good: list[PageTurn] = []
    for turn in reversed(turns[:-1]):
        if turn.rating != GOOD:
            break
        good.insert(0, turn)
    return good


def by_content(folders: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yields the SHA-256 and the path of each video."""
    for path in find_videos(folders).files:
        with open(path, "rb") as file:
            yield hashlib.file_digest(file, "sha256").hexdigest(), path


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the two files and returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m serve.web.ratings", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path, help="the folder of the two files")
    parser.add_argument("--videos", nargs="+", required=True, metavar="DIR", help="folders that hold the rated videos")
    parser.add_argument("--state", type=Path, default=state_dir(), metavar="DIR", help="the page's state folder")
    options = parser.parse_args(argv)
    if not (options.state / FILE).is_file():
        parser.error(f"{options.state} has no {FILE}; give the state folder of the server with --state")
    try:
        found = RatedRows(History(options.state).versions(), dict(by_content(options.videos)))
    except VideoLLMError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    for rating, name in ((GOOD, "good.jsonl"), (BAD, "bad.jsonl")):
        (options.out / name).write_text("".join(row.to_json() + "\n" for row in found.rows[rating]), encoding="utf-8")
        print(f"{options.out / name}: {len(found.rows[rating])} rows")
    for reason, count in found.left_out.items():
        print(f"left out: {count} {reason}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
