"""Turn an annotated video collection into instruction data.

    python data_gen/make_instructions.py SOURCE --out FILE [--videos DIR] [--generator template|llm|semi] ...

SOURCE is an annotation file (or a folder of subtitles) in one of the formats that `videollm/datasets` reads,
recognised by its content or named by --format. The same command again goes on where a stopped run ended.
"""

import argparse
import asyncio
import itertools
import logging
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path

from tqdm import tqdm

from data_gen import datasheet
from data_gen.filters import Filters
from data_gen.generators.build import GENERATORS, GeneratorConfig, build_generator, build_judge
from data_gen.pipeline import duration_s, measure, plan, read_clips, run
from data_gen.store import Store
from videollm.datasets.annotation_file import AnnotationFile, BrokenRows
from videollm.datasets.clip import Clip
from videollm.datasets.registry import CLIP_READERS, choose_clip_reader
from videollm.errors import DataError, VideoLLMError

SHOWN = 3  # items that a dry run shows


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(description="Turn an annotated video collection into instruction data.")
    top.add_argument("source", type=Path, help="annotation file, or a folder of subtitle files")
    top.add_argument("--out", type=Path, required=True, help="file of samples (JSON Lines) to write or to go on with")
    top.add_argument("--videos", type=Path, help="folder of the videos (default: that of SOURCE)")
    top.add_argument("--format", choices=list(CLIP_READERS), help="what SOURCE is (default: found from its content)")
    top.add_argument("--strict", action="store_true", help="stop at the first broken row")
    top.add_argument("--limit", type=int, metavar="N", help="take the first N clips only")
    top.add_argument("--dry-run", action="store_true", help=f"show {SHOWN} prompts and write nothing")
    top.add_argument("--generator", choices=GENERATORS, default="template")
    top.add_argument("--languages", type=_names, metavar="en,zh", help="template: only these; llm: translate to these")
    top.add_argument("--tasks", type=_names, metavar="qa,caption/short", help="families or tasks (default: all)")
    top.add_argument("--seed", type=int, default=0)
    top.add_argument("--blocked", type=Path, metavar="FILE", help="more phrases that no sample may have, one a line")
    llm = top.add_argument_group("llm")
    llm.add_argument("--base-url", metavar="URL", help="an OpenAI-compatible server, such as http://127.0.0.1:8000/v1")
    llm.add_argument("--model", help="the model's name there")
    llm.add_argument("--key-variable", default="OPENAI_API_KEY", help="environment variable with the key, if any")
    llm.add_argument("--concurrency", type=int, default=64, metavar="N", help="requests in flight (default: 64)")
    llm.add_argument("--rate", type=float, metavar="R", help="at most this many requests a second")
    llm.add_argument("--judge", metavar="MODEL", help="a second model on the server that checks every sample")
    semi = top.add_argument_group("semi")
    semi.add_argument("--review", type=Path, metavar="FILE", help="CSV or JSONL: made first, then edited, then merged")
    semi.add_argument("--captioner", metavar="MODEL", help="preset or checkpoint that proposes captions")
    top.add_argument("--ray", metavar="ADDRESS", help="spread the work over a Ray cluster; `local` starts one here")
    return top


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def main(argv: Sequence[str] | None = None) -> int:
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    options = parser().parse_args(argv)
    try:
        make(options)
    except VideoLLMError as error:
        print(f"make_instructions: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("make_instructions: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def make(options: argparse.Namespace) -> None:
    broken = BrokenRows(strict=options.strict)
    first_look = AnnotationFile(options.source, options.videos or _folder(options.source), broken)
    reader, config = choose_clip_reader(first_look, options.format), _config(options)
    # The second reading counts broken rows apart, else each would be counted twice.
    source = AnnotationFile(first_look.path, first_look.videos)
    clips = measure(_limited(read_clips(reader, source), options.limit), broken, duration_s)
    if config.generator == "semi" and not config.reviewed:
        _propose(options, clips, broken)
        return
    generator, judge = build_generator(config), build_judge(config)
    # Everything is read once before anything is made: mistakes show before they cost, and the work can be counted.
    keys = {work.key for work in plan(_limited(read_clips(reader, first_look), options.limit), generator)}
    _tell(broken)
    if options.dry_run:
        for work in itertools.islice(plan(clips, generator), SHOWN):
            print(f"--- {work.key}\n{generator.preview(work.clip, work.item)}\n")
        return
    if not keys:
        raise DataError(f"{options.source} gives the generator {generator.name} nothing to do")
    with Store(options.out) as store, tqdm(total=len(keys), unit="item", disable=None) as bar:
        bar.update(len(keys & store.done))
        filters = Filters(_phrases(options.blocked))
        for sample in store.samples():
            filters.remember(sample)

        def on_done() -> None:
            totals = store.totals
            bar.set_postfix(rows=totals.rows, tokens=totals.prompt_tokens + totals.completion_tokens, refresh=False)
            bar.update()

        work = (work for work in plan(clips, generator) if work.key not in store.done)
        if options.ray:
            from data_gen.spread import run_on_ray

            run_on_ray(work, config, store, filters, address=options.ray, on_done=on_done)
        else:
            flying = config.concurrency if config.generator == "llm" else 1
            asyncio.run(run(work, generator, store, filters, config.seed, judge, flying, on_done))
        page = datasheet.write(store, broken, shlex.join(["python", *sys.argv]))
        rejected = store.totals.rejected.total()
        print(f"{store.path}: {store.totals.rows} rows of {store.totals.items} items, {rejected} rejected; see {page}")


def _propose(options: argparse.Namespace, clips: Iterator[Clip], broken: BrokenRows) -> None:
    from data_gen.generators.semi import propose

    count = propose(clips, options.review, options.captioner)
    _tell(broken)
    print(f"{options.review}: {count} proposals; write accept, edit or reject into each, then run this again")


def _config(options: argparse.Namespace) -> GeneratorConfig:
    return GeneratorConfig(**{f.name: getattr(options, f.name) for f in fields(GeneratorConfig)})


def _folder(source: Path) -> Path:
    return source if source.is_dir() else source.parent


def _limited(clips: Iterator[Clip], limit: int | None) -> Iterator[Clip]:
    return itertools.islice(clips, limit)


def _phrases(path: Path | None) -> list[str]:
    if path is None:
        return []
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except OSError as error:
        raise DataError(f"--blocked {path} cannot be read: {error}") from error


def _tell(broken: BrokenRows) -> None:
    for line in broken.shown:
        print(line, file=sys.stderr)
    if broken.count:
        print(f"{broken.count} broken rows left out, {len(broken.shown)} of them shown", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
