"""Instruction data that a language model writes from an annotation, through any OpenAI-compatible server."""

import itertools
import random
import zlib
from collections.abc import Iterator, Sequence
from string import ascii_uppercase
from typing import Any

from data_gen.generators.base import Draft, DraftBatch, SampleVerdict, turn, with_transcript
from data_gen.generators.conversation import Conversation
from data_gen.generators.rewriting import LANGUAGES, translate
from data_gen.generators.template import phrasings
from data_gen.prompts import GenerationPrompt, prompts
from videollm.datasets.clip import Clip, Note
from videollm.datasets.schema import Message, Sample, format_time
from videollm.inference.openai import ChatClient

COUNT = 4  # samples or turns that a prompt asks for
MOST_LINES = 60  # of an annotation in a prompt; a longer one is thinned out evenly
SPEECH_S = 15.0  # seconds of speech in one line, about
NEED_SAMPLES = ("translation", "paraphrase", "judge")  # prompts about samples, not about clips
KINDS = {"short": "seen", "detailed": "seen", "event": "seen", "label": "action", "speech": "heard"}


class LlmGenerator:
    """One item of work for each prompt whose needs a clip satisfies.

    Args:
        client: The server and the model.
        seed: Seeds the model and the order of choices.
        languages: Languages that samples are translated to.
        tasks: Families ("qa") or tasks ("qa/causal"); None for all.
    """

    name = "llm"

    def __init__(
        self,
        client: ChatClient,
        *,
        seed: int = 0,
        languages: Sequence[str] | None = None,
        tasks: Sequence[str] | None = None,
    ):
        self.client, self.seed, self.languages = client, seed, list(languages or [])
        self.prompts = {
            p.name: p
            for p in prompts().values()
            if p.name not in NEED_SAMPLES and (tasks is None or p.task in tasks or p.task.partition("/")[0] in tasks)
        }

    def items(self, clip: Clip) -> Sequence[str]:
        notes = annotation_notes(clip)
        seen = [note for note in notes if note.kind != "speech"]
        has = {
            "": bool(seen),
            "times": sum(note.start is not None for note in seen) > 1,
            "speech": len(seen) < len(notes),
        }
        return [name for name, prompt in self.prompts.items() if has[prompt.needs]]

    def preview(self, clip: Clip, item: str) -> str:
        return "\n\n".join(f"[{m['role']}]\n{m['content']}" for m in self._messages(clip, self.prompts[item]))

    def _messages(self, clip: Clip, prompt: GenerationPrompt) -> list[dict[str, str]]:
        language = LANGUAGES.get(clip.languages[0], clip.languages[0])
        return prompt.render(
            annotation=annotation(clip, heard=prompt.needs == "speech"), language=language, count=COUNT
        )

    async def make(self, clip: Clip, item: str) -> DraftBatch:
        prompt, base = self.prompts[item], clip.languages[0]
        seed = zlib.crc32(f"{self.seed}/{clip.id}/{item}".encode())
        asked = Conversation(self.client, seed)
        entries = await asked.entries(prompt, self._messages(clip, prompt))
        drafts = [*_drafts(prompt, entries, clip, random.Random(seed), self.client.model)]
        for language in self.languages if drafts else []:
            if language != base:
                drafts += await self._translated(asked, [d for d in drafts if d.origin is None], language)
        return DraftBatch(
            drafts=tuple(drafts),
            unusable=tuple(asked.unusable),
            prompt_tokens=asked.prompt_tokens,
            completion_tokens=asked.completion_tokens,
        )

    async def _translated(self, asked: Conversation, drafts: list[Draft], language: str) -> list[Draft]:
        messages = [message for draft in drafts for message in draft.messages]
        texts = iter(await translate(asked, messages, language))
        made = []
        for origin, draft in enumerate(drafts):
            translated = tuple(itertools.islice(texts, len(draft.messages)))
            if translated:
                made.append(
                    Draft(
                        task=draft.task,
                        language=language,
                        messages=translated,
                        answer_times=draft.answer_times,
                        origin=origin,
                        model=self.client.model,
                        prompt_sha=prompts()["translation"].sha,
                    )
                )
        return made


class LlmJudge:
    """A second model that accepts or rejects each sample. A reply that cannot be used rejects it."""

    def __init__(self, client: ChatClient, *, seed: int = 0):
        self.client, self.seed = client, seed

    async def verdict(self, sample: Sample, clip: Clip) -> SampleVerdict:
        prompt = prompts()["judge"]
        said = "\n".join(f"{message.role}: {message.content}" for message in sample.messages)
        asked = Conversation(self.client, zlib.crc32(f"{self.seed}/{sample.id}".encode()))
        entries = await asked.entries(prompt, prompt.render(sample=said, annotation=annotation(clip)))
        reason = "the judge gave no usable verdict"
        if entries:
            reason = None if entries[0]["good"] else entries[0]["reason"]
        return SampleVerdict(reason, asked.prompt_tokens, asked.completion_tokens)


