"""Rotary position embeddings whose frequencies depend on the length of the conversation ("dynamic" NTK scaling and
"longrope").

transformers keeps their frequencies in the model. They belong to one conversation, so conversations with such a model
must run one after another, and each must find the model as if it were the only one.
"""

from torch import nn


def length_dependent_ropes(language_model: nn.Module) -> list[nn.Module]:
    """The model's rotary embeddings whose frequencies depend on the longest position of a call."""
    found = []
    for module in language_model.modules():
        kinds = getattr(module, "rope_type", None)
        named = kinds.values() if isinstance(kinds, dict) else [kinds]
        if any(isinstance(kind, str) and ("dynamic" in kind or kind == "longrope") for kind in named):
            found.append(module)
    return found


def forget_lengths(ropes: list[nn.Module]) -> None:
    """Make the next call compute its frequencies from its own length.

    transformers computes "dynamic" frequencies anew only for a call that is longer than any before
    (`dynamic_frequency_update`), so a conversation would run with the frequencies of a longer one that came earlier.
    """
    for rope in ropes:
        for name in [n for n in vars(rope) if n.endswith("max_seq_len_cached")]:
            setattr(rope, name, rope.original_max_seq_len)
        for name, frequencies in list(rope.named_buffers(recurse=False)):
            original = getattr(rope, name.replace("inv_freq", "original_inv_freq"), None)
            if original is not None:
                frequencies.copy_(original)
