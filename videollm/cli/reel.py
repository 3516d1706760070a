"""The command `reel`: a montage of what an index has about a text."""

from dataclasses import asdict
from pathlib import Path

from videollm.cli.options import Commands, Options, add_command, device_arguments, number, plain_text
from videollm.cli.output import format_path, format_span, hide_progress_bars, print_result
from videollm.cli.search import rows_of_models, updated

LONGEST_S = 600


def register(commands: Commands) -> None:
    help = "make a montage of the parts of indexed videos that show something"
    parser = add_command(commands, "reel", reel, help, device_arguments(language_model=False))
    parser.add_argument(
        "sources", nargs="*", metavar="SOURCES", help="folders and videos that are added to the index first"
    )
    parser.add_argument(
        "--index", required=True, metavar="DIR", help="what `videollm index` made; SOURCES make a new one"
    )
    parser.add_argument("--about", type=plain_text, required=True, metavar="TEXT", help="what the parts show")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.mp4", help="where the montage is written")
    parser.add_argument(
        "--seconds",
        type=number(1, LONGEST_S),
        default=30.0,
        metavar="S",
        help="length of the montage, at most (default: 30)",
    )
    parser.add_argument("--music", metavar="FILE", help="sound that plays under that of the videos")
    parser.add_argument(
        "--timeline", type=Path, metavar="FILE", help="an edit list too, .otio or .edl, for a video editor"
    )


def reel(options: Options) -> None:
    from tqdm import tqdm

    from videollm.retrieval.highlights import choose_shots
    from videollm.retrieval.index import Index
    from videollm.video.montage import write_montage
    from videollm.video.timeline import check_timeline, write_timeline

    if options.timeline is not None:
        check_timeline(options.timeline)
    hide_progress_bars()
    if options.sources:
        models = [one.model for one in rows_of_models(options.index)] or ["lite"]
        indexes = [Index.create(options.index, model, device=options.device) for model in models]
        problems = dict.fromkeys(one for index in indexes for one in updated(index, options.sources).problems)
    else:
        indexes, problems = Index.open_models(options.index, device=options.device), {}
    shots, unreadable = choose_shots(indexes, options.about, options.seconds)
    with tqdm(unit=" s", disable=None, bar_format="{l_bar}{bar}| {n:.0f}/{total:.0f} s [{elapsed}<{remaining}]") as bar:

        def progress(done_s: float, all_s: float) -> None:
            bar.total = all_s
            bar.update(done_s - bar.n)

        placed = write_montage(shots, options.out, options.music, progress)
    if options.timeline is not None:
        write_timeline(placed, options.timeline, options.about)
    length_s = sum(one.shot.end_s - one.shot.start_s for one in placed)
    result = {
        "file": str(options.out),
        "seconds": length_s,
        "shots": [asdict(one.shot) | {"at_s": one.at_s} for one in placed],
        "problems": [*problems, *unreadable],
    }
    lines = [
        f"wrote {options.out}: {length_s:.1f} s of at most {options.seconds:g}",
        *(f"  {format_span(one.shot)}  {format_path(one.shot.path)}" for one in placed),
        *(f"  {path}: {reason}" for path, reason in (*problems, *unreadable)),
    ]
    print_result(options, result, "\n".join(lines))
