"""One turn of a conversation about any number of videos: fits the prompt to the context and streams the answer."""

import re
from collections.abc import Collection, Generator, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

from videollm.chat.answer import CANNOT_TELL, Answer, Evidence, Grounded, Receipt, before_findings, without_findings
from videollm.chat.claims import believed
from videollm.chat.form import Form, declined, read_form
from videollm.chat.grounded import HELP, INTRODUCTION, ground
from videollm.chat.media import media_conditions
from videollm.chat.prompt_video import PromptVideo
from videollm.chat.questions import asked_time, is_description, told_spans
from videollm.chat.sightings import EVIDENCE, evidence_for, evidence_of
from videollm.encoders.presence import LEAST_COSINE
from videollm.errors import ContextOverflowError
from videollm.features.encode import SegmentFeatures
from videollm.inference.engine import Engine, PromptCache
from videollm.inference.sampling import GenerationConfig, Token
from videollm.model import Model
from videollm.models.processor import Message, Prompt
from videollm.models.served import ServedPrompt
from videollm.output_config import Modality

NO_EVIDENCE = re.compile(r"(no|none|nothing|nobody|i cannot tell)\b", re.IGNORECASE)
LAST_TURNS = 4  # are left out only if merging segments does not make enough room for them
DROPPED_TURNS = 4  # are left out at a time, so that most turns can reuse the keys and values of the last
VIDEO_WORDS = ("this video", "The video")
REPLACEMENT = "\ufffd"  # tokenizers decode an incomplete character to it


def fit_to_context(
    model: Model,
    messages: Sequence[Message],
    videos: Sequence[PromptVideo],
    answer_tokens: int,
    tools: Sequence[dict[str, Any]] = (),
) -> Prompt:
    """Builds the prompt of a conversation so that an answer of `answer_tokens` fits behind it, or of as many tokens as
    the model reserves by default, if these are fewer.

    A model with senses describes a video without regard to earlier turns, so that it always says the same. Otherwise
    the oldest turns are left out until it fits, except for the last few. Then neighbouring segments of `videos` are
    merged, and at last the remaining turns are left out. Videos of turns that are left out stay.

    Raises ContextOverflowError if the last question does not fit with one segment per video.
    """
    messages = _without_forms(model, messages)
    room = model.config.prompt.context - min(answer_tokens, model.config.prompt.max_new_tokens)
    turns = [number for number, message in enumerate(messages) if message.role == "user"]
    alone = len(turns) - 1 if model.config.senses and is_description(messages[turns[-1]].content) else 0
    dropped = alone
    while len(prompt := _without_turns(model, messages, videos, turns, dropped, tools)) > room:
        old = len(turns) - LAST_TURNS - dropped
        if old > 0:
            dropped += min(old, DROPPED_TURNS)
        elif any(len(v.segments) > 1 for v in videos):
            for video in videos:
                video.merge(model, room / len(prompt))
        elif dropped < len(turns) - 1:
            dropped += 1
        else:
            raise ContextOverflowError(
                f"the question takes {len(prompt)} tokens with its videos, and the context is "
                f"{model.config.prompt.context} with {model.config.prompt.context - room} for the answer; ask a "
                "shorter question"
            )
    prompt.dropped_turns = dropped - alone
    return prompt


def system_text(messages: Sequence[Message]) -> str:
    """Returns the text of the system message, or "" if there is none."""
    return messages[0].content if messages[0].role == "system" else ""


def _without_forms(model: Model, messages: Sequence[Message]) -> Sequence[Message]:
    """Returns the messages without instructions that `Form` carries out, for a model that has senses."""
    if not model.config.senses:
        return messages
    return [m if m.role == "assistant" else replace(m, content=read_form(m.content)[0]) for m in messages]


def _without_turns(
    model: Model,
    messages: Sequence[Message],
    videos: Sequence[PromptVideo],
    turns: Sequence[int],
    dropped: int,
    tools: Sequence[dict[str, Any]],
) -> Prompt:
    """Returns the prompt without the first `dropped` turns. `turns` are the numbers of the messages that begin one."""
    first = turns[0]
    after = turns[dropped] - first
    kept = [*messages[:first], *messages[first + after :]]
    placed = [(max(v.before - after, min(v.before, first)), v.segments) for v in videos]
    return model.processor(kept, videos=placed, tools=tools)


@dataclass(frozen=True, slots=True)
class Piece:
    """A generated token, and the text that has become certain with it.

    Attributes:
        text: The text. It is empty while a character is incomplete or a stop text may have begun.
        token: The token. It is None for the last piece if its text was held back until the end.
    """

    text: str
    token: Token | None


