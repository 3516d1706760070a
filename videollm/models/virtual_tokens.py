"""Prompt tuning: learned embeddings that stand before every prompt, while the language model stays as it is.

Lester et al. 2021, https://arxiv.org/abs/2104.08691. A prompt has one placeholder for each of them, as it has for the
tokens of a video, so that positions, packed rows and the KV cache are those of any other token.
"""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from videollm.checkpoint_files import ADAPTER, ADAPTER_CONFIG, read_object, read_tensors
from videollm.config import LanguageModelConfig
from videollm.errors import CheckpointError

TENSOR = "prompt_embeddings"  # its name in PEFT's files
PEFT_TYPE = "PROMPT_TUNING"


def build_virtual_tokens(config: LanguageModelConfig, embeddings: torch.Tensor) -> nn.Embedding | None:
    """Returns untrained tokens, which are the embeddings of random words, or None if the model has none.

    Args:
        config: The configuration, with the number of tokens.
        embeddings: The word embeddings (V,H).
    """
    if not config.virtual_tokens:
        return None
    chosen = torch.randint(len(embeddings), (config.virtual_tokens,)).to(embeddings.device)
    return nn.Embedding.from_pretrained(embeddings.detach()[chosen].float(), freeze=False)


def save_virtual_tokens(weight: torch.Tensor, source: str, directory: Path) -> None:
    """Writes the tokens (count,H) as a directory of PEFT.

    Args:
        weight: The tokens.
        source: The source of the language model.
        directory: The directory of the checkpoint.
    """
    from peft import PromptTuningConfig

    settings = PromptTuningConfig(
        num_virtual_tokens=len(weight),
        token_dim=weight.shape[1],
        num_transformer_submodules=1,
        task_type="CAUSAL_LM",
        base_model_name_or_path=source,
        inference_mode=True,
    )
    settings.save_pretrained(str((directory / ADAPTER).parent))
    save_file({TENSOR: weight.detach().contiguous()}, directory / ADAPTER)


def load_virtual_tokens(tokens: nn.Embedding, directory: Path) -> None:
    """Reads the tokens of a checkpoint.

    Raises CheckpointError if they are missing, or are not those that its config.json states.
    """
    if not (directory / ADAPTER).is_file():
        raise CheckpointError(
            f"{directory}: config.json has an adapter, but adapter/ is missing; copy it from where it was trained"
        )
    path = directory / ADAPTER_CONFIG
    found = read_object(path)
    for name, value in (("peft_type", PEFT_TYPE), ("num_virtual_tokens", tokens.num_embeddings)):
        if found.get(name) != value:
            raise CheckpointError(f"{path}: {name} is {found.get(name)!r}, and config.json says {value!r}")
    state = read_tensors(directory / ADAPTER, {TENSOR: tokens.weight.shape})
    with torch.no_grad():
        tokens.weight.copy_(state[TENSOR])
