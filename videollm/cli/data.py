"""Commands about training data: data and features."""

from dataclasses import asdict
from pathlib import Path

from videollm.cli.options import Commands, Options, add_command, device_arguments, model_arguments
from videollm.cli.output import print_result
from videollm.errors import DataError, VideoError


def register(commands: Commands) -> None:
    parser = add_command(commands, "data", data, "validate a file of instruction data, or count what it holds")
    parser.add_argument("action", choices=["check", "stats"])
    parser.add_argument("file", help="instruction data, JSON lines")

    help = "compute the features that training on a file of instruction data reads"
    parser = add_command(
        commands, "features", features, help, model_arguments(), device_arguments(language_model=False)
    )
    parser.add_argument("file", help="instruction data, JSON lines; features of its videos are computed once and kept")
    parser.add_argument(
        "--out", default="runs/features", metavar="DIR", help="where they are kept (default: runs/features)"
    )


def data(options: Options) -> None:
    from videollm.datasets import schema
    from videollm.video.decoding import probe

    if options.action == "stats":
        stats = schema.stats(schema.read(options.file))
        print_result(options, asdict(stats), str(stats))
        return
    checked = schema.check(options.file, lambda path: probe(path).duration_s)
    summary = f"{options.file}: {checked.rows} rows, {checked.videos} videos, {len(checked.problems)} problems"
    print_result(options, asdict(checked), "\n".join([*map(str, checked.problems), summary]))
    if not checked.rows:
        raise DataError(f"{options.file} has no rows")
    if checked.problems:
        raise DataError(f"{summary}; correct or remove these rows")


def features(options: Options) -> None:
    from tqdm import tqdm

    from videollm.datasets.schema import read
    from videollm.encoders.build import build_encoder
    from videollm.features.encode import row_sampling, stored_video
    from videollm.features.shards import FeatureShards
    from videollm.model import config_of

    config = config_of(options.model)
    encoder, shards = build_encoder(config.encoder, options.device), FeatureShards(options.out)
    folder, before, usable, problems = Path(options.file).parent, len(shards), 0, {}
    # A dict keeps the file's order and drops rows that ask about the same part of the same video.
    wanted = {(s.video, row_sampling(config.sampling, s.start, s.end)): None for s in read(options.file) if s.video}
    for video, sampling in tqdm(wanted, unit=" videos", disable=None):
        try:
            stored_video(folder / video, encoder, sampling, shards)
            usable += 1
        except VideoError as error:
            problems[video] = error.reason
    if wanted and not usable:
        first, reason = next(iter(problems.items()))
        raise DataError(f"{options.file}: none of {len(problems)} videos can be used; {first}: {reason}")
    made = len(shards) - before
    lines = [f"{options.out}: {len(wanted)} videos or parts, {made} new", *(f"  {v}: {r}" for v, r in problems.items())]
    print_result(options, {"videos": len(wanted), "new": made, "problems": problems}, "\n".join(lines))