def generate_answer(
    model: Model,
    engine: Engine,
    prompt: Prompt,
    question: str,
    videos: Sequence[PromptVideo],
    cache: PromptCache,
    generation: GenerationConfig,
    video_ms: dict[str, float],
    started: float,
    system: str = "",
    made: Collection[Modality] = (),
) -> Generator[Piece | Answer]:
    """Yields a `Piece` for each token, then the `Answer`. Closing the generator stops the model.

    Args:
        model: The model that answers.
        engine: What runs its language model.
        prompt: The prompt.
        question: The text of the last message, which the evidence is searched with if the answer is one word.
        videos: The videos in the prompt.
        cache: The keys and values of earlier turns. It is updated.
        generation: How text is generated. The answer ends where the context does, if that is earlier.
        video_ms: Milliseconds of decoding, encoding and senses that the receipt of this turn counts.
        started: The value of `perf_counter()` when the question arrived.
        system: The text of the system message, which may say in which form to answer.
        made: What the caller makes of that which a model with outputs shows.
    """
    form = Form()
    if model.config.senses and not generation.grammar:
        question, form = read_form(question)
        form = form.merged(read_form(system)[1])
    grounded = None if generation.grammar else _grounded(model, question, videos)
    # What the language model has learnt to say of findings is compared with them, when it is complete.
    compared = grounded is None and bool(model.config.senses) and not generation.grammar
    room = model.config.prompt.context - len(prompt)
    generation = replace(generation, max_new_tokens=min(generation.max_new_tokens, room))
    tokens: list[Token] = []
    text = yielded = ""
    first_s, stopped_at = 0.0, None
    pictures = bool(videos) and all(video.is_picture for video in videos)
    # "I cannot tell" is not shown where findings will tell, nor what may have to be called a picture.
    held = (*generation.stop, *((CANNOT_TELL,) if grounded else ()), *(VIDEO_WORDS if pictures else ()))
    if grounded is None or grounded.describes:
        for token in engine.stream(prompt, cache, generation):
            first_s = first_s or perf_counter() - started
            tokens.append(token)
            text = _text_of(model, tokens)
            stopped_at = _first_stop(text, generation.stop)
            if stopped_at is not None:
                break
            certain = text[: _certain_length(text, held)] if form.is_free and not compared else ""
            certain = before_findings(certain) if grounded else certain
            certain = _called_picture(certain) if pictures else certain
            new = ""
            if certain.startswith(yielded) and not certain.endswith(REPLACEMENT):
                new = certain[len(yielded) :]
                yielded = certain
            yield Piece(new, token)
        text = text[:stopped_at]
    ended = prompt.cut if isinstance(prompt, ServedPrompt) else len(tokens) == generation.max_new_tokens
    cut = stopped_at is None and ended
    if compared:
        text = believed(text, [video.video.findings for video in videos])
    described = without_findings(text) if grounded else text  # what is counted has evidence of its own
    if grounded is not None and stopped_at is None:
        text = grounded.completed(text) if grounded.describes else grounded.text
        text = text[: _first_stop(text, generation.stop)]
    text = form.applied(_called_picture(text) if pictures else text)
    if text.startswith(yielded) and text != yielded:
        yield Piece(text[len(yielded) :], None)
    ended_s = perf_counter() - started
    merged = any(len(v.segments) < v.total_segments for v in videos)
    segments = sum(len(v.segments) for v in videos)
    receipt = Receipt(
        model=model.config.name,
        config_sha=model.config.sha,
        device=str(model.device),
        frames=sum(len(v.video.times_s) for v in videos),
        lost_frames=sum(v.video.lost for v in videos),
        times_s=tuple(round(t, 3) for v in videos for t in v.video.times_s.tolist()),
        segments=segments,
        merged_from=sum(v.total_segments for v in videos) if merged else None,
        visual_tokens=prompt.visual_tokens,
        audio_tokens=None if model.config.audio.kind == "none" else prompt.audio_tokens,
        prompt_tokens=len(prompt),
        cached_tokens=cache.reused,
        completion_tokens=len(tokens),
        dropped_turns=prompt.dropped_turns,
        truncated=merged or cut or prompt.dropped_turns > 0,
        finish="length" if cut else "stop",
        ms={
            **video_ms,
            "first_token": round(1000 * (first_s or ended_s), 1),
            "total": round(1000 * ended_s + sum(video_ms.values()), 1),
        },
    )
    if isinstance(prompt, ServedPrompt):
        receipt = _as_served(receipt, prompt)
    evidence = grounded.evidence if grounded else ()
    if grounded is None or grounded.describes:
        counts_alone = grounded is not None and not described  # they have their own evidence
        found = () if counts_alone else _evidence(model, question, described, videos)
        starts = {e.start_s for e in found}
        evidence = (*found, *(e for e in evidence if e.start_s not in starts))
        if form.one_word and len(videos) == 1:
            (video,) = videos
            about = evidence_for(model.encoder, text.strip(".").lower(), video.video.findings, video.segments)
            evidence = about or evidence
    yield Answer(text, evidence, receipt, media_conditions(model, prompt, [token.id for token in tokens], made))


