"""Turns messages and an encoded video into token ids with placeholders for visual tokens, in training as in chat.

The text of each message is tokenised apart from the chat template around it. Special tokens that a user typed therefore
stay text, an answer has the same ids in training as when it is generated, and the labels of answers are exact for any
template.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from jinja2 import TemplateError

from videollm.config import ModelConfig
from videollm.datasets.schema import Message, format_time
from videollm.features.encode import SegmentFeatures
from videollm.models.labels import IGNORE
from videollm.models.layouts import LAYOUTS
from videollm.models.notes import segment_note, video_note
from videollm.models.visual_prompting import AUDIO_TOKEN_ID, VISUAL_TOKEN_ID, VisualBatch, VisualPrompting

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SLOT = "\ue000{}\ue001"  # private-use characters, which stand for a message's text while the template is applied
SLOTS = re.compile("\ue000(\\d+)\ue001")


@dataclass(slots=True)
class Prompt:
    """A prompt of L tokens.

    Attributes:
        ids: The L token ids. Each segment has `queries` ids equal to `VISUAL_TOKEN_ID`. If it is heard, ids equal to
            `AUDIO_TOKEN_ID` are beside them.
        labels: The L labels, which are `IGNORE` outside answers.
        segments: The segments in the order of the prompt.
        dropped_turns: The number of turns of the conversation that were left out of the prompt.
    """

    ids: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    segments: list[SegmentFeatures] = field(default_factory=list)
    dropped_turns: int = 0
    # Text of a published layout that is tokenised as one piece with what follows, and which of its characters are
    # learned.
    _joined: str = ""
    _learned: list[bool] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)

    def add_visual(self, segment: SegmentFeatures, queries: int) -> None:
        """Appends the placeholders of a segment's query tokens."""
        self.ids += [VISUAL_TOKEN_ID] * queries
        self.labels += [IGNORE] * queries
        self.segments.append(segment)

    def add_audio(self, queries: int) -> None:
        """Appends the placeholders of the query tokens of a segment's audio. The segment is added by `add_visual`."""
        self.ids += [AUDIO_TOKEN_ID] * queries
        self.labels += [IGNORE] * queries

    def add_ids(self, ids: list[int], *, learn: bool = False) -> None:
        """Appends tokens, which are labels too if the model is to learn to write them."""
        self.ids += ids
        self.labels += ids if learn else [IGNORE] * len(ids)

    @property
    def visual_tokens(self) -> int:
        """The number of tokens that stand for video."""
        return self.ids.count(VISUAL_TOKEN_ID)

    @property
    def audio_tokens(self) -> int:
        """The number of tokens that stand for sound."""
        return self.ids.count(AUDIO_TOKEN_ID)

    @property
    def audio(self) -> list[torch.Tensor]:
        """The features of the segments' audio that the prompt has placeholders for."""
        return [s.audio for s in self.segments if s.audio is not None] if self.audio_tokens else []

    def reusable(self, ids: list[int]) -> int:
        """Returns how many leading tokens a model that has read `ids` need not read again.

        The last token of the prompt is always read, because its logits are not kept.
        """
        return min(shared_prefix(ids, self.ids), len(self) - 1)

    def inputs(self, llm: VisualPrompting, kept: int) -> torch.Tensor:
        """Returns the embeddings (L,H) of the tokens after the first `kept`, which the language model reads.

        The temporal module runs only for segments of which one of these tokens is.
        """
        if all(i >= 0 for i in self.ids[kept:]):
            return llm.embed_words(self.ids[kept:])
        first, known = 0, 0
        if not self.audio_tokens:
            queries = self.visual_tokens // len(self.segments)
            known, begun = divmod(self.ids[:kept].count(VISUAL_TOKEN_ID), queries)
            first = kept - begun  # the tokens of one segment stand side by side
        ids, visual = torch.tensor(self.ids[first:], device=llm.device), self.visual(known)
        return llm.embed_prompt(ids[None], visual.to(llm.device) if visual else None)[0, kept - first :]

    def visual(self, first: int = 0) -> VisualBatch | None:
        """Returns the features of the segments from number `first` on as one batch, or None if there is none."""
        segments = self.segments[first:]
        if not segments:
            return None
        return VisualBatch.pad([s.tokens for s in segments], [s.times_s for s in segments], self.audio)


