"""The model under test, in the form in which tasks use it.

Everything is deterministic: decoding is greedy and items are run one at a time, so that no score depends on the order
of the items or on how many are run together.
"""

from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from videollm.chat.answer import Answer
from videollm.chat.prompt_video import PromptVideo
from videollm.chat.turn import fit_to_context, generate_answer
from videollm.datasets.item import Item
from videollm.errors import ConfigError
from videollm.evaluate.views import AS_IT_IS, Views
from videollm.features.cache import FeatureCache
from videollm.features.encode import EncodedVideo
from videollm.inference.engine import Engine, LocalEngine, PromptCache
from videollm.inference.engines import make_engine
from videollm.inference.sampling import GenerationConfig
from videollm.model import Model
from videollm.models.processor import Message


class Subject:
    """A model, and the videos that it is shown.

    Args:
        model: The model under test.
        items: All items of the data that fit the task.
        asked: The items that are evaluated; fewer than `items` with `--limit`.
        seed: The seed of the control `shuffled`.
        features: The folder of cached frame features. None selects the cache folder.
        engine: What runs the language model. None runs it where the model is.
    """

    def __init__(
        self,
        model: Model,
        items: Sequence[Item],
        asked: Sequence[Item],
        seed: int = 0,
        features: Path | None = None,
        engine: Engine | None = None,
    ):
        self.model, self.asked = model, asked
        self._made: dict[Hashable, Any] = {}
        cache = FeatureCache(features)
        self.views = Views(model.encoder, model.config.sampling, items, cache, seed)
        self.engine = engine or make_engine(model)
        self.generation = GenerationConfig(max_new_tokens=model.config.prompt.max_new_tokens)

    def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Returns the value of `make()`, which is called only the first time that `key` is asked for.

        Tasks use it for values that many items share, such as the embeddings of all videos.
        """
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def see(self, item: Item, condition: str = AS_IT_IS) -> EncodedVideo | None:
        """Returns the video of an item in a condition; see `Views`."""
        return self.views(item.part, condition, item.id)

    def ask(self, video: EncodedVideo | None, question: str) -> Answer:
        """Returns the answer to a question, without earlier turns. Raises ContextOverflowError if it does not fit."""
        shown = [PromptVideo(self.model, video)] if video else []
        prompt = fit_to_context(self.model, [Message("user", question)], shown, self.generation.max_new_tokens)
        made = generate_answer(
            self.model, self.engine, prompt, question, shown, PromptCache(), self.generation, {}, perf_counter()
        )
        return next(piece for piece in made if isinstance(piece, Answer))

    @property
    def has_likelihoods(self) -> bool:
        """Whether the model runs here. A server gives texts only."""
        return isinstance(self.engine, LocalEngine)

    def first_words(self, video: EncodedVideo | None, question: str, words: Sequence[str]) -> list[float]:
        """Returns, for each word, the log probability of its first token as the first token of the answer."""
        logits, _ = self._logits(video, question, [words[0]])[0]
        first = logits[0].log_softmax(-1)
        return [
            float(first[self.model.processor.tokenizer(w, add_special_tokens=False)["input_ids"][0]]) for w in words
        ]

    def likelihoods(self, video: EncodedVideo | None, question: str, answers: Sequence[str]) -> list[float]:
        """Returns the mean log probability per token of each answer, including the token that ends it.

        The mean and not the sum, because the sum would prefer short answers.
        """
        found = self._logits(video, question, answers)
        return [float(z.log_softmax(-1).gather(1, ids[:, None]).mean()) for z, ids in found]

    @torch.inference_mode()
    def _logits(
        self, video: EncodedVideo | None, question: str, answers: Sequence[str]
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Returns for each answer the logits (n,V) at the positions that predict its tokens, and those tokens (n,).

        Answers are run one at a time: in a padded batch, the length of one option would change the rounding of the
        others.
        """
        if not self.has_likelihoods:
            raise ConfigError(
                f"{self.model.config.name} is run by a server, which does not give the likelihoods that this task "
                "compares; choose another task, or a model that runs here"
            )
        shown = [PromptVideo(self.model, video)] if video else []
        asked = Message("user", question)
        fit_to_context(self.model, [asked], shown, self.generation.max_new_tokens)
        segments = shown[0].segments if shown else []
        found = []
        for answer in answers:
            prompt = self.model.processor([asked, Message("assistant", answer)], segments)
            arguments = self.model.processor.arguments(prompt, self.model.device)
            logits = self.model.llm.labelled_logits(**arguments).cpu()
            found.append((logits, torch.tensor([i for i in prompt.labels if i >= 0])))
        return found
