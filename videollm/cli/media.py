"""Files of what an answer shows beside its text."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videollm.cli.options import Arguments, Options, count
from videollm.cli.output import format_path
from videollm.errors import ConfigError
from videollm.output_config import MODALITIES, Modality

if TYPE_CHECKING:
    from videollm.chat.answer import Answer
    from videollm.config import ModelConfig
    from videollm.decoders.studio import MediaStudio
    from videollm.model import Model


def media_arguments() -> Arguments:
    """How a model with outputs shows pictures, videos and sounds, and where they are written."""
    parser = Arguments(add_help=False, parents=[decoding_arguments("the model's")])
    parser.add_argument(
        "--media-out",
        metavar="DIR",
        default="media",
        help="where the pictures, videos and sounds of a model that shows them are written (default: media)",
    )
    return parser


def decoding_arguments(default: str) -> Arguments:
    """How a model with outputs shows pictures, videos and sounds. default: the pipelines if none is named."""
    parser = Arguments(add_help=False)
    parser.add_argument(
        "--steps", type=count(1, 1000), default=40, help="denoising steps of the diffusion models (default: 40)"
    )
    parser.add_argument(
        "--size",
        type=count(8, 2048),
        metavar="PIXELS",
        help="height and width of shown pictures and videos, a multiple of 8 (default: the pipeline's)",
    )
    for modality in MODALITIES:
        parser.add_argument(
            f"--{modality}-decoder",
            metavar="PIPELINE",
            help=f"the diffusers pipeline that makes the {modality}: a directory or a hub id (default: {default})",
        )
    return parser


def open_studio(options: Options, model: "Model") -> "MediaStudio | None":
    """Returns what makes the media of the model's answers, or None for a model that answers with text alone.

    Raises ConfigError for a decoder of something that the model does not show.
    """
    outputs = model.config.outputs
    given = given_decoders(options)
    check_decoders(given, model.config)
    if not outputs.modalities:
        return None
    sources = dict(zip(MODALITIES, outputs.decoders, strict=True)) | given
    from videollm.decoders.pipeline import DecodingConfig
    from videollm.decoders.studio import MediaStudio

    config = DecodingConfig(steps=options.steps, size=options.size, seed=options.seed)
    return MediaStudio(sources, Path(options.media_out), config, model.device)


def given_decoders(options: Options) -> dict[Modality, str]:
    """Returns the pipelines that the options name, by what they make."""
    named: dict[Modality, str | None] = {modality: getattr(options, f"{modality}_decoder") for modality in MODALITIES}
    return {modality: source for modality, source in named.items() if source is not None}


def check_decoders(given: Mapping[Modality, str], config: "ModelConfig") -> None:
    """Raises ConfigError for a decoder of something that the model does not show."""
    for modality, source in given.items():
        if modality not in config.outputs.modalities:
            raise ConfigError(f"{config.name} shows no {modality}; leave --{modality}-decoder {source} out")


def write_media(studio: "MediaStudio | None", answer: "Answer") -> list[dict[str, Any]]:
    """Writes what the answer shows. Returns the modality and the path of each file."""
    if studio is None:
        return []
    written = studio.write((one.modality, one.embeddings) for one in answer.media if one.embeddings is not None)
    return [{"modality": modality, "path": format_path(str(path))} for modality, path in written]
