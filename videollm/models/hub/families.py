"""What each family of transformers' video models needs beyond their common interface."""

from dataclasses import dataclass

from transformers.models.smolvlm.processing_smolvlm import DEFAULT_CHAT_TEMPLATE as SMOLVLM_TEMPLATE

from videollm.config import SamplingConfig

TWO_A_SECOND = SamplingConfig(fps=2.0, max_frames=64)
# InstructBLIP's published processor has none: a prompt is the video, the mark of the beginning and the question.
INSTRUCT_TEMPLATE = (
    "{% for message in messages %}"
    "{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}{% else %}{{ '<video>' }}"
    "{% endif %}{% endfor %}{% if message['role'] == 'assistant' %}{{ eos_token }}"
    "{% elif message['role'] == 'system' %}{{ '\n' }}{% endif %}{% endfor %}"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """What is special about a family.

    Attributes:
        sampling: The frames that the authors give the model for a video.
        short_side: The shorter side of decoded frames, in pixels. The model's processor resizes them further.
        equal_frames: Whether all videos of a prompt must have the same number of frames. The last frame of shorter
            videos is then repeated.
        one_kind: Whether a prompt cannot hold videos and pictures together. Beside a video, a picture is then shown as
            a video that stands still.
        most_videos: The most videos that a prompt may hold, None for any number.
        chat_template: The template that transformers uses for videos in place of the model's own.
        speaks: Whether the model also speaks. Only its thinker, which reads and writes, is loaded.
        caps_pixels: Whether vLLM must be asked to bound the pixels of a frame, as `HubProcessor` does.
        reads_question: Whether the features of a video depend on the question, see `videollm.models.hub.instruct`.
    """

    sampling: SamplingConfig = TWO_A_SECOND
    short_side: int = 448
    equal_frames: bool = False
    one_kind: bool = False
    most_videos: int | None = None
    chat_template: str | None = None
    speaks: bool = False
    caps_pixels: bool = False
    reads_question: bool = False


OTHERS = Family()
QWEN = Family(caps_pixels=True)

# By `model_type` of config.json. A type that is not here is loaded with the values of `OTHERS`.
FAMILIES: dict[str, Family] = {
    "qwen2_vl": QWEN,
    "qwen2_5_vl": QWEN,
    "qwen3_vl": QWEN,
    "qwen3_5": QWEN,
    "qwen2_5_omni": Family(caps_pixels=True, speaks=True),
    "qwen3_omni_moe": Family(caps_pixels=True, speaks=True),
    "llava_onevision": Family(sampling=SamplingConfig(frames=32), short_side=384, equal_frames=True),
    "llava_next_video": Family(sampling=SamplingConfig(frames=32), short_side=336, equal_frames=True),
    "video_llava": Family(sampling=SamplingConfig(frames=8), short_side=224, equal_frames=True),
    "internvl": Family(sampling=SamplingConfig(frames=8), equal_frames=True),
    "smolvlm": Family(
        sampling=SamplingConfig(fps=1.0, max_frames=64),
        equal_frames=True,
        one_kind=True,
        chat_template=SMOLVLM_TEMPLATE,
    ),
    "video_llama_3": Family(sampling=SamplingConfig(fps=1.0, max_frames=128)),
    "perception_lm": Family(sampling=SamplingConfig(frames=32), equal_frames=True),
    "glm4v": Family(one_kind=True),
    "glm46v": Family(one_kind=True),
    "gemma4": Family(sampling=SamplingConfig(frames=32)),
    "minicpmv4_6": Family(sampling=SamplingConfig(fps=1.0, max_frames=128)),
    "molmo2": Family(one_kind=True, most_videos=1),
    "instructblipvideo": Family(
        sampling=SamplingConfig(frames=4),
        short_side=224,
        equal_frames=True,
        chat_template=INSTRUCT_TEMPLATE,
        reads_question=True,
    ),
}
