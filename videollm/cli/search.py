"""Commands about collections of videos: index, search and dedupe."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videollm.cli.options import (
    Commands,
    Options,
    add_command,
    count,
    device_arguments,
    number,
    plain_text,
    senses_arguments,
)
from videollm.cli.output import (
    format_path,
    format_score,
    format_span,
    format_tags,
    hide_progress_bars,
    print_result,
    print_with_sheet,
)
from videollm.cli.shapes import MomentJSON
from videollm.device_arguments import loading_options
from videollm.errors import ConfigError, NoIndexError, VideoError

if TYPE_CHECKING:
    import torch

    from videollm.retrieval.contact_sheet import Panel
    from videollm.retrieval.index import Index
    from videollm.retrieval.indexer import IndexReport
    from videollm.retrieval.search import Filter, Moment

RERANK_CANDIDATES = 20  # least number of moments that --rerank scores again


def register(commands: Commands) -> None:
    parser = add_command(
        commands,
        "index",
        index,
        "make or update a search index of videos",
        device_arguments(language_model=False),
        senses_arguments("those that looked at the videos of the index; none for a new one"),
    )
    parser.add_argument("sources", nargs="+", help="folders, videos, or text files that list them, one a line")
    parser.add_argument("--index", required=True, metavar="DIR", help="folder, object store or LanceDB URL to keep it")
    parser.add_argument(
        "--model",
        help="a preset, a checkpoint directory or a hub id, whose rows stand beside those of others (default: the "
        "models of the index; lite for a new one)",
    )
    parser.add_argument(
        "--workers", type=count(most=1024), metavar="N", help="videos in work at a time (default: cores, at most 8)"
    )
    parser.add_argument(
        "--drop-missing", action="store_true", help="remove the rows of folders whose videos are all gone, too"
    )
    parser.add_argument(
        "--ray", metavar="ADDRESS", help="distribute the work over a Ray cluster: its address, auto or local"
    )
    _register_search(commands)
    parser = add_command(commands, "dedupe", dedupe, "find videos that are re-encoded, resized or trimmed copies")
    parser.add_argument("sources", nargs="+", help="folders, videos, or text files that list them, one a line")


def _register_search(commands: Commands) -> None:
    help = "find moments in indexed videos by text (lite reads English only), picture or clip"
    parser = add_command(commands, "search", search, help, device_arguments())
    parser.add_argument("query", type=plain_text, nargs="?", help="text to search for")
    parser.add_argument("--index", required=True, metavar="DIR", help="what `videollm index` made")
    parser.add_argument(
        "--model", help="search the rows of this model only (default: those of all models of the index)"
    )
    parser.add_argument("--like", metavar="FILE", help="search for what looks like this picture or clip")
    parser.add_argument("--start", type=number(), dest="start_s", metavar="S", help="begin --like at this second")
    parser.add_argument("--end", type=number(above=True), dest="end_s", metavar="S", help="stop --like at this second")
    parser.add_argument(
        "--rerank", metavar="MODEL", help="score the best again with this model's language model or retrieval head"
    )
    parser.add_argument("-k", type=count(), default=10, help="number of moments (default: 10)")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="only videos below this folder")
    parser.add_argument(
        "--min-duration", type=number(), metavar="S", help="only videos at least this many seconds long"
    )
    parser.add_argument("--max-duration", type=number(), metavar="S", help="only videos at most this many seconds long")
    parser.add_argument("--after", type=_date, metavar="DATE", help="only files changed on this date or later")
    parser.add_argument("--before", type=_date, metavar="DATE", help="only files changed before this date")
    parser.add_argument(
        "--said", type=plain_text, metavar="WORDS", help="only moments in which these words are said, in this order"
    )
    parser.add_argument(
        "--has", action="append", metavar="THING", help='only moments that show it, such as person or "person>=2"'
    )
    parser.add_argument(
        "--open", nargs="?", const="search.png", metavar="PNG", help="write a contact sheet (default: search.png)"
    )


def _date(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date; write 2026-05-31 or 2026-05-31T18:30") from error


def updated(opened: "Index", sources: Sequence[str], **how: Any) -> "IndexReport":
    """Updates an index, with a progress bar. The arguments are those of `Index.update`."""
    from tqdm import tqdm

    with tqdm(unit=" videos", disable=None) as bar:  # None: draws on a terminal only

        def progress(done: int, total: int, path: str) -> None:
            bar.total = total
            bar.set_postfix_str(Path(path).name, refresh=False)
            bar.update(done - bar.n)

        return opened.update(sources, progress=progress, **how)


def index(options: Options) -> None:
    from videollm.retrieval.index import Index

    hide_progress_bars()
    there = rows_of_models(options.index)
    # What is said and seen does not depend on the model, so that filters hold for the rows of all.
    known = sorted({sense for one in there for sense in one.table.senses()})
    reports = {
        model: updated(
            Index.create(options.index, model, device=options.device),
            options.sources,
            workers=options.workers,
            ray=options.ray,
            senses=known if options.senses is None else options.senses,
            drop_missing=options.drop_missing,
        )
        for model in ([options.model] if options.model else [one.model for one in there] or ["lite"])
    }
    if len(reports) == 1:
        ((_, report),) = reports.items()
        print_result(options, asdict(report), _report(options, report))
        return
    values = {model: asdict(report) for model, report in reports.items()}
    texts = [f"{model}: {_report(options, report)}" for model, report in reports.items()]
    print_result(options, {"models": values}, "\n".join(texts))


def rows_of_models(uri: str) -> "list[Index]":
    """Returns the rows of the models of an index, none if there is no index yet."""
    from videollm.retrieval.index import Index

    try:
        return Index.open_models(uri)
    except NoIndexError:
        return []


def _report(options: Options, report: "IndexReport") -> str:
    counts = ("added", "changed", "moved", "removed", "unchanged", "unreadable")
    lines = [
        ", ".join(f"{getattr(report, name)} {name}" for name in counts),
        f"{report.segments} segments in {options.index} ({report.seconds:.1f} s)",
        *(f"  {path}: {reason}" for path, reason in report.problems),
    ]
    return "\n".join(lines)


def search(options: Options) -> None:
    from videollm.retrieval.fusion import search_models
    from videollm.retrieval.index import Index

    asked = (options.query is not None) + (options.like is not None)
    if asked > 1 or not (asked or options.said or options.has):
        raise ConfigError("give a text to search for, a picture or clip with --like FILE, or --said or --has alone")
    hide_progress_bars()
    where = _filter(options)
    opened = Index.open_models(options.index, options.model, options.device)
    opened = opened if asked else opened[:1]  # what is said and seen is the same in the rows of all
    k = options.k if options.rerank is None else max(options.k, RERANK_CANDIDATES)
    found = search_models(opened, lambda index: _query(options, index), k, where)
    if options.rerank is not None:
        found = _rerank(options, found)
    lines = [_line(moment, len(opened) > 1) for moment in found]
    value = {"moments": [{**asdict(MomentJSON.of(moment)), "models": moment.models} for moment in found]}
    text = "\n".join(lines) or "no video in the index matches"
    print_with_sheet(options, value, text, options.open, _panels(found))


def _query(options: Options, opened: "Index") -> "str | torch.Tensor | None":
    from videollm.config import SamplingConfig
    from videollm.retrieval.queries import embed_media

    if options.like is None:
        return options.query
    part = SamplingConfig(fps=2.0, start_s=options.start_s, end_s=options.end_s)
    return embed_media(options.like, opened.encoder, part)


def _filter(options: Options) -> "Filter":
    from videollm.retrieval.search import Filter

    return Filter(
        folder=options.folder,
        min_duration_s=options.min_duration,
        max_duration_s=options.max_duration,
        after=options.after,
        before=options.before,
        said=options.said,
        has=tuple(options.has or ()),
    )


def _rerank(options: Options, found: "list[Moment]") -> "list[Moment]":
    from videollm import checkpoint
    from videollm.chat import rerank as by_language_model
    from videollm.encoders.build import build_encoder
    from videollm.model import config_of
    from videollm.retrieval import model as heads
    from videollm.retrieval import rerank as by_head
    from videollm.retrieval.files import is_there

    if options.query is None:
        raise ConfigError("--rerank compares moments with a text; give a text instead of --like")
    if is_there(Path(options.rerank)):
        again = by_head.rerank(heads.load(Path(options.rerank), options.device), options.query, found)
    elif (encoder := config_of(options.rerank).encoder).kind == "internvideo2":
        matcher: Any = build_encoder(encoder, options.device)
        again = by_head.rerank_by_matching(matcher, options.query, found)
    else:
        again = by_language_model.rerank(
            checkpoint.load(options.rerank, **loading_options(options)), options.query, found
        )
    return again[: options.k]


def _line(moment: "Moment", several: bool) -> str:
    subtitles = f' "{moment.text}"' if moment.text else ""
    models = f"  [{', '.join(moment.models)}]" if several else ""
    place = f"{format_span(moment):13} {format_path(moment.path)}"
    return f"{format_score(moment.score):>5}  {place}  {format_tags(moment.tags)}{subtitles}{models}"


def _panels(found: "list[Moment]") -> "list[Panel]":
    from videollm.retrieval.contact_sheet import Panel

    panels = []
    for n, moment in enumerate(found, 1):
        title = f"{n}  {format_score(moment.score)}  {format_span(moment)}  {Path(moment.path).name}"
        middle_s = (moment.start_s + moment.end_s) / 2
        panels.append(Panel(moment.path, middle_s, title, format_tags(moment.tags)))
    return panels


def dedupe(options: Options) -> None:
    from videollm.retrieval.dedupe import find_copies, fingerprint, groups
    from videollm.retrieval.video_files import find_videos

    found = find_videos(options.sources)
    fingerprints, problems = [], [*found.problems]
    for file in found.files:
        try:
            fingerprints.append(fingerprint(file))
        except VideoError as error:
            problems.append((file, error.reason))
    copies = find_copies(fingerprints)
    grouped = groups(copies)
    lines = [f"{len(fingerprints)} videos compared, {len(grouped)} groups of copies"]
    lines += ["\n".join([f"group {n}", *(f"  {format_path(path)}" for path in g)]) for n, g in enumerate(grouped, 1)]
    lines += [f"cannot be read: {path}: {reason}" for path, reason in problems]
    pairs = [{"first": c.first, "second": c.second, "share": c.share, "offset": c.offset_s} for c in copies]
    print_result(options, {"groups": grouped, "pairs": pairs, "problems": problems}, "\n".join(lines))
