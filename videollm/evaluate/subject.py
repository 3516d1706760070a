"""The model under test, as tasks use it. Everything is deterministic: greedy words, one item at a time, so that no
score depends on the order or on how many items are run together."""

from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from videollm.assets import cache_dir
from videollm.chat.answer import Answer
from videollm.chat.turn import PromptVideo, fit_to_context, generate_answer
from videollm.checkpoint import Model
from videollm.datasets.item import Item
from videollm.evaluate.views import AS_IT_IS, Views
from videollm.features.cache import FeatureCache
from videollm.features.encode import EncodedVideo
from videollm.inference.engine import LocalEngine, PromptCache
from videollm.inference.sampling import GenerationConfig
from videollm.models.processor import Message, collate


class Subject:
    """items: all items of the data. asked: those that are asked."""

    def __init__(
        self, model: Model, items: Sequence[Item], asked: Sequence[Item], seed: int = 0, features: Path | None = None
    ):
        self.model, self.asked = model, asked
        self._made: dict[Hashable, Any] = {}
        cache = FeatureCache(features or cache_dir() / "features")
        self.views = Views(model.encoder, model.config.sampling, items, cache, seed)
        self.engine = LocalEngine(model.llm, model.processor.stop_ids)
        self.generation = GenerationConfig(max_new_tokens=model.config.prompt.max_new_tokens)

    def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What tasks need for many items, made the first time."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def see(self, item: Item, condition: str = AS_IT_IS) -> EncodedVideo | None:
        return self.views(item.part, condition)

    def ask(self, video: EncodedVideo | None, question: str) -> Answer:
        """Raises ContextOverflowError where the question does not fit."""
        shown = [PromptVideo(self.model, video)] if video else []
        prompt = fit_to_context(self.model, [Message("user", question)], shown, self.generation.max_new_tokens)
        made = generate_answer(
            self.model, self.engine, prompt, question, shown, PromptCache(), self.generation, {}, perf_counter()
        )
        return next(piece for piece in made if isinstance(piece, Answer))

    def first_words(self, video: EncodedVideo | None, question: str, words: Sequence[str]) -> list[float]:
        """Log probability of each word's first token as the first of the answer."""
        logits, _ = self._logits(video, question, [words[0]])[0]
        first = logits[0].log_softmax(-1)
        return [
            float(first[self.model.processor.tokenizer(w, add_special_tokens=False)["input_ids"][0]]) for w in words
        ]

    def likelihoods(self, video: EncodedVideo | None, question: str, answers: Sequence[str]) -> list[float]:
        """Mean log probability a token of each answer, its end included."""
        found = self._logits(video, question, answers)
        return [float(z.log_softmax(-1).gather(1, ids[:, None]).mean()) for z, ids in found]

    @torch.inference_mode()
    def _logits(
        self, video: EncodedVideo | None, question: str, answers: Sequence[str]
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """For each answer the logits (n,V) where its tokens stand, and those tokens (n,). One answer at a time: padding
        to the longest would let one option change another's rounding."""
        shown = [PromptVideo(self.model, video)] if video else []
        asked = Message("user", question)
        fit_to_context(self.model, [asked], shown, self.generation.max_new_tokens)
        segments = shown[0].segments if shown else []
        found = []
        for answer in answers:
            prompt = self.model.processor([asked, Message("assistant", answer)], segments)
            batch = collate([prompt], self.model.processor.tokenizer.pad_token_id or 0, self.model.device)
            logits = self.model.llm.labelled_logits(**batch).cpu()
            found.append((logits, torch.tensor([i for i in prompt.labels if i >= 0])))
        return found
