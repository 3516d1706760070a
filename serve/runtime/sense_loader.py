"""The models of senses, each loaded by the first request that needs it."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import torch

from serve.api.errors import APIError
from serve.runtime.executor import run_in_new_thread
from videollm.config import split_sense
from videollm.errors import AssetError, CheckpointError
from videollm.extras import explain_missing
from videollm.features.observe import FPS, MAX_FRAMES
from videollm.senses.objects import ObjectSense
from videollm.senses.speech import SpeechSense

logger = logging.getLogger(__name__)

RETRY_S = 60  # until the weights of a sense that could not be loaded are looked for again


class SenseLoader:
    """Loads senses and keeps them.

    Args:
        whisper: The Whisper model of the sense "speech" without a directory of its own.
        device: Where the senses run that can run on a GPU.
    """

    def __init__(self, whisper: str, device: torch.device):
        self.whisper, self.device = whisper, device
        self._senses: dict[str, Any] = {}
        self._failed_at: dict[str, float] = {}
        self._loading = asyncio.Lock()

    @property
    def speech_model(self) -> str:
        """The name of the speech model: of an asset, or of a directory."""
        return Path(self.whisper.removeprefix("asset:")).name

    async def load(self, sense: str) -> Any:
        """Returns a sense with its weights. `sense`: see `split_sense`. Raises APIError 503 where it cannot be loaded.

        The log names a sense that is missing once.
        """
        async with self._loading:
            # Without a network, looking for weights takes long: requests in between are refused at once.
            if monotonic() < self._failed_at.get(sense, -RETRY_S) + RETRY_S:
                raise _unavailable(sense)
            if sense not in self._senses:
                try:
                    self._senses[sense] = await run_in_new_thread(self._loaders(sense))
                except (AssetError, CheckpointError, ModuleNotFoundError) as error:
                    missing = isinstance(error, ModuleNotFoundError)
                    if (reason := explain_missing(error) if missing else str(error)) is None:
                        raise
                    if sense not in self._failed_at:
                        logger.warning("without %s: %s", sense, reason)  # paths here are not for clients
                    self._failed_at[sense] = monotonic()
                    raise _unavailable(sense) from error
            return self._senses[sense]

    def _loaders(self, sense: str) -> Callable[[], Any]:
        name, directory = split_sense(sense)
        match name:
            case "speech":
                return lambda: SpeechSense(directory or self.whisper, device=self.device)
            case "objects":
                return lambda: ObjectSense(fps=FPS, max_frames=MAX_FRAMES, device=self.device)
            case "faces":
                return _faces
            case "text":
                return _text
            case "sounds":
                return lambda: _sounds(directory, self.device)


# Their libraries are imported by servers that use them only.
def _faces() -> Any:
    from videollm.senses.faces import FaceSense

    return FaceSense(fps=FPS, max_frames=MAX_FRAMES)


def _text() -> Any:
    from videollm.senses.text import TextSense  # needs the extra `ocr`

    return TextSense()


def _sounds(directory: str, device: torch.device) -> Any:
    from videollm.senses.sounds import SoundSense

    return SoundSense(directory, device=device)


def _unavailable(sense: str) -> APIError:
    message = f"the model for {split_sense(sense)[0]} cannot be loaded; see the server's log"
    return APIError(503, message, "sense_unavailable", kind="server_error", retry_after_s=RETRY_S)
