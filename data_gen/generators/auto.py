"""Instruction data from videos without an annotation: what models find in them becomes the annotation.

The templates turn statements that are sure into samples, with the score, the threshold and the models in their
provenance. Statements that are doubtful go to a table, in which a person accepts, edits or rejects them as for the
generator `semi`. The next run adds the samples of the videos whose rows are all decided.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path

from data_gen.generators.base import DOUBTFUL, Doubt, Draft, DraftBatch
from data_gen.generators.observer import Observer
from data_gen.generators.semi import Proposal, SemiGenerator, read_proposals, save_key_frame, write_proposals
from data_gen.generators.statement import Statement
from data_gen.generators.template import TemplateGenerator
from data_gen.store import Store
from videollm.datasets.clip import Clip, ClipQuestion, Note
from videollm.errors import AssetError, VideoError

REVIEWED = "reviewed"  # the item of work that merges the decisions about a clip
# Tasks that tell all of a video, which is not known while a caption is doubtful.
WHOLE = ("caption/dense", "locate/event", "summary")


class AutoGenerator:
    """Samples from what models find.

    Args:
        review: The table of doubtful statements.
        captioner: A preset or a checkpoint that writes the captions. None lists what is recognised.
        seed, tasks: Those of `TemplateGenerator`.
    """

    name = "auto"

    def __init__(
        self, review: Path, *, captioner: str | None = None, seed: int = 0, tasks: Sequence[str] | None = None
    ):
        self._review = review
        self._observe = Observer(captioner, seed)
        self._templates = TemplateGenerator(seed=seed, tasks=tasks)
        self._reviewed = SemiGenerator(review, seed=seed, tasks=tasks) if review.exists() else None

    def items(self, clip: Clip) -> Sequence[str]:
        decided = self._reviewed is not None and self._reviewed.items(clip)
        return ["", REVIEWED] if decided else [""]

    async def make(self, clip: Clip, item: str) -> DraftBatch:
        if item == REVIEWED:
            assert self._reviewed
            return DraftBatch(drafts=tuple(d for d in self._reviewed.drafts(clip) if d.task not in WHOLE))
        assert clip.video
        try:
            statements = self._observe(clip.video)
            doubts = [self._doubt(clip, clip.video, s) for s in statements if s.doubt]
        except VideoError as error:
            return DraftBatch(problem=error.reason)
        except AssetError as error:
            return DraftBatch(problem=str(error))
        return DraftBatch(drafts=tuple(self._drafts(clip, statements)), doubts=tuple(doubts))

    def preview(self, clip: Clip, item: str) -> str:
        assert clip.video
        return "\n".join(f"{s.score:.2f} of {s.threshold:.2f} {s.claim}" for s in self._observe(clip.video))

    def _drafts(self, clip: Clip, statements: Sequence[Statement]) -> Iterator[Draft]:
        sure = [s for s in statements if not s.doubt]
        partly = any(s.doubt and s.claim.kind == "event" for s in statements)
        questions = [[s] for s in sure if isinstance(s.claim, ClipQuestion)]
        notes = [
            [s for s in sure if isinstance(s.claim, Note) and s.claim.kind == kind] for kind in ("event", "speech")
        ]
        for told in [*notes, *questions]:
            for draft in self._templates.drafts(_annotated(clip, told)):
                if not (partly and draft.task in WHOLE):
                    yield _with_provenance(draft, told)

    def _doubt(self, clip: Clip, video: Path, statement: Statement) -> Doubt:
        start, end = statement.spans[0][0], statement.spans[-1][1]
        proposal = Proposal(
            id=clip.id,
            start=round(start, 3),
            end=round(end, 3),
            tags=f"{statement.doubt} ({statement.model})",
            key_frame=save_key_frame(clip.id, video, sum(statement.spans[0]) / 2, self._review),
            caption=statement.text,
            kind="speech" if statement.claim.kind == "speech" else "event",
        )
        return Doubt(reason=statement.doubt, proposal=asdict(proposal))


def write_doubts(store: Store, review: Path) -> int:
    """Writes the table of all doubtful statements of the store, and returns how many have no decision.

    Decisions that the table has already are kept.
    """
    known = {_key(p): p for p in read_proposals(review)} if review.exists() else {}
    doubts = [Proposal(**{f.name: row[f.name] for f in fields(Proposal)}) for row in store.rejects(DOUBTFUL)]
    rows = [known.get(_key(doubt), doubt) for doubt in doubts]
    if rows:
        write_proposals(review, rows)
    return sum(row.decided_text is None for row in rows)


def _key(proposal: Proposal) -> tuple[object, ...]:
    return proposal.id, proposal.start, proposal.end, proposal.caption


def _annotated(clip: Clip, statements: Sequence[Statement]) -> Clip:
    claims = [s.claim for s in statements]
    notes = tuple(claim for claim in claims if isinstance(claim, Note))
    return replace(clip, notes=notes, questions=tuple(c for c in claims if isinstance(c, ClipQuestion)))


def _with_provenance(draft: Draft, told: Sequence[Statement]) -> Draft:
    """Adds the provenance of the statements that a draft tells, which are those of its times."""
    used = [s for s in told if any(a < end and start < b for a, b in draft.answer_times for start, end in s.spans)]
    used = used or list(told)
    least = min(used, key=lambda statement: statement.score)
    return replace(draft, model=least.model, score=least.score, threshold=least.threshold)