def _grounded(model: Model, question: str, videos: Sequence[PromptVideo]) -> Grounded | None:
    """The answer that findings and scores give, for a model that has senses and for at most one video."""
    if not model.config.senses or len(videos) > 1:
        return None
    if not question:  # it was an instruction and nothing else
        return Grounded(HELP)
    if model.encoder.english_only and (refusal := declined(question)):
        return Grounded(refusal)
    if not videos:
        return Grounded(INTRODUCTION)
    return ground(model.encoder, question, videos[0].video.findings, videos[0].segments)


def _as_served(receipt: Receipt, prompt: ServedPrompt) -> Receipt:
    """Returns the receipt with what only the server knows, and with the frames that it was sent."""
    times_s = tuple(round(time, 3) for time in prompt.times_s())
    return replace(
        receipt,
        device="server",
        frames=len(times_s),
        times_s=times_s,
        thinned_from=receipt.frames if prompt.thinned else None,
        prompt_tokens=prompt.prompt_tokens,
        completion_tokens=prompt.completion_tokens or receipt.completion_tokens,
        truncated=receipt.truncated or prompt.thinned,
    )


def _text_of(model: Model, tokens: Sequence[Token]) -> str:
    """Returns the text so far. All ids are decoded again at each token, because a character may consist of several."""
    if tokens[-1].text:
        return "".join(token.text for token in tokens).strip()
    return model.processor.decode([token.id for token in tokens])


def _called_picture(text: str) -> str:
    """Returns an answer about a picture, in the words of models and senses that know videos only."""
    for words in VIDEO_WORDS:
        text = text.replace(words, words.replace("video", "picture"))
    return text


def _first_stop(text: str, stops: tuple[str, ...]) -> int | None:
    """Returns the position at which the first stop text in `text` begins, or None if there is none."""
    return min((at for stop in stops if (at := text.find(stop)) >= 0), default=None)


def _certain_length(text: str, stops: tuple[str, ...]) -> int:
    """Returns how many leading characters cannot change any more: those before a possible beginning of a stop text."""
    longest = max(map(len, stops), default=1)
    beginnings = (at for at in range(max(0, len(text) - longest + 1), len(text)))
    return next((at for at in beginnings if any(stop.startswith(text[at:]) for stop in stops)), len(text))


def _evidence(model: Model, question: str, answer: str, videos: Sequence[PromptVideo]) -> tuple[Evidence, ...]:
    """Returns the segments whose embeddings are nearest to the embedding of the answer, best first.

    An answer that denies, or that cannot tell, has none, because nothing that is shown supports it. An answer about one
    moment cites that moment, and one that gives times cites these.
    """
    if not videos or NO_EVIDENCE.match(answer):
        return ()
    # "Yes" or "From 0:04 to 0:08." alone says too little to search with.
    says_little = len(answer.split()) <= 1 or any(c.isdigit() for c in answer)
    text = f"{question} {answer}" if says_little else answer
    embed = model.encoder.encode_text([text]).embed[0].float().cpu()
    moment_s = asked_time(question)
    told = told_spans(answer) if moment_s is None and len(videos) == 1 else []
    scored = (
        (float(s.embed @ embed), number, s)
        for number, v in enumerate(videos)
        for s in v.segments
        if (moment_s is None or s.start_s <= moment_s < s.end_s) and (not told or _is_told(s, told))
    )
    # The least score was measured with the encoder of the model that has senses. Times say themselves what they cite.
    least = LEAST_COSINE if model.config.senses and not told else -1.0
    best = sorted((item for item in scored if item[0] >= least), key=lambda item: -item[0])[:EVIDENCE]
    return tuple(evidence_of(s, score, number) for score, number, s in best)


def _is_told(segment: SegmentFeatures, spans: Sequence[tuple[float, float]]) -> bool:
    """Whether a segment shows one of the times. A span that ends where a segment begins does not reach into it."""
    return any(segment.start_s <= start < segment.end_s or start < segment.start_s < end for start, end in spans)
