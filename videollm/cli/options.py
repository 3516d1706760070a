"""Arguments that several commands share, and the configurations that they stand for."""

import argparse
import math
import re
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from videollm.device_arguments import add_device_arguments, add_engine_arguments
from videollm.errors import printable

if TYPE_CHECKING:
    from videollm.config import ModelConfig, SamplingConfig
    from videollm.inference.sampling import GenerationConfig

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
Options = argparse.Namespace
Arguments = argparse.ArgumentParser


MAX_NUMBER = 1_000_000_000  # of any number on the command line but seeds


def number(least: float = 0.0, most: float = MAX_NUMBER, *, above: bool = False) -> Callable[[str], float]:
    """Returns the argparse type of a finite number from `least` to `most`; above: without `least` itself."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most or (above and value == least):
            bounds = f"above {least:g}" if above else f"from {least:g}"
            raise argparse.ArgumentTypeError(f"{printable(text)!r} is not a number {bounds} to {most:g}")
        return value

    return read


def count(least: int = 1, most: int = 1_000_000) -> Callable[[str], int]:
    """Returns the argparse type of a whole number from `least` to `most`."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,20}", text) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{printable(text)!r} is not a whole number from {least} to {most}")
        return int(text)

    return read


def plain_text(text: str) -> str:
    """The argparse type of what is said to a model. Bytes of another encoding than the terminal's become U+FFFD."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def add_command(
    commands: Commands, name: str, run: Callable[[Options], None], help: str, *parents: Arguments
) -> Arguments:
    """Adds a command with `--json` and the arguments of its parents, and returns its parser for further ones."""
    parser = commands.add_parser(name, help=help, description=help, parents=[_json_arguments(), *parents])
    parser.set_defaults(run=run)
    return parser


def _json_arguments() -> Arguments:
    parser = Arguments(add_help=False)
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    return parser


def model_arguments() -> Arguments:
    """`--model`, for commands that read no video or sample it as the model was trained."""
    parser = Arguments(add_help=False)
    parser.add_argument("--model", default="lite", help="a preset, a checkpoint directory or a hub id (default: lite)")
    return parser


def engine_arguments() -> Arguments:
    """What runs the language model."""
    parser = Arguments(add_help=False)
    add_engine_arguments(parser)
    return parser


def device_arguments(*, language_model: bool = True) -> Arguments:
    """Where the model runs."""
    parser = Arguments(add_help=False)
    add_device_arguments(parser, language_model=language_model)
    return parser


def sampling_arguments() -> Arguments:
    """Which frames of a video to use."""
    parser = Arguments(add_help=False)
    parser.add_argument("--frames", type=count(), metavar="N", help="use this many frames, evenly spread")
    parser.add_argument(
        "--fps",
        type=_fps,
        metavar="N",
        help="use this many frames a second; auto is the model's rate for a short video and fewer for a long one, at "
        "key frames (default: auto)",
    )
    parser.add_argument("--start", type=number(), dest="start_s", metavar="S", help="begin at this second")
    parser.add_argument("--end", type=number(above=True), dest="end_s", metavar="S", help="stop at this second")
    parser.add_argument("--decoder", choices=["pyav", "decord"], help="what decodes the frames (default: pyav)")
    return parser


def _fps(text: str) -> float | None:
    return None if text == "auto" else number(most=1000, above=True)(text)


def senses_arguments(default: str = "the model's") -> Arguments:
    """Which senses look at a video and listen to it. default: what happens without, for the help."""
    parser = Arguments(add_help=False)
    parser.add_argument(
        "--senses",
        type=sense_names,
        metavar="NAMES",
        help="what else is found in the video: speech, objects, text, faces, sounds=DIRECTORY (an audio classifier of "
        f"transformers); several as speech,objects; speech=DIRECTORY for another Whisper; or none "
        f"(default: {default})",
    )
    return parser


def sense_names(text: str) -> tuple[str, ...]:
    """Returns the senses that a user has written, see `split_sense`."""
    from videollm.config import split_sense
    from videollm.errors import ConfigError

    senses = () if text == "none" else tuple(dict.fromkeys(text.split(",")))
    try:
        for sense in senses:
            split_sense(sense)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(f"{error}, or none") from error
    return senses


def generation_arguments() -> Arguments:
    """How an answer is generated."""
    parser = Arguments(add_help=False)
    parser.add_argument(
        "--max-new-tokens", type=count(), metavar="N", help="longest answer in tokens (default: the model's)"
    )
    parser.add_argument(
        "--temperature", type=number(most=100), default=0.0, help="0 is greedy: the same answer every time (default: 0)"
    )
    parser.add_argument(
        "--top-p", type=number(most=1, above=True), default=1.0, help="sample from this share of the probability"
    )
    parser.add_argument("--seed", type=count(0, 2**63 - 1), help="makes a sampled answer repeatable")
    return parser


def sampling_of(options: Options, model: "ModelConfig") -> "SamplingConfig":
    """Returns the sampling that the options ask for, which else is that of the model. Raises ConfigError."""
    from videollm.config import SamplingConfig

    names = ("frames", "fps", "start_s", "end_s", "decoder")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    if "frames" not in given and "fps" not in given:
        # Neither was given: the rate is automatic within it.
        return replace(model.sampling.bounded(), **given)
    return SamplingConfig(**given)


def generation_of(options: Options, model: "ModelConfig") -> "GenerationConfig":
    """Returns the generation parameters that the options ask for, which else are those of the model. Raises
    ConfigError."""
    from videollm.inference.sampling import GenerationConfig

    max_new_tokens = options.max_new_tokens
    if max_new_tokens is None:
        max_new_tokens = model.prompt.max_new_tokens
    return GenerationConfig(
        max_new_tokens=max_new_tokens, temperature=options.temperature, top_p=options.top_p, seed=options.seed
    )
