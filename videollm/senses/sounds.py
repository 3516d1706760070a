"""Sounds: what is heard and when, by any audio classifier of transformers, such as AST trained on AudioSet.

Shapes: S samples, K classes.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification

from videollm.device import resolve_device
from videollm.errors import CheckpointError
from videollm.senses.finding import Finding
from videollm.senses.windows import SILENCE_DB, SoundWindows, level_db
from videollm.video.audio import SAMPLE_RATE, AudioPiece, iter_audio

WINDOW_S = 5.0  # half of AudioSet's clips, so that times are not too coarse
LEAST_S = 0.5  # of a window; a shorter rest at the end says nothing
HEARD = 0.3  # least probability of a class


class SoundSense:
    """Names what is heard.

    directory: an audio classifier of transformers with its feature extractor. device: see
    `videollm.device.resolve_device`. Raises CheckpointError for a directory that holds none.
    """

    kind = "sound"

    def __init__(self, directory: str | Path, *, device: str | torch.device | None = None):
        if not Path(directory).is_dir():
            raise CheckpointError(f"{directory}: no such directory; sounds needs an audio classifier of transformers")
        try:
            self.features: Any = AutoFeatureExtractor.from_pretrained(directory, trust_remote_code=False)
            self.model: Any = AutoModelForAudioClassification.from_pretrained(directory, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{directory}: not an audio classifier ({str(error).splitlines()[0]})") from error
        if (rate := self.features.sampling_rate) != SAMPLE_RATE:
            raise CheckpointError(f"{directory}: reads {rate} samples a second; only {SAMPLE_RATE} is supported")
        self.model.eval().to(resolve_device(device))
        config = self.model.config
        self.names = [str(config.id2label[number]) for number in range(config.num_labels)]
        # AudioSet has several sounds at once, so each class has a probability of its own unless the model says not.
        self.one_at_a_time = config.problem_type == "single_label_classification"

    def __call__(self, path: str | Path) -> list[Finding]:
        """Sounds in order of their beginning. Raises the VideoError family, NoAudioStreamError among it."""
        return self.listen(iter_audio(path))

    def listen(self, pieces: Iterable[AudioPiece]) -> list[Finding]:
        """Sounds in `pieces`, which are in order of time. A sound that goes on from one window to the next is one."""
        found: list[Finding] = []
        last: dict[str, Finding] = {}
        for start_s, end_s, probabilities in self._windows(pieces):
            heard = {name: float(p) for name, p in zip(self.names, probabilities, strict=True) if p >= HEARD}
            now: dict[str, Finding] = {}
            for name, score in heard.items():
                before = last.get(name)
                if before is not None and abs(before.end_s - start_s) < 1 / SAMPLE_RATE:
                    found.remove(before)
                    start, score = before.start_s, max(before.score, score)
                else:
                    start = start_s
                now[name] = Finding(start_s=start, end_s=end_s, kind="sound", text=name, score=score)
                found.append(now[name])
            last = now
        return sorted(found, key=lambda f: (f.start_s, -f.score))

    @torch.inference_mode()
    def _windows(self, pieces: Iterable[AudioPiece]) -> Iterator[tuple[float, float, torch.Tensor]]:
        """Start and end in seconds, and the probabilities (K,), of each window that is not silent."""
        sound = SoundWindows(pieces, WINDOW_S)
        while (window := sound.current()) is not None:
            length_s = len(window.samples) / SAMPLE_RATE
            if length_s >= LEAST_S and level_db(window.samples) >= SILENCE_DB:
                read = self.features(window.samples.numpy(), sampling_rate=SAMPLE_RATE, return_tensors="pt")
                logits = self.model(**read.to(self.model.device)).logits[0].float().cpu()
                probabilities = logits.softmax(-1) if self.one_at_a_time else logits.sigmoid()
                yield window.start_s, window.start_s + length_s, probabilities
            sound.advance(length_s)
