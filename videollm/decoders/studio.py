"""Makes what answers show, and writes it to a folder."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

from videollm.decoders.pipeline import DecodingConfig, MediaDecoder
from videollm.errors import ConfigError, reason_of
from videollm.output_config import Modality


class MediaStudio:
    """Pipelines by modality, which are loaded when they are first needed and kept.

    Args:
        sources: The directory or hub id of each modality's pipeline.
        folder: Where files are written. It is created if it is missing.
        config: How media are made.
        device: The device of the pipelines, see `resolve_device`.
    """

    def __init__(
        self,
        sources: Mapping[Modality, str],
        folder: Path,
        config: DecodingConfig,
        device: str | torch.device | None = None,
    ):
        self.sources, self.folder, self.config, self.device = sources, folder, config, device
        self._decoders: dict[Modality, MediaDecoder] = {}

    def write(self, conditions: Iterable[tuple[Modality, torch.Tensor]]) -> list[tuple[Modality, Path]]:
        """Makes the medium of each condition (1,Q,C) and writes it to a new file. Returns the files.

        Raises ConfigError if a pipeline does not fit or a file cannot be written, and CheckpointError if a pipeline
        cannot be loaded.
        """
        return [(modality, self._write(modality, condition)) for modality, condition in conditions]

    def _write(self, modality: Modality, condition: torch.Tensor) -> Path:
        if modality not in self._decoders:
            self._decoders[modality] = MediaDecoder(self.sources[modality], modality, self.device)
        made = self._decoders[modality](condition, self.config)
        number = 1
        while (target := self.folder / f"{number:04}-{modality}{made.suffix}").exists():
            number += 1
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            made.write(target)
        except OSError as error:
            raise ConfigError(f"{target} cannot be written ({reason_of(error)}); give another folder") from error
        return target
