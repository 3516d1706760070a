"""Makes what answers show, and writes it to a folder."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
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

    def load(self) -> None:
        """Loads all pipelines now. Raises CheckpointError and ConfigError, see `MediaDecoder`."""
        for modality in self.sources:
            self._decoder(modality)

    def write(
        self, conditions: Iterable[tuple[Modality, torch.Tensor]], seed: int | None = None
    ) -> list[tuple[Modality, Path]]:
        """Makes the medium of each condition (1,Q,C) and writes it to a new file. Returns the files.

        Args:
            conditions: The modality and the text condition of each medium.
            seed: The seed of the noise. None takes that of the configuration.

        Raises ConfigError if a pipeline does not fit or a file cannot be written, and CheckpointError if a pipeline
        cannot be loaded.
        """
        config = self.config if seed is None else replace(self.config, seed=seed)
        return [(modality, self._write(modality, condition, config)) for modality, condition in conditions]

    def _decoder(self, modality: Modality) -> MediaDecoder:
        if modality not in self._decoders:
            self._decoders[modality] = MediaDecoder(self.sources[modality], modality, self.device)
        return self._decoders[modality]

    def _write(self, modality: Modality, condition: torch.Tensor, config: DecodingConfig) -> Path:
        made = self._decoder(modality)(condition, config)
        number = 1
        while (target := self.folder / f"{number:04}-{modality}{made.suffix}").exists():
            number += 1
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            made.write(target)
        except OSError as error:
            raise ConfigError(f"{target} cannot be written ({reason_of(error)}); give another folder") from error
        return target
