"""The published systems and how each is built from its official state dict."""

from collections.abc import Callable

from videollm.models.published.internvideo2_stage2 import load_internvideo2_stage2
from videollm.models.published.nextgpt import load_nextgpt
from videollm.models.published.preprocessing import VideoLlamaPixels
from videollm.models.published.qformer_systems import load_blip2_stage1, load_video_llama_qformer
from videollm.models.published.system import Config, PublishedSystem, State
from videollm.models.published.video_chatgpt import load_video_chatgpt
from videollm.models.published.video_llama_system import load_video_llama_system
from videollm.models.published.videochat2 import load_videochat2


def _video_llama(state: State, config: Config) -> PublishedSystem:
    return load_video_llama_system(state, config) if state else VideoLlamaPixels(config)


SYSTEMS: dict[str, Callable[[State, Config], PublishedSystem]] = {
    "VideoLLaMA": _video_llama,
    "VideoChatGPT": load_video_chatgpt,
    "VideoChat2": load_videochat2,
    "InternVideo2_stage2": load_internvideo2_stage2,
    "NExT-GPT": load_nextgpt,
    "BLIP2_QFormer": load_blip2_stage1,
    "VideoLLaMA_QFormer": load_video_llama_qformer,
}
