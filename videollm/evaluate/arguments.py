"""The arguments of `videollm eval`.

This module only parses; `command` runs what was asked for.
"""

import argparse
from pathlib import Path

from videollm.datasets.registry import ITEM_READERS
from videollm.device_arguments import add_device_arguments, add_engine_arguments
from videollm.evaluate.judge import ASPECTS
from videollm.evaluate.tasks import TASKS

# The tasks whose predictions contain an answer in words. A judge can grade only these.
JUDGED_TASKS = ("openqa", "caption", "summary")


def build_parser() -> argparse.ArgumentParser:
    """Returns a parser with one subcommand for each task, and `trust`, `score` and `compare`.

    The name of the subcommand is stored as `command`.
    """
    parser = argparse.ArgumentParser(
        prog="videollm eval",
        description="Score a model on local data, and score the controls that show how much of the result comes from "
        "the video. `videollm eval TASK --help` explains the options of a task.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="TASK")
    model, data, output, judge = _model_arguments(), _data_arguments(), _output_arguments(), _judge_arguments()
    device = _parent()
    add_device_arguments(device)
    for task in TASKS.values():
        commands.add_parser(
            task.name,
            help=task.about.partition(". ")[0],
            description=task.about,
            parents=[model, device, data, output, *([judge] if task.name in JUDGED_TASKS else [])],
        )
    commands.add_parser(
        "trust",
        help="Probe whether the answers of a model can be trusted",
        description="Run every probe of trust (hallucination, abstention, paraphrase, flip and evidence) and write one "
        "report of all of them.",
        parents=[model, device, data, output],
    )
    score = commands.add_parser(
        "score",
        help="Score predictions that were made by another program",
        description="Score a file of predictions. No model is loaded, except a local judge.",
        parents=[data, output, judge, device],
    )
    score.add_argument(
        "predictions",
        type=Path,
        metavar="PREDICTIONS",
        help='The JSON Lines file of predictions. Each line is {"id": ..., "prediction": {...}}.',
    )
    score.add_argument("--task", choices=list(TASKS), required=True, help="The task that the predictions answer.")
    compare = commands.add_parser(
        "compare",
        help="Compare two evaluations of the same items",
        description="Print the difference B - A of each metric with its confidence interval. The items are paired.",
    )
    compare.add_argument("a", type=Path, metavar="A", help="The --out folder of the first evaluation.")
    compare.add_argument("b", type=Path, metavar="B", help="The --out folder of the second evaluation.")
    _add_json_argument(compare)
    return parser


def _parent() -> argparse.ArgumentParser:
    """Returns an empty parser for `parents`. It has no --help of its own, which would collide with the child's."""
    return argparse.ArgumentParser(add_help=False)


def _model_arguments() -> argparse.ArgumentParser:
    parent = _parent()
    parent.add_argument(
        "--model",
        default="lite",
        help="The model to evaluate: a preset, a checkpoint directory or a hub id (default: lite).",
    )
    add_engine_arguments(parent)
    return parent


def _data_arguments() -> argparse.ArgumentParser:
    parent = _parent()
    parent.add_argument("--data", type=Path, required=True, metavar="DIR", help="The folder that holds the data set.")
    parent.add_argument(
        "--format",
        help="The format of the data set. It is recognised by the files in the folder if it is not given. "
        f"One of {', '.join(ITEM_READERS)}.",
    )
    parent.add_argument(
        "--split",
        nargs="+",
        default=[],
        help="The splits to evaluate (default: the data set's evaluation split; for the synthetic world, every split "
        "but train).",
    )
    parent.add_argument(
        "--language",
        nargs="+",
        default=["en"],
        help="The languages to evaluate, for data sets that have several (default: en).",
    )
    parent.add_argument(
        "--limit", type=int, metavar="N", help="Evaluate only N items, spread evenly over the data (default: all)."
    )
    parent.add_argument(
        "--partial",
        action="store_true",
        help="Accept a data set whose number of items differs from the published number.",
    )
    return parent


def _output_arguments() -> argparse.ArgumentParser:
    parent = _parent()
    parent.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="The folder for predictions and reports. A stopped run continues if it gets the same folder again.",
    )
    _add_json_argument(parent)
    return parent


def _judge_arguments() -> argparse.ArgumentParser:
    parent = _parent()
    parent.add_argument(
        "--judge",
        metavar="MODEL",
        help="The language model that judges the answers: a local checkpoint, or with --judge-url the name of a model "
        "on the server (default: no judge).",
    )
    parent.add_argument(
        "--judge-url",
        metavar="URL",
        help="The OpenAI-compatible server of the judge, up to and including /v1. The key is read from the "
        "environment variable OPENAI_API_KEY.",
    )
    parent.add_argument(
        "--aspects",
        nargs="+",
        choices=ASPECTS,
        default=["accuracy"],
        help="The aspects that the judge grades (default: accuracy).",
    )
    parent.add_argument(
        "--judge-baseline",
        type=Path,
        metavar="FILE",
        help="The judge's first verdicts on the frozen answers, which its verdicts of today are compared with. The "
        "file is written if it does not exist (default: a file in the cache folder).",
    )
    parent.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="The JSON Lines file of people's verdicts, which the judge's are compared with. Each line is "
        '{"id": ..., "correct": true}.',
    )
    return parent


def _add_json_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="Print the result as one JSON object on stdout.")
