"""Pictures, videos and sounds that answers show, as files that diffusers pipelines make."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from serve.config import ServerConfig
from serve.runtime.executor import ModelExecutor
from videollm.chat.answer import Answer, MediaCondition
from videollm.cli.media import check_decoders
from videollm.errors import VideoLLMError
from videollm.model import Model
from videollm.output_config import Modality

if TYPE_CHECKING:
    from videollm.decoders.studio import MediaStudio

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GeneratedFile:
    """A file of an answer, which says in its metadata that it is generated.

    Attributes:
        modality: What it is: a PNG, an MP4 or a WAV.
        data: Its content.
        problem: Why it was not made, for the person who asked, or "".
    """

    modality: Modality
    data: bytes
    problem: str = ""


class MediaGenerator:
    """Makes what answers show, one file at a time, in a thread of its own.

    Attributes:
        modalities: What is made: that for which the server has a pipeline.

    Args:
        config: The pipelines, and how they work.
        model: The model that answers.
        folder: Where files are while they are written.

    Raises ConfigError and CheckpointError for pipelines that the model has no use for or that cannot be loaded.
    """

    def __init__(self, config: ServerConfig, model: Model, folder: Path):
        check_decoders(config.decoders, model.config)
        self.modalities = tuple(config.decoders)
        self.executor = ModelExecutor()
        self._studio = _open_studio(config, model, folder) if config.decoders else None

    async def files(self, answer: Answer, seed: int | None) -> list[GeneratedFile]:
        """Returns a file, or the reason why there is none, for each thing that the answer shows.

        A task that is cancelled ends after the file in work. seed: The seed of the noise; None draws it anew.
        """
        return [await self.executor.run(self._make, one, seed) for one in answer.media]

    def _make(self, shown: MediaCondition, seed: int | None) -> GeneratedFile:
        modality = shown.modality
        if self._studio is None or shown.embeddings is None:
            missing = f"this server makes no {modality}; start it with --{modality}-decoder PIPELINE"
            return GeneratedFile(modality, b"", missing)
        try:
            ((_, path),) = self._studio.write([(modality, shown.embeddings)], seed)
        except VideoLLMError as error:
            logger.warning("%s", error)
            return GeneratedFile(modality, b"", f"the {modality} could not be made; the server's log says why")
        data = path.read_bytes()
        path.unlink()
        return GeneratedFile(modality, data)


def _open_studio(config: ServerConfig, model: Model, folder: Path) -> "MediaStudio":
    from videollm.decoders.pipeline import DecodingConfig  # needs the extra `generate`
    from videollm.decoders.studio import MediaStudio

    decoding = DecodingConfig(steps=config.steps, size=config.size)
    studio = MediaStudio(config.decoders, folder, decoding, model.device)
    studio.load()
    return studio
