"""Instruction data from captions that a person has reviewed.

`propose` writes a table (CSV or JSON Lines) with a row for each segment of a video: what the frame encoder recognises,
a key frame, and a caption. The caption comes from a captioning model if one is given, otherwise from the recognised
words. The generator `auto` writes such a table of what its models are not sure of. A reviewer writes `accept`, `edit`
(with the right text in the column `text`) or `reject` in the column `decision`. `SemiGenerator` merges the decisions:
accepted segments become an annotation, which the templates turn into samples. A clip is used once all its rows are
decided; other clips wait for the next run.
"""

import csv
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from data_gen.generators.base import Draft, DraftBatch
from data_gen.generators.template import TemplateGenerator
from videollm.datasets.clip import Clip, Note, NoteKind
from videollm.datasets.schema import format_time
from videollm.datasets.text_file import lines, parse_json
from videollm.errors import DataError

DECISIONS = ("accept", "edit", "reject")
KINDS: tuple[NoteKind, ...] = ("event", "speech")


@dataclass(frozen=True, kw_only=True, slots=True)
class Proposal:
    """One row of the table.

    Args:
        id: The id of the clip.
        start, end: The segment in seconds.
        tags: What the encoder recognises, with probabilities.
        key_frame: A picture, relative to the table.
        caption: The proposed caption.
        decision: One of `DECISIONS`, or empty.
        text: The right caption, if the decision is `edit`.
        kind: `event` for a caption, `speech` for words that are heard.
    """

    id: str
    start: float
    end: float
    tags: str
    key_frame: str
    caption: str
    decision: str = ""
    text: str = ""
    kind: NoteKind = "event"

    @property
    def decided_text(self) -> str | None:
        """The text that was decided on, "" if the proposal was rejected, None if there is no decision yet."""
        return {"accept": self.caption, "edit": self.text, "reject": ""}.get(self.decision)


class SemiGenerator:
    """Samples from a reviewed table. review is its path; tasks and seed are those of `TemplateGenerator`."""

    name = "semi"

    def __init__(self, review: Path, *, seed: int = 0, tasks: Sequence[str] | None = None):
        self._templates = TemplateGenerator(seed=seed, tasks=tasks)
        self._rows: defaultdict[str, list[Proposal]] = defaultdict(list)
        for proposal in read_proposals(review):
            self._rows[proposal.id].append(proposal)

    def items(self, clip: Clip) -> Sequence[str]:
        rows = self._rows[clip.id]
        return [""] if rows and all(row.decided_text is not None for row in rows) else []

    async def make(self, clip: Clip, item: str) -> DraftBatch:
        return DraftBatch(drafts=tuple(self.drafts(clip)))

    def drafts(self, clip: Clip) -> Iterator[Draft]:
        return (replace(draft, reviewed=True) for draft in self._templates.drafts(self._reviewed(clip)))

    def preview(self, clip: Clip, item: str) -> str:
        return self._templates.preview(self._reviewed(clip), item)

    def _reviewed(self, clip: Clip) -> Clip:
        kept = [row for row in self._rows[clip.id] if row.decided_text]
        notes = [Note(kind=row.kind, text=row.decided_text or "", start=row.start, end=row.end) for row in kept]
        return replace(clip, notes=tuple(notes), questions=(), negatives=(), dialogues=())


def read_proposals(path: Path) -> list[Proposal]:
    """Raises DataError, which names the row, if a decision is unknown or an edit has no text."""
    try:
        if path.suffix == ".jsonl":
            rows = [parse_json(line) for _, line in lines(path) if line.strip()]
        else:
            rows = list(csv.DictReader(f"{line}\n" for _, line in lines(path)))
    except (csv.Error, DataError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    proposals = []
    for number, row in enumerate(rows, 1 if path.suffix == ".jsonl" else 2):  # a CSV begins with its header
        try:
            values: dict[str, Any] = {f.name: (row[f.name] or "") for f in fields(Proposal) if f.name != "kind"}
            values |= {"start": float(row["start"]), "end": float(row["end"]), "kind": row.get("kind") or "event"}
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}, row {number}: not a proposal ({error})") from error
        proposal = Proposal(**values | {"decision": values["decision"].strip().lower()})
        if proposal.decision and proposal.decision not in DECISIONS:
            raise DataError(
                f"{path}, row {number}: decision {proposal.decision!r}; write one of {', '.join(DECISIONS)}"
            )
        if proposal.kind not in KINDS:
            raise DataError(f"{path}, row {number}: kind {proposal.kind!r}; write one of {', '.join(KINDS)}")
        if proposal.decision == "edit" and not proposal.text.strip():
            raise DataError(f"{path}, row {number}: an edit needs its text")
        proposals.append(proposal)
    return proposals


def propose(clips: Iterable[Clip], review: Path, captioner: str | None) -> int:
    """Writes the table and a folder of key frames beside it, and returns the number of rows.

    captioner is a preset or a checkpoint. None writes the tags of the lite encoder as captions.
    """
    # Imported here, because merging decisions does not need torch.
    from videollm.chat.caption import dense_captions
    from videollm.checkpoint import load
    from videollm.encoders.build import build_encoder
    from videollm.features.encode import encode_video
    from videollm.model import config_of

    config = config_of(captioner or "lite")
    model = load(captioner) if captioner else None
    encoder = model.encoder if model else build_encoder(config.encoder)
    proposals = []
    for clip in clips:
        if clip.video is None:
            continue
        sampling = replace(config.sampling, start_s=clip.start, end_s=clip.end)
        video = encode_video(clip.video, encoder, sampling)
        captions = {c.start_s: c.text for c in dense_captions(model, video)} if model else {}
        for segment in video.segments(config, encoder.vocabulary):
            words = ", ".join(tag.word for tag in segment.tags)
            middle_s = float(segment.times_s[len(segment.times_s) // 2])
            proposals.append(
                Proposal(
                    id=clip.id,
                    start=round(segment.start_s, 3),
                    end=round(segment.end_s, 3),
                    tags=", ".join(f"{tag.word} {tag.prob:.0%}" for tag in segment.tags),
                    key_frame=save_key_frame(clip.id, clip.video, middle_s, review),
                    caption=captions.get(segment.start_s, words),
                )
            )
    write_proposals(review, proposals)
    return len(proposals)


def save_key_frame(id: str, video: Path, time_s: float, review: Path) -> str:
    """Saves the frame at a time in the folder beside the table `review`, and returns its path relative to the table.

    Raises the VideoError family.
    """
    from PIL import Image

    from videollm.config import SamplingConfig
    from videollm.video import decode

    frame = decode(video, SamplingConfig(times_s=(time_s,))).pixels[0]
    folder = review.with_name(f"{review.stem}_frames")
    folder.mkdir(parents=True, exist_ok=True)
    # Ids may hold slashes, and colons are not allowed in file names of Windows.
    name = f"{id}-{format_time(time_s, 1)}.jpg".replace("/", "_").replace(":", "_")
    Image.fromarray(frame.permute(1, 2, 0).numpy()).save(folder / name)
    return f"{folder.name}/{name}"


def write_proposals(review: Path, proposals: Sequence[Proposal]) -> None:
    rows = [asdict(proposal) for proposal in proposals]
    with review.open("w", encoding="utf-8", newline="") as file:
        if review.suffix == ".jsonl":
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        else:
            table = csv.DictWriter(file, [f.name for f in fields(Proposal)])
            table.writeheader()
            table.writerows(rows)
