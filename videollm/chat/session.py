"""A conversation about one video: encoded once, its prompt's keys and values kept from turn to turn."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from videollm.chat.answer import Answer, Evidence, Receipt
from videollm.chat.engine import Cache, Engine, Generation, LocalEngine
from videollm.checkpoint import Model
from videollm.config import SamplingConfig
from videollm.errors import CheckpointError, ContextOverflowError
from videollm.models.encode import EncodedVideo, encode_video
from videollm.models.processor import Message, Prompt
from videollm.video.cache import FeatureCache

EVIDENCE = 3  # segments an answer cites, at most


class ChatSession:
    """Ask questions about a video.

    video: a path, which is decoded and encoded here, once, or an `EncodedVideo`. sampling: which frames to look at, if
    not those of the model's config. features: a cache to look the video up in. messages: an earlier conversation.
    Raises the `VideoError` family for a file that cannot be used.
    """

    def __init__(
        self,
        model: Model,
        video: str | Path | EncodedVideo,
        *,
        engine: Engine | None = None,
        sampling: SamplingConfig | None = None,
        features: FeatureCache | None = None,
        messages: list[Message] | None = None,
    ):
        self.model = model
        self.engine = engine or LocalEngine(model.llm, model.processor.stop_ids)
        if not isinstance(video, EncodedVideo):
            video = encode_video(video, model.encoder, sampling or model.config.sampling, features)
        self.video = video
        self.messages = list(messages or [])
        self.segments = video.segments(model.config, model.encoder.vocabulary)
        self._whole = len(self.segments)
        self._kv = Cache()
        self._video_ms = dict(video.ms)  # reported once, by the turn that paid for it

    def ask(
        self, question: str, generation: Generation | None = None, on_text: Callable[[str], None] | None = None
    ) -> Answer:
        """The answer; `on_text` gets its text piece by piece while it is made."""
        for item in self.stream(question, generation):
            if isinstance(item, Answer):
                return item
            if on_text:
                on_text(item)
        raise RuntimeError("the stream ended without an answer")

    def stream(self, question: str, generation: Generation | None = None) -> Iterator[str | Answer]:
        """Pieces of text, then the `Answer`. The turn joins the history when it is complete; closing the iterator
        stops the model and leaves the history as it was. Raises ContextOverflowError."""
        started = perf_counter()
        generation = generation or Generation(max_new_tokens=self.model.config.prompt.max_new_tokens)
        messages = [*self.messages, Message("user", question)]
        prompt = self._fit(messages, generation.max_new_tokens)
        ids: list[int] = []
        text = ""
        first_s = 0.0
        for token in self.engine.stream(prompt, self._kv, generation):
            first_s = first_s or perf_counter() - started
            ids.append(token)
            longer = self.model.processor.decode(ids)
            if longer.startswith(text) and not longer.endswith("\ufffd"):  # half a character so far
                yield longer[len(text) :]
                text = longer
        ended_s = perf_counter() - started
        answer = self.model.processor.decode(ids)
        self.messages = [*messages, Message("assistant", answer)]
        cut = len(ids) == generation.max_new_tokens
        yield Answer(answer, self._evidence(question, answer), self._receipt(prompt, len(ids), cut, first_s, ended_s))

    def save(self, path: str | Path) -> None:
        """Write features and history to one file, from which `resume` goes on without the video."""
        history = [{"role": m.role, "content": m.content} for m in self.messages]
        metadata = {
            "config_sha": self.model.config.sha,
            "messages": json.dumps(history),
            "video": json.dumps(self.video.metadata()),
        }
        save_file(self.video.tensors(), Path(path), metadata)

    @classmethod
    def resume(cls, model: Model, path: str | Path, *, engine: Engine | None = None) -> "ChatSession":
        """Raises CheckpointError for a file that is no session, or is one of another model."""
        try:
            with safe_open(Path(path), "pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path}: not a session file ({error})") from error
        if "config_sha" not in metadata:
            raise CheckpointError(f"{path}: not a session file (a safetensors file without a conversation)")
        if metadata["config_sha"] != model.config.sha:
            raise CheckpointError(
                f"{path}: made with configuration {metadata['config_sha']}, this model has {model.config.sha}"
            )
        video = EncodedVideo.from_saved(json.loads(metadata["video"]), tensors)
        return cls(model, video, engine=engine, messages=[Message(**m) for m in json.loads(metadata["messages"])])

    def _fit(self, messages: list[Message], answer_tokens: int) -> Prompt:
        """The prompt; neighbouring segments are merged until it fits the context, with the answer."""
        room = self.model.config.prompt.context - answer_tokens
        prompt = self.model.processor(messages, self.segments)
        while len(prompt) > room:
            if len(self.segments) == 1:
                raise ContextOverflowError(
                    f"the conversation takes {len(prompt)} tokens and the answer up to {answer_tokens}, the context "
                    f"is {self.model.config.prompt.context}; start a new conversation or ask for a shorter answer"
                )
            # To three quarters, so that the next turns fit too and can reuse what this one computes.
            fewer = max(1, min(len(self.segments) - 1, len(self.segments) * room * 3 // (len(prompt) * 4)))
            self.segments = self.video.segments(self.model.config, self.model.encoder.vocabulary, fewer)
            self._kv = Cache()
            prompt = self.model.processor(messages, self.segments)
        return prompt

    def _evidence(self, question: str, answer: str) -> tuple[Evidence, ...]:
        """The segments nearest to the answer; a one-word answer is read with its question."""
        text = answer if len(answer.split()) > 1 else f"{question} {answer}"
        embed = self.model.encoder.encode_text([text]).embed[0].float().cpu()
        scored = sorted(((float(s.embed.cpu() @ embed), s) for s in self.segments), key=lambda pair: -pair[0])
        return tuple(
            Evidence(s.start_s, s.end_s, score, tuple((t.word, t.prob) for t in s.tags))
            for score, s in scored[:EVIDENCE]
        )

    def _receipt(self, prompt: Prompt, new: int, cut: bool, first_s: float, ended_s: float) -> Receipt:
        video_ms, self._video_ms = self._video_ms, {"decode": 0.0, "encode": 0.0}
        merged = len(self.segments) < self._whole
        return Receipt(
            model=self.model.config.name,
            config_sha=self.model.config.sha,
            frames=len(self.video.times_s),
            lost_frames=self.video.lost,
            times_s=tuple(round(t, 3) for t in self.video.times_s.tolist()),
            segments=len(self.segments),
            merged_from=self._whole if merged else None,
            visual_tokens=len(self.segments) * self.model.config.temporal.queries,
            prompt_tokens=len(prompt),
            cached_tokens=self._kv.reused,
            completion_tokens=new,
            truncated=merged or cut,
            ms={
                **video_ms,
                "first_token": round(1000 * first_s, 1),
                "total": round(1000 * ended_s + sum(video_ms.values()), 1),
            },
        )
