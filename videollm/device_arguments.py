"""`--device` and `--device-map`, for every program that loads a model or an encoder. Needs no PyTorch to show help."""

import argparse

DEVICE_VARIABLE = "VIDEOLLM_DEVICE"


def add_device_arguments(parser: argparse.ArgumentParser, *, language_model: bool = True) -> None:
    """Add `--device`, and `--device-map` for programs that load a language model."""
    parser.add_argument(
        "--device",
        metavar="DEVICE",
        help="auto, cpu, cuda, cuda:N or mps; auto takes a GPU where there is one "
        f"(default: ${DEVICE_VARIABLE}, else auto)",
    )
    if language_model:
        parser.add_argument(
            "--device-map",
            choices=["auto"],
            help="spread the language model over all GPUs, and over main memory where they are too small",
        )
