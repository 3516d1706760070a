"""Rotary position embeddings whose frequencies depend on the length of the conversation ("dynamic" NTK scaling and
"longrope").

transformers keeps the frequencies in the model, although they belong to one conversation. Conversations with such a
model therefore run one after another, and each resets the frequencies before it runs.
"""

from torch import nn


def length_dependent_ropes(language_model: nn.Module) -> list[nn.Module]:
    """Returns the rotary embeddings of the model whose frequencies depend on the longest position of a call."""
    found = []
    for module in language_model.modules():
        kinds = getattr(module, "rope_type", None)
        named = kinds.values() if isinstance(kinds, dict) else [kinds]
        if any(isinstance(kind, str) and ("dynamic" in kind or kind == "longrope") for kind in named):
            found.append(module)
    return found


def forget_lengths(ropes: list[nn.Module]) -> None:
    """Makes the next call compute its frequencies from its own length.

    transformers computes "dynamic" frequencies again only for a call that is longer than all before
    (`dynamic_frequency_update`). Without this function, a conversation would use the frequencies of an earlier, longer
    one.
    """
    for rope in ropes:
        for name in [n for n in vars(rope) if n.endswith("max_seq_len_cached")]:
            setattr(rope, name, rope.original_max_seq_len)
        for name, frequencies in list(rope.named_buffers(recurse=False)):
            original = getattr(rope, name.replace("inv_freq", "original_inv_freq"), None)
            if original is not None:
                frequencies.copy_(original)
