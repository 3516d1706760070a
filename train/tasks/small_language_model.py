"""A language model that is small enough to be trained from nothing, with a tokenizer of the words that it reads."""

from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

END = "<|im_end|>"
# Messages follow each other with nothing but their ends between them, because every token costs a share of each step.
TEMPLATE = "{% for message in messages %}{{ message['content'] + '" + END + "' }}{% endfor %}"
MOST_WORDS = 768  # of the vocabulary; what the world says has fewer


def write_language_model(folder: Path, texts: Iterable[str], *, width: int, layers: int, seed: int) -> None:
    """Writes an untrained Llama and a byte-level BPE tokenizer of the texts, as a directory of transformers."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=MOST_WORDS, special_tokens=[END], initial_alphabet=alphabet)
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=END)
    fast.chat_template = TEMPLATE
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=width,
        intermediate_size=8 * width // 3,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=1024,
        bos_token_id=0,  # special tokens come first
        eos_token_id=0,
        pad_token_id=0,
        tie_word_embeddings=True,
        # Llama's 0.02 suits widths of thousands; in a narrow model all tokens attend alike for long.
        initializer_range=width**-0.5,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    fast.save_pretrained(folder)
    model.save_pretrained(folder)
