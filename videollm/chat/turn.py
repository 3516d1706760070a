"""One turn of a conversation about any number of videos: its prompt, fitted to the context, and the streamed answer."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from time import perf_counter

from videollm.chat.answer import Answer, Evidence, Receipt
from videollm.checkpoint import Model
from videollm.errors import ContextOverflowError
from videollm.features.encode import EncodedVideo
from videollm.inference.engine import Engine, PromptCache
from videollm.inference.sampling import GenerationConfig, Token
from videollm.models.processor import Message, Prompt

EVIDENCE = 3  # segments an answer cites, at most


class PromptVideo:
    """A video in a conversation, cut in segments. before: number of the message that it stands before."""

    def __init__(self, model: Model, video: EncodedVideo, before: int = 0):
        self.video, self.before = video, before
        self.segments = video.segments(model.config, model.encoder.vocabulary)
        self.whole = len(self.segments)

    def merge(self, model: Model, share: float) -> None:
        """Join neighbouring segments until this share of them is left, on steps that turns of one conversation have in
        common, so that what one has computed the next can use."""
        fewer = most = len(self.segments)
        while fewer > max(1, share * most):
            fewer = fewer * 3 // 4
        if fewer < most:
            self.segments = self.video.segments(model.config, model.encoder.vocabulary, fewer)


def fit_to_context(
    model: Model, messages: Sequence[Message], shown: Sequence[PromptVideo], answer_tokens: int
) -> Prompt:
    """The prompt; neighbouring segments are merged until it fits the context, with the answer.

    Raises ContextOverflowError where that is not enough.
    """
    room = model.config.prompt.context - answer_tokens
    while len(prompt := model.processor(messages, videos=[(s.before, s.segments) for s in shown])) > room:
        if all(len(s.segments) == 1 for s in shown):
            raise ContextOverflowError(
                f"the conversation takes {len(prompt)} tokens and the answer up to {answer_tokens}, the context "
                f"is {model.config.prompt.context}; start a new conversation or ask for a shorter answer"
            )
        for video in shown:
            video.merge(model, room / len(prompt))
    return prompt


@dataclass(frozen=True, slots=True)
class Piece:
    """A chosen token, and the text that can be shown since, which may be none. token is None for what had to be held
    back until the end."""

    text: str
    token: Token | None


def generate_answer(
    model: Model,
    engine: Engine,
    prompt: Prompt,
    question: str,
    shown: Sequence[PromptVideo],
    cache: PromptCache,
    generation: GenerationConfig,
    video_ms: dict[str, float],
    started: float,
) -> Generator[Piece | Answer]:
    """A piece for each token, then the `Answer`, whose receipt counts `video_ms` as this turn's, and its other
    milliseconds from when `perf_counter` said `started`. Closing the iterator stops the model."""
    ids: list[int] = []
    shown_text, first_s, stopped_at = "", 0.0, None
    for token in engine.stream(prompt, cache, generation):
        first_s = first_s or perf_counter() - started
        ids.append(token.id)
        text = model.processor.decode(ids)
        stopped_at = _first(text, generation.stop)
        if stopped_at is not None:
            break
        safe = text[: _safe(text, generation.stop)]
        new = ""
        if safe.startswith(shown_text) and not safe.endswith("\ufffd"):  # half a character so far
            new = safe[len(shown_text) :]
            shown_text = safe
        yield Piece(new, token)
    ended_s = perf_counter() - started
    text = model.processor.decode(ids)[:stopped_at]
    if text.startswith(shown_text) and text != shown_text:
        yield Piece(text[len(shown_text) :], None)
    cut = stopped_at is None and len(ids) == generation.max_new_tokens
    merged = any(len(s.segments) < s.whole for s in shown)
    segments = sum(len(s.segments) for s in shown)
    receipt = Receipt(
        model=model.config.name,
        config_sha=model.config.sha,
        frames=sum(len(s.video.times_s) for s in shown),
        lost_frames=sum(s.video.lost for s in shown),
        times_s=tuple(round(t, 3) for s in shown for t in s.video.times_s.tolist()),
        segments=segments,
        merged_from=sum(s.whole for s in shown) if merged else None,
        visual_tokens=segments * model.config.temporal.queries,
        prompt_tokens=len(prompt),
        cached_tokens=cache.reused,
        completion_tokens=len(ids),
        truncated=merged or cut,
        finish="length" if cut else "stop",
        ms={
            **video_ms,
            "first_token": round(1000 * first_s, 1),
            "total": round(1000 * ended_s + sum(video_ms.values()), 1),
        },
    )
    yield Answer(text, _evidence(model, question, text, shown), receipt)


def _first(text: str, stops: tuple[str, ...]) -> int | None:
    """Where the first of the stop texts begins."""
    return min((at for stop in stops if (at := text.find(stop)) >= 0), default=None)


def _safe(text: str, stops: tuple[str, ...]) -> int:
    """How many characters cannot be the beginning of a stop text."""
    longest = max(map(len, stops), default=1)
    beginnings = (at for at in range(max(0, len(text) - longest + 1), len(text)))
    return next((at for at in beginnings if any(stop.startswith(text[at:]) for stop in stops)), len(text))


def _evidence(model: Model, question: str, answer: str, shown: Sequence[PromptVideo]) -> tuple[Evidence, ...]:
    """The segments nearest to the answer; a one-word answer is read with its question."""
    if not shown:
        return ()
    text = answer if len(answer.split()) > 1 else f"{question} {answer}"
    embed = model.encoder.encode_text([text]).embed[0].float().cpu()
    scored = ((float(s.embed.cpu() @ embed), number, s) for number, v in enumerate(shown) for s in v.segments)
    return tuple(
        Evidence(s.start_s, s.end_s, score, tuple((t.word, t.prob) for t in s.tags), number)
        for score, number, s in sorted(scored, key=lambda item: -item[0])[:EVIDENCE]
    )
