"""The options `--device`, `--engine` and their like of all programs that load a model or an encoder.

This module does not import PyTorch, so that `--help` is fast.
"""

import argparse
from typing import Any

from videollm.errors import ConfigError

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


def add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds `--engine` and the URLs of servers, for programs whose language model a server may run."""
    parser.add_argument(
        "--engine",
        choices=["local", "vllm", "openai"],
        default="local",
        help="what runs the language model: this process; the vLLM server at --vllm-url; or the OpenAI-compatible "
        "server at --url, such as Ollama, which knows it as --model and gets the frames as pictures (default: local)",
    )
    parser.add_argument(
        "--url",
        help="the server of --engine openai, up to and including /v1; its key is read from OPENAI_API_KEY",
    )
    parser.add_argument(
        "--vllm-url",
        metavar="URL",
        help="the server of --engine vllm, such as http://127.0.0.1:8001, which runs the exported language model, or a "
        "video model of transformers; its key is read from VLLM_API_KEY",
    )


def loading_options(options: argparse.Namespace) -> dict[str, Any]:
    """Returns the options of `add_device_arguments`, and of `add_engine_arguments` if the program has them, as
    arguments of `videollm.load`.

    Raises ConfigError if only one of an engine and its URL is given.
    """
    names = ("device", "device_map", "load_in_4bit", "adapter", "evidence_encoder")
    engine = getattr(options, "engine", "local")
    url, vllm_url = getattr(options, "url", None), getattr(options, "vllm_url", None)
    for of, option, given, example in (
        ("openai", "url", url, "http://localhost:11434/v1"),
        ("vllm", "vllm-url", vllm_url, "http://127.0.0.1:8001"),
    ):
        if (engine == of) != (given is not None):
            raise ConfigError(
                f"engine is {engine} and {option} is {given}; give --engine {of} and --{option} together, such as "
                f"--{option} {example}"
            )
    return {name: getattr(options, name) for name in names} | {"server_url": url, "vllm_url": vllm_url}
