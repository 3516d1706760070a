"""The steps from annotated clips to a file of samples: read, generate, filter and store."""

import asyncio
import dataclasses
import os.path
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from os.path import relpath
from pathlib import Path

from data_gen.filters import Filters
from data_gen.generators.base import DOUBTFUL, Draft, DraftBatch, Generator, SampleJudge
from data_gen.store import Reject, Store
from videollm.datasets.annotation_file import AnnotationFile, BrokenRows, ClipReader
from videollm.datasets.clip import Clip, Note
from videollm.datasets.schema import Provenance, Sample
from videollm.datasets.video_files import is_picture
from videollm.errors import DataError, VideoError, VideoLLMError


@dataclass(frozen=True, slots=True)
class WorkItem:
    """An item of work. `key` identifies it in the store, in every run."""

    key: str
    clip: Clip
    item: str


# Called with each item of work that was done or given up, and what it gave.
OnDone = Callable[[WorkItem, DraftBatch], None]


def read_clips(reader: ClipReader, source: AnnotationFile, split: str, others: Counter[str]) -> Iterator[Clip]:
    """Yields the clips of one split of the source, and those that state no split.

    A clip that repeats an id or has no video file is reported as broken. `others` counts the clips of other splits.
    """
    seen: set[str] = set()
    for clip in reader.clips(source):
        if clip.split not in (None, split):
            others[str(clip.split)] += 1
            continue
        with source.broken.row(f"clip {clip.id}"):
            if clip.id in seen:
                raise ValueError("an earlier clip has the same id")
            seen.add(clip.id)
            if clip.video and not os.path.isfile(clip.video):
                raise ValueError(f"{clip.video.parent} does not have its video file")
            yield clip


def measure(clips: Iterable[Clip], broken: BrokenRows, duration_s: Callable[[Path], float]) -> Iterator[Clip]:
    """Yields each clip with the duration of its video. Pictures and text alone have none.

    Notes are cut at that duration, because annotated spans are often rounded up. Clips whose file cannot be read are
    reported as broken.
    """
    for clip in clips:
        try:
            length = duration_s(clip.video) if clip.video and not is_picture(clip.video) else None
        except VideoError as error:
            broken.add(f"clip {clip.id}", error.reason)
            continue
        yield replace(clip, duration=length, notes=tuple(_cut(note, length) for note in clip.notes))


def _cut(note: Note, length: float | None) -> Note:
    ends_late = length is not None and note.end is not None and note.end > length > (note.start or 0)
    return replace(note, end=length) if ends_late else note


def plan(clips: Iterable[Clip], generator: Generator) -> Iterator[WorkItem]:
    """Yields the items of work of all clips."""
    for clip in clips:
        for item in generator.items(clip):
            key = "-".join(part for part in (clip.source, clip.id, generator.name, item) if part)
            yield WorkItem(key, clip, item)


def duration_s(path: Path) -> float:
    """Returns the duration of a video file in seconds."""
    from videollm.video.decoding import probe  # loads torch, which `--help` and pictures do not need

    return probe(path).duration_s


async def run(
    work: Iterable[WorkItem],
    generator: Generator,
    store: Store,
    filters: Filters,
    seed: int = 0,
    judge: SampleJudge | None = None,
    concurrency: int = 1,
    on_done: OnDone = lambda work, made: None,
) -> None:
    """Does the work, `concurrency` items at a time.

    Raises the VideoLLMError of the first item that cannot be made. Items that were done before stay done.
    """
    todo = iter(work)

    async def worker() -> None:
        for w in todo:
            made = await generator.make(w.clip, w.item)
            await keep(w, made, store, filters, generator.name, seed, judge)
            on_done(w, made)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(worker())
    except* VideoLLMError as failed:
        raise failed.exceptions[0] from None


async def keep(
    work: WorkItem,
    made: DraftBatch,
    store: Store,
    filters: Filters,
    name: str,
    seed: int,
    judge: SampleJudge | None = None,
) -> None:
    """Filters the drafts of an item, and stores both what passed and what was rejected or is for review.

    An item with a problem is not stored, so that the next run tries it again.
    """
    if made.problem:
        return
    samples: list[Sample] = []
    rejects = [Reject(step=DOUBTFUL, reason=doubt.reason, draft=doubt.proposal) for doubt in made.doubts]
    fallen: set[int] = set()
    prompt_tokens, completion_tokens = made.prompt_tokens, made.completion_tokens
    for number, draft in enumerate(made.drafts):
        verdict = sample = None
        if draft.origin in fallen:
            verdict = "origin", "its original was rejected"
        else:
            try:
                sample = to_sample(work, number, draft, store.path.parent, name, seed)
            except DataError as error:
                verdict = "schema", str(error)
        if sample:
            verdict = filters.reject(sample, work.clip, grounded=draft.grounded)
        if sample and judge and not verdict:
            judged = await judge.verdict(sample, work.clip)
            prompt_tokens += judged.prompt_tokens
            completion_tokens += judged.completion_tokens
            verdict = ("judge", judged.reason) if judged.reason else None
        if sample and not verdict:
            samples.append(sample)
            continue
        fallen.add(number)
        assert verdict
        rejects.append(Reject(step=verdict[0], reason=verdict[1], draft=dataclasses.asdict(draft)))
    store.commit(
        work.key,
        samples,
        rejects,
        unusable=made.unusable,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
    )


def to_sample(work: WorkItem, number: int, draft: Draft, folder: Path, name: str, seed: int) -> Sample:
    """Turns a draft into a sample. Raises DataError if the draft is not a valid one."""
    clip = work.clip
    return Sample(
        id=f"{work.key}-{number:03}",
        video=Path(relpath(clip.video, folder)).as_posix() if clip.video else "",
        start=clip.start,
        end=clip.end,
        task=draft.task,
        language=draft.language,
        messages=draft.messages,
        answer_times=tuple((round(a, 3), round(b, 3)) for a, b in draft.answer_times),
        provenance=Provenance(
            source=clip.source,
            generator=name,
            model=draft.model,
            prompt_sha=draft.prompt_sha,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            seed=seed,
            score=None if draft.score is None else round(draft.score, 3),
            threshold=draft.threshold,
            reviewed=draft.reviewed,
        ),
    )