class Processor:
    """Builds prompts for one tokenizer and one model configuration.

    Attributes:
        knows_system: Whether the chat template takes system messages. If not, a system message is put before the first
            question.
        end_of_turn: What the template puts after an answer.
        stop_ids: The token ids that end an answer.
    """

    new_prompt = Prompt

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", config: ModelConfig):
        self.tokenizer: Any = tokenizer  # transformers types its methods by every form they may return
        self.config = config
        self.layout = LAYOUTS.get(config.prompt.layout)
        if self.layout is not None:
            self.tokenizer.chat_template = self.layout.template
            tokens = sorted({*self.tokenizer.all_special_tokens, *self.tokenizer.get_added_vocab()}, reverse=True)
            self._specials = re.compile("(" + "|".join(map(re.escape, tokens)) + ")")
        self.knows_system = self.takes(["system", "user", "assistant", "user"])
        # In ChatML this is "<|im_end|>". The model must learn to write it, since it ends the answer.
        after_answer = self._template(["user", "assistant"], generate=False)[-1]
        self.end_of_turn: str = after_answer.rstrip()
        end = self.end_of_turn.strip()  # some templates put a space before "</s>", which does not end an answer
        self.stop_ids: set[int] = set(self._tokenize(end, special=True)[:1])
        if self.layout is not None:
            # An end marker that is not a special token, such as "###", is tokenized differently after a word.
            word = self._tokenize("a", special=True)
            self.stop_ids.add(self._tokenize(f"a{end}", special=True)[len(word)])
        if self.tokenizer.eos_token_id is not None:
            self.stop_ids.add(self.tokenizer.eos_token_id)

    def __call__(
        self,
        messages: Sequence[Message],
        segments: Sequence[SegmentFeatures] = (),
        videos: Sequence[tuple[int, Sequence[SegmentFeatures]]] = (),
        tools: Sequence[dict[str, Any]] = (),
        length_s: float | None = None,
    ) -> Prompt:
        """Returns the prompt of a conversation. It ends where the assistant is to speak, or with an answer to train on.

        Args:
            messages: The conversation.
            segments: The segments of a video that is placed before the first user message.
            videos: Further videos, each as the number of the message that it is placed before, and its segments.
            tools: Functions that the model may call, in the form of OpenAI's API. See `videollm.models.tool_format`.
            length_s: The length of the videos that the prompt states, in seconds; None states their own. Prompts about
                a stream that grows then have the same beginning.
        """
        added = 0
        if messages[0].role != "system" and self.config.prompt.system:
            messages, added = [Message("system", self.config.prompt.system), *messages], 1
        preface = ""
        if messages[0].role == "system" and not self.knows_system:
            preface, messages, added = f"{messages[0].content}\n\n", messages[1:], added - 1
        roles = [m.role for m in messages]
        template = self._template(roles, roles[-1] != "assistant", tools)
        prompt = self.new_prompt()
        placed = [(roles.index("user"), segments)] if segments else []
        placed += [(number + added, shown) for number, shown in videos]
        gaps = defaultdict(lambda: ("", ""), self._gaps(placed))
        self._add_text(prompt, template[0].removesuffix(gaps[0][0]), special=True)
        after_question = self.layout is not None and self.layout.place == "after"
        for i, (message, after) in enumerate(zip(messages, template[1:], strict=True)):
            if i == roles.index("user"):
                self._add_text(prompt, preface)
            shown_here = [shown for at, shown in placed if at == i]
            answer = message.role == "assistant"
            if after_question:
                self._add_text(prompt, message.content, learn=answer)
            for shown in shown_here:
                self._add_video(prompt, shown, length_s, message.content)
            self._add_text(prompt, gaps[i][1], special=True)
            if not after_question:
                self._add_text(prompt, message.content, learn=answer)
            if answer:
                self._add_text(prompt, self.end_of_turn, special=True, learn=True)
                after = after.removeprefix(self.end_of_turn)
            if roles[i + 1 : i + 2] == ["assistant"]:
                asked = self._template(roles[: i + 1], True, tools)[-1]
                self._add_text(prompt, asked, special=True)
                # Some templates put more text before an answer than a generation prompt has. The model must write it.
                # Others (LLaVA-OneVision) put another one, and an answer then follows what it was generated after.
                if after.startswith(asked):
                    self._add_text(prompt, after.removeprefix(asked), learn=True)
            else:
                self._add_text(prompt, after.removesuffix(gaps[i + 1][0]), special=True)
        if self.layout is not None:
            self._end_joined(prompt)
        return prompt

    def arguments(self, prompt: Prompt, device: torch.device) -> dict[str, Any]:
        """Returns the arguments of the model's forward pass on one prompt with an answer."""
        return collate([prompt], self.tokenizer.pad_token_id or 0, device)

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text of token ids, without special tokens and outer spaces."""
        return self.tokenizer.decode(ids, skip_special_tokens=True).strip()

    def segment_text(self, segment: SegmentFeatures) -> str:
        """Returns the text before a segment's visual tokens: its times, its concepts and what the senses found."""
        span = f"[{format_time(segment.start_s)}-{format_time(segment.end_s)}]"
        tags = ", ".join(f"{tag.word} {round(100 * tag.prob)}%" for tag in segment.tags) or "unclear"
        known = (tags if self.config.prompt.tags else "", segment_note(segment.findings))
        return f"{span} {'; '.join(filter(None, known))}".rstrip() + ":"

    def _gaps(self, placed: Sequence[tuple[int, Sequence[SegmentFeatures]]]) -> dict[int, tuple[str, str]]:
        """Returns, for messages with videos, what the template puts before a text, and what it puts behind a video."""
        return {}

    def _add_video(
        self, prompt: Prompt, segments: Sequence[SegmentFeatures], length_s: float | None, question: str
    ) -> None:
        queries, hears = self.config.temporal.queries, self.config.audio.kind != "none"
        if self.layout is not None:
            for segment in segments:
                before, after = self.layout.video_text(segment.times_s.tolist())
                if hears and segment.audio is not None:
                    until_audio, before, after = self.layout.audio_text()
                    self._add_text(prompt, until_audio, special=True)
                    self._end_joined(prompt)
                    prompt.add_audio(self.config.audio.queries)
                self._add_text(prompt, before, special=True)
                self._end_joined(prompt)
                prompt.add_visual(segment, queries)
                self._add_text(prompt, after, special=True)
            return
        head = f"Video {format_time(segments[-1].end_s - segments[0].start_s if length_s is None else length_s)}"
        note = video_note([s.findings for s in segments])
        self._add_text(prompt, f"{head}; {note}\n" if note else f"{head}\n")
        for segment in segments:
            self._add_text(prompt, self.segment_text(segment))
            prompt.add_visual(segment, queries)
            if hears and segment.audio is not None:
                self._add_text(prompt, " Sound:")
                prompt.add_audio(self.config.audio.queries)
            self._add_text(prompt, "\n")

    def _add_text(self, prompt: Prompt, text: str, *, special: bool = False, learn: bool = False) -> None:
        if self.layout is not None:
            self._join(prompt, text, special, learn)
            return
        prompt.add_ids(self._tokenize(text, special), learn=learn)

    def _join(self, prompt: Prompt, text: str, special: bool, learn: bool) -> None:
        """Adds text of a published layout, to be tokenised later together with what follows.

        The official code tokenised all text up to the next special token or video as one string, and SentencePiece puts
        a space before each string, so that the ids depend on the division. A special token that a user typed stays
        text.
        """
        parts = self._specials.split(text) if special else [text]
        for i, part in enumerate(parts):
            if i % 2 == 0:
                prompt._joined += part
                prompt._learned += [learn] * len(part)
                continue
            self._end_joined(prompt, before_special=True)
            prompt.add_ids([self.tokenizer.convert_tokens_to_ids(part)], learn=learn)

    def _end_joined(self, prompt: Prompt, *, before_special: bool = False) -> None:
        """Tokenises the text that was joined so far."""
        assert self.layout is not None
        text, learned, prompt._joined, prompt._learned = prompt._joined, prompt._learned, "", []
        if self.layout.strips:
            text = text.rstrip() if before_special else text
            start = len(text) - len(text.lstrip())
            text, learned = text[start:], learned[start:]
        if not text:
            return
        found = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True)
        for token, (_, end) in zip(found["input_ids"], found["offset_mapping"], strict=True):
            prompt.add_ids([token], learn=learned[max(end - 1, 0)])

    def _tokenize(self, text: str, special: bool) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False, split_special_tokens=not special)["input_ids"]

    def takes(self, roles: list[str]) -> bool:
        """Returns whether the template writes messages with these roles in this order.

        For a system message, Gemma's template raises an error, and Mistral's moves it to the last question.
        """
        try:
            return SLOTS.findall(self._apply(roles, generate=False)) == [str(i) for i in range(len(roles))]
        except TemplateError:
            return False

    def _template(self, roles: list[str], generate: bool, tools: Sequence[dict[str, Any]] = ()) -> list[str]:
        """Returns the template's own text before, between and after the messages."""
        return SLOTS.split(self._apply(roles, generate, tools))[::2]

    def _apply(self, roles: list[str], generate: bool, tools: Sequence[dict[str, Any]] = ()) -> str:
        return self.render([self.slot_message(role, i) for i, role in enumerate(roles)], generate, tools)

    def slot_message(self, role: str, number: int) -> dict[str, Any]:
        """Returns a message for `render` with a slot for its text."""
        return {"role": role, "content": SLOT.format(number)}

    def render(self, messages: list[dict[str, Any]], generate: bool, tools: Sequence[dict[str, Any]] = ()) -> str:
        """Applies the chat template. Raises TemplateError where it does not take such messages."""
        return self.tokenizer.apply_chat_template(
            messages, tools=list(tools) or None, tokenize=False, add_generation_prompt=generate
        )


