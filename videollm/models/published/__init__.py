"""Published video systems, built from their official weights and compared with their official code to the digit.

`load` is a thin adapter: the modules are this project's own, one file a system.
"""

from collections.abc import Callable

from videollm.errors import ConfigError
from videollm.models.published.internvideo2_stage2 import load_internvideo2_stage2
from videollm.models.published.preprocessing import VideoLlamaPixels
from videollm.models.published.system import Config, PublishedSystem, State
from videollm.models.published.video_chatgpt import load_video_chatgpt
from videollm.models.published.videochat2 import load_videochat2
from videollm.models.published.video_llama_system import load_video_llama_system

__all__ = ["SYSTEMS", "PublishedSystem", "load"]


def _video_llama(state: State, config: Config) -> PublishedSystem:
    return load_video_llama_system(state, config) if state else VideoLlamaPixels(config)


SYSTEMS: dict[str, Callable[[State, Config], PublishedSystem]] = {
    "VideoLLaMA": _video_llama,
    "VideoChatGPT": load_video_chatgpt,
    "VideoChat2": load_videochat2,
    "InternVideo2_stage2": load_internvideo2_stage2,
}


def load(system: str, state: State, config: Config) -> PublishedSystem:
    """Build a published system from its official state dict, in evaluation mode and float32.

    system: a name of `SYSTEMS`; what follows a slash names a file of recorded arrays and changes nothing: the weights
    tell the variants apart. config: what the weights do not tell, such as numbers of heads.
    Raises ConfigError for an unknown system or a missing setting, CheckpointError that lists tensors which are
    missing, unknown or of another shape.
    """
    family = system.partition("/")[0]
    if family not in SYSTEMS:
        raise ConfigError(f"there is no published system {family!r}; choose one of {', '.join(SYSTEMS)}")
    return SYSTEMS[family](state, config)
