"""The kinds of adapters of a language model's layers, each in one row of a table: what PEFT calls it and what it saves.

Prompt tuning, which changes no layer, is `videollm.models.virtual_tokens`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from videollm.config import AdapterName, LoraConfig

if TYPE_CHECKING:
    from peft import PeftConfig

FEEDFORWARD = "down_proj"  # whose input is the activation of the feed-forward block


@dataclass(frozen=True)
class AdapterKind:
    """A kind of adapter. All of them can be merged into the weights that they adapt.

    Attributes:
        layers: The layers that it adapts if the configuration names none. None means all linear layers.
        fields: The fields of PEFT's configuration that ours decides.
        settings: Returns PEFT's configuration for ours and the names of the adapted layers.
        tensors: Returns the shapes of what it saves of a linear layer, from ours, the layer's path, and its input and
            output width.
    """

    layers: tuple[str, ...] | None
    fields: tuple[str, ...]
    settings: "Callable[[LoraConfig, str | list[str]], PeftConfig]"
    tensors: Callable[[LoraConfig, str, int, int], dict[str, tuple[int, ...]]]

    def targets(self, config: LoraConfig) -> str | list[str]:
        """Returns the names of the adapted layers, or "all-linear"."""
        if config.targets != "all-linear":
            return [config.targets] if isinstance(config.targets, str) else list(config.targets)
        return "all-linear" if self.layers is None else list(self.layers)

    def adapts(self, layer: str) -> bool:
        """Whether it adapts a layer of this name, with its path, if the configuration names none."""
        return self.layers is None or is_named(layer, self.layers)


def is_named(layer: str, names: Sequence[str]) -> bool:
    """Whether the path of a layer ends in one of the names."""
    return f".{layer}".endswith(tuple(f".{name}" for name in names))


def _low_rank_settings(config: LoraConfig, targets: str | list[str]) -> "PeftConfig":
    from peft import LoraConfig as PeftLoraConfig

    return PeftLoraConfig(
        r=config.r,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=targets,
        use_dora=config.kind == "dora",
        task_type="CAUSAL_LM",
    )


def _low_rank_tensors(config: LoraConfig, _: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {"lora_A.weight": (config.r, inputs), "lora_B.weight": (outputs, config.r)}


def _dora_tensors(config: LoraConfig, layer: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return _low_rank_tensors(config, layer, inputs, outputs) | {"lora_magnitude_vector": (outputs,)}


def _ia3_settings(config: LoraConfig, targets: str | list[str]) -> "PeftConfig":
    from peft import IA3Config

    # PEFT would search a text as a regular expression.
    assert isinstance(targets, list), "all-linear stands for IA3's own layers"
    inside = [target for target in targets if is_named(target, [FEEDFORWARD])]
    return IA3Config(target_modules=targets, feedforward_modules=inside, task_type="CAUSAL_LM")


def _ia3_tensors(_: LoraConfig, layer: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {"ia3_l": (1, inputs) if is_named(layer, [FEEDFORWARD]) else (outputs, 1)}


LOW_RANK = ("peft_type", "r", "lora_alpha", "use_dora")
ADAPTERS: dict[AdapterName, AdapterKind] = {
    # Hu et al. 2021, https://arxiv.org/abs/2106.09685
    "lora": AdapterKind(None, LOW_RANK, _low_rank_settings, _low_rank_tensors),
    # Liu et al. 2024, https://arxiv.org/abs/2402.09353
    "dora": AdapterKind(None, LOW_RANK, _low_rank_settings, _dora_tensors),
    # Liu et al. 2022, https://arxiv.org/abs/2205.05638: keys, values and activations times learned numbers
    "ia3": AdapterKind(
        ("k_proj", "v_proj", FEEDFORWARD),
        ("peft_type", "feedforward_modules"),
        _ia3_settings,
        _ia3_tensors,
    ),
}