def shared_prefix(a: Sequence[Any], b: Sequence[Any]) -> int:
    """Returns how many leading items of a and b are equal."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def collate(prompts: Sequence[Prompt], pad_id: int, device: torch.device | None = None) -> dict[str, Any]:
    """Returns a right-padded batch of prompts with answers: the arguments of `VideoLLM.forward`, with labels.

    Args:
        prompts: The prompts, of any lengths.
        pad_id: The token id at padding.
        device: The device of the batch. None leaves it on the CPU, from where a Trainer moves it.
    """

    def pad(rows: list[list[int]], value: int) -> torch.Tensor:
        return torch.nn.utils.rnn.pad_sequence([torch.tensor(r) for r in rows], batch_first=True, padding_value=value)

    segments, audio = [s for p in prompts for s in p.segments], [clips for p in prompts for clips in p.audio]
    batch = {
        "input_ids": pad([p.ids for p in prompts], pad_id),
        "labels": pad([p.labels for p in prompts], IGNORE),
        "attention_mask": pad([[1] * len(p) for p in prompts], 0),
        "visual": VisualBatch.pad([s.tokens for s in segments], [s.times_s for s in segments], audio)
        if segments
        else None,
    }
    return {name: x if x is None or device is None else x.to(device) for name, x in batch.items()}
