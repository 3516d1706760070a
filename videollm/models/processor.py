"""Turns messages and an encoded video into token ids with placeholders for visual tokens, in training as in chat.

The text of each message is tokenised apart from the chat template around it. Special tokens that a user typed therefore
stay text, an answer has the same ids in training as when it is generated, and the labels of answers are exact for any
template.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from jinja2 import TemplateError

from videollm.config import ModelConfig
from videollm.datasets.schema import Message, format_time
from videollm.features.encode import SegmentFeatures
from videollm.models.labels import IGNORE
from videollm.models.layouts import LAYOUTS
from videollm.models.notes import segment_note, video_note
from videollm.models.outputs import signal_ids
from videollm.models.prompt import Prompt, collate, shared_prefix
from videollm.output_config import Modality

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["IGNORE", "Message", "Processor", "Prompt", "collate", "shared_prefix"]

SLOT = "\ue000{}\ue001"  # private-use characters, which stand for a message's text while the template is applied
SLOTS = re.compile("\ue000(\\d+)\ue001")
SHOWN = re.compile(r"<(image|video|audio)>(.+?)</\1>", re.DOTALL)  # what an answer shows, in instruction rows


class Processor:
    """Builds prompts for one tokenizer and one model configuration.

    Attributes:
        knows_system: Whether the chat template takes system messages. If not, a system message is put before the first
            question.
        end_of_turn: What the template puts after an answer.
        stop_ids: The token ids that end an answer.
        signals: The ids of the signal tokens of each modality that the model shows.
    """

    new_prompt = Prompt

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", config: ModelConfig):
        self.tokenizer: Any = tokenizer  # transformers types its methods by every form they may return
        self.config = config
        self.signals = signal_ids(self.tokenizer, config.outputs)
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
            length_s: The length of the videos that the prompt states, in seconds; None states their own, and what the
                senses found in all of a video. Prompts about a stream that grows then have the same beginning.
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
        prompt.add_virtual(self.config.llm.virtual_tokens)
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
                self._add_message(prompt, message)
            for shown in shown_here:
                self._add_video(prompt, shown, length_s, message.content)
            self._add_text(prompt, gaps[i][1], special=True)
            if not after_question:
                self._add_message(prompt, message)
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

    @property
    def first_signal(self) -> int:
        """The id of the first signal token, or 0 for a model without outputs."""
        return min((ids[0] for ids in self.signals.values()), default=0)

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
        note = video_note([s.findings for s in segments]) if length_s is None else ""
        self._add_text(prompt, f"{head}; {note}\n" if note else f"{head}\n")
        for segment in segments:
            self._add_text(prompt, self.segment_text(segment))
            prompt.add_visual(segment, queries)
            if hears and segment.audio is not None:
                self._add_text(prompt, " Sound:")
                prompt.add_audio(self.config.audio.queries)
            self._add_text(prompt, "\n")

    def _add_message(self, prompt: Prompt, message: Message) -> None:
        """Adds the text of a message. In an answer, signal tokens take the places of `<image>TEXT</image>`,
        `<video>TEXT</video>` and `<audio>TEXT</audio>` if the model shows that modality."""
        text, answer, end = message.content, message.role == "assistant", 0
        for match in SHOWN.finditer(text) if answer and self.signals else ():
            modality = cast(Modality, match[1])
            if modality in self.signals:
                self._add_text(prompt, text[end : match.start()], learn=True)
                if self.layout is not None:
                    self._end_joined(prompt)
                prompt.add_ids(self.signals[modality], learn=True)
                prompt.shown.append((modality, match[2]))
                end = match.end()
        self._add_text(prompt, text[end:], learn=answer)

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
