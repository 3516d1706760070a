"""The options `--device` and `--device-map` of all programs that load a model or an encoder.

This module does not import PyTorch, so that `--help` is fast.
"""

import argparse
from typing import Any

DEVICE_VARIABLE = "VIDEOLLM_DEVICE"


def add_device_arguments(parser: argparse.ArgumentParser, *, language_model: bool = True) -> None:
    """Adds `--device`, and `--device-map` for programs that load a language model."""
    parser.add_argument(
        "--device",
        metavar="DEVICE",
        help="auto, cpu, cuda, cuda:N or mps; auto takes a GPU if there is one "
        f"(default: ${DEVICE_VARIABLE}, else auto)",
    )
    if language_model:
        parser.add_argument(
            "--device-map",
            choices=["auto"],
            help="spread the language model over all GPUs, and over main memory if they are too small",
        )
        parser.add_argument(
            "--load-in-4bit", action="store_true", help="hold the language model's weights in 4 bits (bitsandbytes)"
        )
        parser.add_argument(
            "--adapter", metavar="DIR", help="add the weights of this PEFT adapter to a video model of transformers"
        )
        parser.add_argument(
            "--evidence-encoder",
            metavar="MODEL",
            help="the model whose frame encoder finds evidence for a video model of transformers (default: lite)",
        )


def loading_options(options: argparse.Namespace) -> dict[str, Any]:
    """Returns the options of `add_device_arguments` as arguments of `videollm.load`."""
    names = ("device", "device_map", "load_in_4bit", "adapter", "evidence_encoder")
    return {name: getattr(options, name) for name in names}
