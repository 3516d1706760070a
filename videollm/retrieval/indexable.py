"""The models that an index is made with."""

from pathlib import Path

from videollm.config import EncoderConfig, ModelConfig, SamplingConfig, SegmentConfig
from videollm.model import config_of
from videollm.models import aligner
from videollm.retrieval.files import LOCAL, is_there

FRAMES_PER_S = 1.0  # of the videos that a retrieval head embeds, as the published heads are trained


def config_to_index(name: str) -> ModelConfig:
    """Returns the configuration that an index is made with: encoder, sampling and segmentation.

    A directory of a retrieval head, or of stage 1 with an aligner, embeds whole segments. Any other model is indexed by
    its frame encoder.

    Args:
        name: A preset, a hub id or a directory.

    Raises:
        CheckpointError: If there is no such model.
    """
    directory = Path(name).expanduser()
    place = f"{LOCAL}{directory.resolve()}"
    if is_there(directory):
        from videollm.retrieval import model as heads  # imports open_clip, which takes seconds

        fields = heads.read_config(directory)
        return ModelConfig(
            name=directory.name,
            sampling=SamplingConfig(fps=FRAMES_PER_S),
            segments=SegmentConfig(by="scene", frames=fields.frames),
            encoder=EncoderConfig(kind="head", name=fields.head.kind, pretrained=place),
        )
    config = config_of(name)
    if (directory / aligner.FILE).is_file():
        encoder = EncoderConfig(kind="aligner", name=config.encoder.name, pretrained=place)
        return ModelConfig(
            name=config.name, sampling=config.sampling, segments=config.segments, encoder=encoder, prompt=config.prompt
        )
    return config
