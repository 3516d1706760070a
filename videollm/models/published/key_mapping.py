"""Load published weights under their official names, strictly.

A tensor that is neither used nor listed as ignored is an error, so a checkpoint never loads in part.
"""

import re
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from videollm.errors import CheckpointError

# Names inside `QFormer` -> names of BERT, as LAVIS `Qformer.py` has them. All patterns that match are applied, in this
# order: later ones see the results of earlier ones.
_BERT_NAMES = (
    (r"^(word|position)_embedding\.", r"bert.embeddings.\1_embeddings."),
    (r"^norm\.", "bert.embeddings.LayerNorm."),
    (r"^blocks\.", "bert.encoder.layer."),
    (r"\.(self|cross)_attention\.(query|key|value)\.", r".\1_attention.self.\2."),
    (r"\.(self|cross)_attention\.output\.", r".\1_attention.output.dense."),
    (r"\.(self|cross)_attention\.norm\.", r".\1_attention.output.LayerNorm."),
    (r"\.self_attention\.", ".attention."),
    (r"\.cross_attention\.", ".crossattention."),
    (r"\.text_ffn\.up\.", ".intermediate.dense."),
    (r"\.text_ffn\.down\.", ".output.dense."),
    (r"\.text_ffn\.norm\.", ".output.LayerNorm."),
    (r"\.query_ffn\.up\.", ".intermediate_query.dense."),
    (r"\.query_ffn\.down\.", ".output_query.dense."),
    (r"\.query_ffn\.norm\.", ".output_query.LayerNorm."),
)


def bert_name(name: str) -> str:
    """Return the name in LAVIS of the parameter `name` of a `QFormer`.

    `query_tokens` has no such name: LAVIS keeps it outside the Q-Former.
    """
    for pattern, replacement in _BERT_NAMES:
        name = re.sub(pattern, replacement, name)
    return name


def load_official(
    model: nn.Module,
    state: Mapping[str, torch.Tensor],
    official_names: Mapping[str, str | tuple[str, ...]],
    ignored: Sequence[str],
) -> None:
    """Copy `state` into `model`, converted to the model's dtype.

    official_names: maps each name in `model.state_dict()` to its name in `state`, or to several names whose tensors,
    joined along the first axis, are the parameter. ignored: patterns (for `re.fullmatch`) of names in `state` that the
    model has no use for.

    Raises CheckpointError that lists missing and unknown names and wrong shapes; the model is then unchanged.
    """
    own = model.state_dict()
    parts: dict[str, tuple[str, ...]] = {
        name: (found,) if isinstance(found := official_names[name], str) else found for name in own
    }
    expected = {
        part: (value.shape[0] // len(parts[name]), *value.shape[1:]) if len(parts[name]) > 1 else tuple(value.shape)
        for name, value in own.items()
        for part in parts[name]
    }
    unknown = [n for n in state if n not in expected and not any(re.fullmatch(p, n) for p in ignored)]
    shapes = [
        f"{name} {tuple(state[name].shape)} where this model has {shape}"
        for name, shape in expected.items()
        if name in state and tuple(state[name].shape) != shape
    ]
    problems = {"missing": [n for n in expected if n not in state], "unknown": unknown, "of another shape": shapes}
    if any(problems.values()):
        listed = "; ".join(f"{kind}: {', '.join(sorted(names))}" for kind, names in problems.items() if names)
        raise CheckpointError(f"the weights do not fit {type(model).__name__}: {listed}")
    model.load_state_dict({n: _rows([state[p] for p in ps]) for n, ps in parts.items()})


def _rows(parts: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat(parts) if len(parts) > 1 else parts[0]
