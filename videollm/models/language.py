"""Loading of the language model and its tokenizer from an asset, a directory or a model hub, and a tiny random language
model for tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from videollm import assets
from videollm.adapter_kinds import ADAPTERS
from videollm.config import LanguageModelConfig, LoraConfig
from videollm.device import resolve_device, resolve_dtype
from videollm.errors import CheckpointError, ConfigError

DeviceMap = Literal["auto"] | None

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def load_tokenizer(config: LanguageModelConfig) -> PreTrainedTokenizerBase:
    """Returns the tokenizer of the language model.

    Raises CheckpointError if it cannot be loaded or has no chat template.
    """
    if config.source == "debug":
        return debug_tokenizer()
    source = resolve_source(config)
    with reachable(source):
        tokenizer = AutoTokenizer.from_pretrained(source, revision=config.revision, trust_remote_code=False)
    if tokenizer.chat_template is None:
        raise CheckpointError(f"{config.source}: its tokenizer has no chat template; use an instruction-tuned model")
    return tokenizer


def load_language_model(
    config: LanguageModelConfig, device: str | torch.device | None = None, device_map: DeviceMap = None
) -> PreTrainedModel:
    """Returns the frozen base model in evaluation mode. 4-bit weights (NF4) need bitsandbytes, from the `train` extra.

    Args:
        config: The source and the dtype.
        device: The device of the weights, see `resolve_device`.
        device_map: "auto" lets accelerate spread the layers over all GPUs, and over main memory if these are too small.
            `device` then decides only the dtype.

    Raises:
        CheckpointError: If the weights are neither on disk nor reachable.
        ConfigError: If the machine does not have the device.
    """
    device = resolve_device(device)
    if config.source == "debug":
        return debug_language_model().to(device)  # type: ignore[arg-type]
    source = resolve_source(config)
    with reachable(source):
        model = AutoModelForCausalLM.from_pretrained(
            source,
            revision=config.revision,
            trust_remote_code=False,
            **loading_arguments(config, device, device_map),
        )
    return model.eval().requires_grad_(False)


def loading_arguments(config: LanguageModelConfig, device: torch.device, device_map: DeviceMap) -> dict[str, Any]:
    """What transformers' `from_pretrained` is told of number format and device."""
    dtype = resolve_dtype(config.dtype, device)
    arguments: dict[str, Any] = {
        "dtype": dtype,
        "device_map": device_map or {"": str(device)},
    }
    if config.load_in_4bit:
        from transformers import BitsAndBytesConfig

        arguments["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    return arguments


@contextmanager
def reachable(source: str) -> Iterator[None]:
    """Turns errors of transformers into CheckpointErrors, if a file is neither on disk nor on the model hub, or a model
    needs Python code of its own.

    Every load passes `trust_remote_code=False`. Without it, transformers asks on standard input whether to run the code
    that a model's `auto_map` names, and a question that is piped into a command could answer yes.
    """
    try:
        yield
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        raise CheckpointError(
            f"{source}: its files name Python code of their own (auto_map), which is never run; use a model whose "
            "architecture transformers has"
        ) from error
    except OSError as error:
        raise CheckpointError(
            f"{source} cannot be loaded ({str(error).splitlines()[0]}). "
            "Without a model hub, download it elsewhere and give its directory as the language model's source"
        ) from error


def add_adapter(model: PreTrainedModel, config: LoraConfig) -> PreTrainedModel:
    """Wraps `model` with a trainable adapter. The base weights stay frozen.

    Raises ConfigError if the model has none of the layers that the adapter is for.
    """
    from peft import get_peft_model

    kind = ADAPTERS[config.kind]
    settings = kind.settings(config, kind.targets(config))
    try:
        return get_peft_model(model, settings)  # type: ignore[return-value]
    except ValueError as error:
        if "arget modules" not in str(error):
            raise
        raise ConfigError(
            f"a {type(model).__name__} has none of the layers {kind.targets(config)} that the adapter {config.kind} is "
            "for; take lora"
        ) from error


def resolve_source(config: LanguageModelConfig) -> str:
    """Returns the directory or hub id that `config.source` stands for. An asset is fetched first.

    Raises ConfigError if the source looks like a path and is not a directory.
    """
    scheme, _, name = config.source.partition(":")
    if scheme == "asset":
        return str(assets.fetch(name))
    if config.source.startswith((".", "/", "~")) and not Path(config.source).expanduser().is_dir():
        raise ConfigError(f"language model source {config.source!r} is not a directory; give one, or a hub id")
    return config.source


def debug_tokenizer() -> PreTrainedTokenizerFast:
    """Returns a tokenizer of bytes with the ChatML template, which needs no file."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    specials = ["<|im_start|>", "<|im_end|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate(specials + alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=specials[0], eos_token=specials[1], pad_token=specials[1]
    )
    fast.chat_template = CHATML
    return fast


def debug_language_model(seed: int = 0) -> LlamaForCausalLM:
    """Returns a language model with two random layers of width 64 and the 258 tokens of the debug tokenizer."""
    config = LlamaConfig(
        vocab_size=258,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng(devices=[]):  # modules are initialised on the CPU; the state of GPUs stays as it is
        torch.default_generator.manual_seed(seed)
        model = LlamaForCausalLM(config)
    return model.eval().requires_grad_(False)
