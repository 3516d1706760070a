"""ImageBind's tower for sound as an audio encoder, with which Video-LLaMA hears.

Shapes: N samples, S clips, O width of ImageBind's space.
"""

from pathlib import Path

import torch
from safetensors.torch import save_file

from videollm.audio_config import AudioConfig
from videollm.checkpoint_files import read_finite
from videollm.device import resolve_device
from videollm.encoders.audio import AudioFeatures
from videollm.encoders.zero_shot import fingerprint
from videollm.errors import CheckpointError
from videollm.models.published.imagebind import ImageBind, build_tower, official_name
from videollm.models.published.key_mapping import load_official
from videollm.models.published.mel import WINDOW_S, MelConfig, clip_spectrograms, clip_times
from videollm.models.published.system import State, StateShapes
from videollm.video.audio import SAMPLE_RATE

WEIGHTS = "model.safetensors"
IGNORED = r"modality_\w+\.(?!audio\.).*"  # of the other senses


class ImageBindAudio:
    """AudioEncoder whose features are ImageBind's vectors of `config.clips` clips of 2 s, spread evenly.

    Args:
        state: ImageBind's tensors by their official names. Those of other senses than sound are not used.
        config: The number of clips, their width and the number of attention heads.
        device: The device, see `resolve_device`.

    Raises:
        CheckpointError: If tensors are missing, unknown or of another shape than `config` says.
    """

    name = "imagebind"

    def __init__(self, state: State, config: AudioConfig, device: torch.device | str | None = None):
        self.mel, self.device = MelConfig(clips_per_video=config.clips), resolve_device(device)
        shapes, heads = StateShapes(state), config.encoder_heads
        width = shapes["modality_preprocessors.audio.cls_token"][-1]
        if width % heads:
            raise CheckpointError(f"ImageBind's tower for sound has width {width}, no multiple of {heads} heads")
        self.model = ImageBind(None, build_tower(shapes, "", "audio", {"audio_num_heads": heads}))
        load_official(self.model, state, self._names(), (IGNORED,))
        if (out := self.model.audio.head.out_features) != config.token_dim:
            raise CheckpointError(
                f"ImageBind's vectors have width {out}, but the audio branch reads {config.token_dim}"
            )
        self.model.eval().requires_grad_(False).to(self.device)
        self.revision = fingerprint(sorted(self.model.state_dict().items()), str(config))

    def encode_audio(self, samples: torch.Tensor) -> AudioFeatures | None:
        """See `AudioEncoder.encode_audio`. The features are (S,O)."""
        duration_s = len(samples) / SAMPLE_RATE
        if duration_s < WINDOW_S:
            return None
        mel = clip_spectrograms(samples[None], SAMPLE_RATE, self.mel)
        with torch.no_grad():
            tokens = self.model.embed_sound(mel.to(self.device)).cpu()
        starts_s = [start_s for start_s, _ in clip_times(duration_s, self.mel)]
        return AudioFeatures(tokens, torch.tensor(starts_s, dtype=torch.float64))

    def save(self, folder: Path) -> None:
        """See `AudioEncoder.save`."""
        folder.mkdir(parents=True, exist_ok=True)
        names, state = self._names(), self.model.state_dict()
        parts = ((names[name], tensor.cpu()) for name, tensor in state.items())
        save_file({name: tensor.contiguous() for name, tensor in parts}, folder / WEIGHTS)

    def _names(self) -> dict[str, str]:
        return {name: official_name(name) for name in self.model.state_dict()}


def load_imagebind_audio(folder: Path, config: AudioConfig, device: torch.device | str | None = None) -> ImageBindAudio:
    """Returns the encoder in a folder that `ImageBindAudio.save` wrote.

    Raises CheckpointError if the file is missing or its tensors do not fit.
    """
    if not (path := folder / WEIGHTS).is_file():
        raise CheckpointError(f"{path} is missing; it has the weights of the audio encoder")
    return ImageBindAudio(read_finite(path), config, device)
