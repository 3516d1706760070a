"""Models of this project in lmms-eval (https://github.com/EvolvingLMMs-Lab/lmms-eval).

The command is `python -m lmms_eval --model videollm --model_args pretrained=lite --tasks TASK`. lmms-eval finds
`manifest` through the entry point group `lmms_eval.models`. This module imports lmms-eval only when lmms-eval itself
asks for the model, because the package is optional: it requires av below 16, so that pip cannot install both without
the override that the README describes.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Any

from videollm.chat.answer import Answer
from videollm.chat.prompt_video import PromptVideo
from videollm.chat.turn import fit_to_context, generate_answer
from videollm.checkpoint import load
from videollm.errors import ConfigError
from videollm.features.cache import FeatureCache
from videollm.features.encode import encode_video
from videollm.inference.engine import LocalEngine, PromptCache
from videollm.inference.sampling import GenerationConfig
from videollm.models.processor import Message

CLASS = "LmmsModel"


class Responder:
    """Answers prompts about any number of local videos or images.

    Args:
        pretrained: A preset or a checkpoint directory.
        device: The device of the model, see `resolve_device`.
    """

    def __init__(self, pretrained: str, device: str | None):
        self.model = load(pretrained, device)
        self.engine = LocalEngine(self.model.llm, self.model.processor.stop_ids)
        self.features = FeatureCache()

    def __call__(self, text: str, visuals: Sequence[Any], options: dict[str, Any]) -> str:
        """Returns the answer to one prompt.

        Args:
            text: The prompt.
            visuals: Paths of videos or images.
            options: The `generation_kwargs` of the lmms-eval task. Decoding is greedy unless they set a temperature,
                and `max_new_tokens` is limited to that of the model.

        Raises:
            ConfigError: If a visual is not a path.
        """
        wrong = [type(v).__name__ for v in visuals if not isinstance(v, str | Path)]
        if wrong:
            raise ConfigError(f"the task gives a {wrong[0]}; videollm takes paths of videos or images")
        sampling = self.model.config.sampling
        videos = [encode_video(path, self.model.encoder, sampling, self.features) for path in visuals]
        shown = [PromptVideo(self.model, video) for video in videos]
        stop = options.get("until") or ()
        generation = GenerationConfig(
            max_new_tokens=min(
                options.get("max_new_tokens") or self.model.config.prompt.max_new_tokens,
                self.model.config.prompt.max_new_tokens,
            ),
            temperature=float(options.get("temperature") or 0.0),
            seed=0,
            stop=tuple(s for s in ([stop] if isinstance(stop, str) else stop) if s.strip()),
        )
        prompt = fit_to_context(self.model, [Message("user", text)], shown, generation.max_new_tokens)
        made = generate_answer(
            self.model, self.engine, prompt, text, shown, PromptCache(), generation, {}, perf_counter()
        )
        return next(piece for piece in made if isinstance(piece, Answer)).text


def manifest() -> Any:
    """Returns the `ModelManifest` that lmms-eval's registry expects from an entry point."""
    from lmms_eval.models.registry_v2 import ModelManifest  # type: ignore[import-not-found]

    return ModelManifest(model_id="videollm", simple_class_path=f"{__name__}.{CLASS}")


@cache
def _model_class() -> type:
    from lmms_eval.api.model import lmms  # type: ignore[import-not-found]

    class LmmsModel(lmms):
        """The adapter to lmms-eval's interface; the arguments are those of `Responder`."""

        # lmms-eval passes further arguments such as batch_size, which have no meaning here.
        def __init__(self, pretrained: str = "lite", device: str | None = None, **_: Any):
            super().__init__()
            self.respond = Responder(pretrained, device)

        def generate_until(self, requests: list[Any]) -> list[str]:
            answers = []
            for text, options, visuals_of, number, task, split in (request.args for request in requests):
                visuals = visuals_of(self.task_dict[task][split][number])
                answers.append(self.respond(text, visuals, dict(options)))
                self.cache_hook.add_partial("generate_until", (text, options), answers[-1])
            return answers

        def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
            raise NotImplementedError("videollm serves tasks whose output_type is generate_until")

        def generate_until_multi_round(self, requests: list[Any]) -> list[str]:
            raise NotImplementedError("videollm serves tasks whose output_type is generate_until")

    return LmmsModel


def __getattr__(name: str) -> Any:
    """Creates the model class when lmms-eval imports it by its path.

    The class extends one of lmms-eval, so that it cannot be defined while lmms-eval is not installed.
    """
    if name == CLASS:
        return _model_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
