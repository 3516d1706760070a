"""One run of `make_instructions.py`: from the options to the file of samples and its datasheet."""

import argparse
import asyncio
import itertools
import shlex
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from data_gen import datasheet
from data_gen.filters import Filters
from data_gen.generators.base import DraftBatch, Generator
from data_gen.generators.build import build_generator, build_judge
from data_gen.generators.config import GeneratorConfig
from data_gen.pipeline import WorkItem, duration_s, measure, plan, read_clips, run
from data_gen.store import Store
from data_gen.unannotated import Unannotated
from videollm.datasets.annotation_file import AnnotationFile, BrokenRows
from videollm.datasets.clip import Clip
from videollm.datasets.registry import choose_clip_reader
from videollm.errors import DataError

DECIDE = "write accept, edit or reject into each, then run this again"
PREVIEWS = 3  # items that a dry run shows


def make_instructions(options: argparse.Namespace, config: GeneratorConfig) -> None:
    """Runs `make_instructions.py` with these options.

    Raises a VideoLLMError if the source, the options or the server cannot be used.
    """
    broken = BrokenRows(strict=options.strict)
    first_look = AnnotationFile(options.source, options.videos or _folder(options.source), broken)
    is_auto = config.generator == "auto"
    reader = Unannotated() if is_auto else choose_clip_reader(first_look, options.format)
    # The second reading has its own counter of broken rows, because each would otherwise be counted twice.
    second_look = AnnotationFile(first_look.path, first_look.videos)
    others: Counter[str] = Counter()
    clips = itertools.islice(read_clips(reader, second_look, options.split, Counter()), options.limit)
    clips = measure(clips, broken, duration_s)
    if config.generator == "semi" and not config.is_reviewed:
        _propose(options, clips, broken)
        return
    generator = build_generator(config)
    # The source is read once before anything is made, so that mistakes show before they cost and work can be counted.
    first_clips = itertools.islice(read_clips(reader, first_look, options.split, others), options.limit)
    keys = {work.key for work in plan(first_clips, generator)}
    _print_broken(broken)
    left_out = ", ".join(f"{count} of {split}" for split, count in others.items())
    if left_out:
        print(f"clips of other splits than {options.split} left out: {left_out}", file=sys.stderr)
    if options.dry_run:
        for work in itertools.islice(plan(clips, generator), PREVIEWS):
            print(f"--- {work.key}\n{generator.preview(work.clip, work.item)}\n")
        return
    if not keys:
        hint = f"; it has no clip of the split {options.split}, say --split" if left_out else ""
        raise DataError(f"{options.source} gives the generator {generator.name} nothing to do{hint}")
    with Store(options.out) as store:
        shown = len(broken.shown)
        _fill(store, keys, clips, generator, options, config, broken)
        _print_broken(broken, shown)
        page = datasheet.write(store, broken, shlex.join(["python", *sys.argv]))
        rejected = store.totals.rejected.total()
        print(f"{store.path}: {store.totals.rows} rows of {store.totals.items} items, {rejected} rejected; see {page}")
        if is_auto:
            from data_gen.generators.auto import write_doubts

            if undecided := write_doubts(store, options.review):
                print(f"{options.review}: {undecided} rows; {DECIDE}")


def _fill(
    store: Store,
    keys: set[str],
    clips: Iterator[Clip],
    generator: Generator,
    options: argparse.Namespace,
    config: GeneratorConfig,
    broken: BrokenRows,
) -> None:
    """Does the work that the store does not have yet.

    `keys` are those of all work, for the progress bar. `broken` gets the clips whose videos cannot be read.
    """
    filters = Filters(_phrases(options.blocked))
    for sample in store.samples():
        filters.remember(sample)
    todo = (work for work in plan(clips, generator) if work.key not in store.done)
    with tqdm(total=len(keys), unit="item", disable=None) as bar:
        bar.update(len(keys & store.done))

        def on_done(work: WorkItem, made: DraftBatch) -> None:
            if made.problem:
                broken.add(f"clip {work.clip.id}", made.problem)
            totals = store.totals
            bar.set_postfix(rows=totals.rows, tokens=totals.prompt_tokens + totals.completion_tokens, refresh=False)
            bar.update()

        if options.ray:
            from data_gen.spread import run_on_ray

            run_on_ray(todo, config, store, filters, address=options.ray, on_done=on_done)
        else:
            # Only items of a language model wait. Other generators would gain nothing from concurrency.
            concurrency = config.concurrency if config.generator == "llm" else 1
            judge = build_judge(config)
            asyncio.run(run(todo, generator, store, filters, config.seed, judge, concurrency, on_done))


def _propose(options: argparse.Namespace, clips: Iterator[Clip], broken: BrokenRows) -> None:
    from data_gen.generators.semi import propose

    count = propose(clips, options.review, options.captioner)
    _print_broken(broken)
    print(f"{options.review}: {count} proposals; {DECIDE}")


def _folder(source: Path) -> Path:
    return source if source.is_dir() else source.parent


def _phrases(path: Path | None) -> list[str]:
    if path is None:
        return []
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except OSError as error:
        raise DataError(f"--blocked {path} cannot be read: {error}") from error


def _print_broken(broken: BrokenRows, first: int = 0) -> None:
    """Prints the broken rows, from the number `first` on of those that are shown."""
    for line in broken.shown[first:]:
        print(line, file=sys.stderr)
    if broken.shown[first:]:
        print(f"{broken.count} broken rows left out, {len(broken.shown)} of them shown", file=sys.stderr)