def annotation_notes(clip: Clip, *, heard: bool = True) -> list[Note]:
    """The notes of a prompt, in the first language of the clip, by time.

    heard: Whether speech is among them, joined to stretches of about SPEECH_S seconds.
    """
    notes = [note for note in clip.notes if note.kind != "speech" and note.language == clip.languages[0]]
    stretches: list[Note] = []
    for note in clip.notes_of("speech") if heard else []:
        last = stretches[-1] if stretches else None
        if last and last.start is not None and note.end is not None and note.end - last.start <= SPEECH_S:
            stretches[-1] = Note(kind="speech", text=f"{last.text} {note.text}", start=last.start, end=note.end)
        else:
            stretches.append(note)
    notes = sorted([*notes, *stretches], key=lambda note: -1.0 if note.start is None else note.start)
    step = max(1.0, len(notes) / MOST_LINES)
    return [notes[int(i * step)] for i in range(min(len(notes), MOST_LINES))]


def annotation(clip: Clip, *, heard: bool = True) -> str:
    """The annotation as numbered lines that say what is seen, or heard unless `heard` is False, and when."""
    lines = []
    if end := clip.end or clip.duration:
        lines.append(f"(the video from {format_time(clip.start or 0, 1)} to {format_time(end, 1)})")
    for number, note in enumerate(annotation_notes(clip, heard=heard), 1):
        span = "" if note.start is None else f"{format_time(note.start, 1)}-{format_time(note.end or note.start, 1)} "
        text = f'"{note.text}"' if note.kind == "speech" else note.text
        lines.append(f"{number}. {span}{KINDS[note.kind]}: {text}")
    return "\n".join(lines)


def _drafts(
    prompt: GenerationPrompt, entries: list[dict[str, Any]], clip: Clip, rng: random.Random, model: str
) -> Iterator[Draft]:
    """Drafts from the entries of a reply. Their times come from the lines of the annotation that the model names,
    because times that a model writes itself are often wrong."""
    language, notes = clip.languages[0], annotation_notes(clip, heard=prompt.needs == "speech")

    def times(lines: Sequence[int]) -> tuple[tuple[float, float], ...]:
        named = [notes[n - 1] for n in lines if 1 <= n <= len(notes)]
        return tuple((n.start, n.end) for n in named if n.start is not None and n.end is not None)

    def draft(messages: tuple[Message, ...], lines: Sequence[int] = ()) -> Draft:
        return Draft(
            task=prompt.task,
            language=language,
            messages=messages,
            answer_times=times(lines),
            model=model,
            prompt_sha=prompt.sha,
        )

    def request() -> str:
        ways = phrasings()[prompt.task]
        return rng.choice(ways.get(language, ways["en"]))

    match prompt.shape:
        case "qa" if prompt.needs == "speech":
            said = {number: note for number, note in enumerate(notes, 1) if note.kind == "speech"}
            for e in entries:
                named = [said[n] for n in e["lines"] if n in said] or [*said.values()]
                yield draft(turn(with_transcript(e["question"], named), e["answer"]), e["lines"])
        case "qa":
            yield from (draft(turn(e["question"], e["answer"]), e["lines"]) for e in entries)
        case "choice":
            for e in entries:
                order = rng.sample(
                    range(len(e["choices"])), len(e["choices"])
                )  # models put the right one first too often
                options = [f"{letter}. {e['choices'][i]}" for letter, i in zip(ascii_uppercase, order, strict=False)]
                question = "\n".join([e["question"], *options])
                yield draft(turn(question, options[order.index(e["correct"])]), e["lines"])
        case "turns":
            if entries:
                yield draft(tuple(message for e in entries for message in turn(e["question"], e["answer"])))
        case "text":
            yield from (draft(turn(request(), e["text"])) for e in entries)
        case "creative":
            yield from (draft(turn(e["instruction"], e["text"])) for e in entries)
        case "dense":
            kept = [(e["line"], e["text"]) for e in entries if times([e["line"]])]
            spans = [times([line])[0] for line, _ in kept]
            lines = [
                f"{format_time(a, 1)}-{format_time(b, 1)} {text}" for (a, b), (_, text) in zip(spans, kept, strict=True)
            ]
            if lines:
                yield draft(turn(request(), "\n".join(lines)), [line for line, _ in kept])
