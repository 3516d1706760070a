"""Low-rank adapters (LoRA, Hu et al. 2021) in the linear layers of a CLIP tower."""

from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

LAYERS = ["out_proj", "c_fc", "c_proj"]


def add_lora(tower: nn.Module, rank: int) -> None:
    """Freezes the tower and adds trainable adapters, which start as zero."""
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=LAYERS), tower)


def merge_lora(tower: nn.Module) -> None:
    """Adds the adapters to the weights, so that the tower computes the same without them."""
    for parent in [*tower.modules()]:
        for name, layer in [*parent.named_children()]:
            if isinstance(layer, BaseTunerLayer):
                layer.merge()
                setattr(parent, name, layer.get_base_layer())
