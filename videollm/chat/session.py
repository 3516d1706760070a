"""A conversation about one video. The video is encoded once, and the keys and values of the prompt are kept between
turns."""

import json
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from time import perf_counter

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from videollm.chat.answer import Answer
from videollm.chat.prompt_video import PromptVideo
from videollm.chat.turn import fit_to_context, generate_answer, system_text
from videollm.config import SamplingConfig
from videollm.errors import CheckpointError
from videollm.features.cache import FeatureCache
from videollm.features.encode import EncodedVideo, SegmentFeatures
from videollm.features.observe import encode_and_observe
from videollm.inference.engine import Engine, PromptCache
from videollm.inference.engines import make_engine
from videollm.inference.sampling import GenerationConfig
from videollm.model import Model
from videollm.models.processor import Message


class ChatSession:
    """Answers questions about a video.

    Args:
        model: The model that answers.
        video: A path, which is decoded and encoded here, or an `EncodedVideo`.
        engine: What runs the language model. None runs it where the model is.
        sampling: Which frames to use. None takes the sampling of the model, bounded for long videos.
        features: A cache for the features of the video and for what the senses find.
        senses: The senses that examine the file. None takes those of the model.
        messages: An earlier conversation to continue.

    Raises:
        VideoError: If the file cannot be used. Its subclasses say why.
    """

    def __init__(
        self,
        model: Model,
        video: str | Path | EncodedVideo,
        *,
        engine: Engine | None = None,
        sampling: SamplingConfig | None = None,
        features: FeatureCache | None = None,
        senses: Sequence[str] | None = None,
        messages: list[Message] | None = None,
    ):
        self.model = model
        self.engine = engine or make_engine(model)
        if not isinstance(video, EncodedVideo):
            wanted = model.config.senses if senses is None else senses
            frames = sampling or model.config.sampling.bounded()
            video = encode_and_observe(video, model.encoder, frames, wanted, features, model.device)
        self.video = video
        self.messages = list(messages or [])
        asked = [number for number, message in enumerate(self.messages) if message.role == "user"]
        self._prompt_video = PromptVideo(model, video, before=asked[0] if asked else len(self.messages))
        self._cache = PromptCache()
        self._video_ms = dict(video.ms)  # counted by the receipt of the first turn only

    @property
    def segments(self) -> list[SegmentFeatures]:
        """The segments that the model sees. Their number falls when a long conversation leaves less room for them."""
        return self._prompt_video.segments

    def ask(
        self, question: str, generation: GenerationConfig | None = None, on_text: Callable[[str], None] | None = None
    ) -> Answer:
        """Answers a question.

        Args:
            question: The question.
            generation: How text is generated. None takes the defaults of the model.
            on_text: A function that is called with each piece of the text as it is generated.

        Raises:
            ContextOverflowError: If the conversation no longer fits the context.
        """
        for item in self.stream(question, generation):
            if isinstance(item, Answer):
                return item
            if on_text:
                on_text(item)
        raise RuntimeError("the stream ended without an answer")

    def stream(self, question: str, generation: GenerationConfig | None = None) -> Generator[str | Answer]:
        """Yields pieces of the text, then the `Answer`.

        The turn is added to the history when it is complete. Closing the generator earlier stops the model and leaves
        the history as it was. Raises ContextOverflowError if the conversation no longer fits the context.
        """
        started = perf_counter()
        generation = generation or GenerationConfig(max_new_tokens=self.model.config.prompt.max_new_tokens)
        messages = [*self.messages, Message("user", question)]
        segments = self._prompt_video.segments
        prompt = fit_to_context(self.model, messages, [self._prompt_video], generation.max_new_tokens)
        if self._prompt_video.segments is not segments:
            # All visual tokens have one id, so the cache could not tell the merged segments from the old ones.
            self._cache = PromptCache()
        made = generate_answer(
            self.model,
            self.engine,
            prompt,
            question,
            [self._prompt_video],
            self._cache,
            generation,
            self._video_ms,
            started,
            system=system_text(messages),
            made=self.model.config.outputs.modalities,
        )
        for item in made:
            if isinstance(item, Answer):
                self._video_ms = dict.fromkeys(self._video_ms, 0.0)
                self.messages = [*messages, Message("assistant", item.text)]
                yield item
            else:
                yield item.text

    def save(self, path: str | Path) -> None:
        """Writes features and history to one file. `resume` continues from it without the video, on any device."""
        history = [{"role": m.role, "content": m.content} for m in self.messages]
        metadata = {
            "config_sha": self.model.config.sha,
            "messages": json.dumps(history),
            "video": json.dumps(self.video.metadata()),
        }
        tensors = {name: tensor.cpu().contiguous() for name, tensor in self.video.tensors().items()}
        save_file(tensors, Path(path), metadata)

    @classmethod
    def resume(cls, model: Model, path: str | Path, *, engine: Engine | None = None) -> "ChatSession":
        """Continues a saved conversation.

        Raises CheckpointError if the file is not a session, or was saved with another model.
        """
        try:
            with safe_open(Path(path), "pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path} is not a session file ({error}); give one that was saved") from error
        if "config_sha" not in metadata:
            raise CheckpointError(f"{path} is not a session file: it is a safetensors file without a conversation")
        if metadata["config_sha"] != model.config.sha:
            raise CheckpointError(
                f"{path} was saved with configuration {metadata['config_sha']}, but this model has "
                f"{model.config.sha}; load the model that the conversation was held with"
            )
        video = EncodedVideo.from_saved(json.loads(metadata["video"]), tensors)
        return cls(model, video, engine=engine, messages=[Message(**m) for m in json.loads(metadata["messages"])])
