"""Published text-video retrieval systems, built from their own weights: thin adapters over this package's heads.

One file a system. What the weights do not hold (numbers of attention heads, a fixed temperature) comes from `config`
where that says it, and is the published setting otherwise.
"""

from collections.abc import Mapping
from typing import Any

from videollm.errors import ConfigError
from videollm.models.published.key_mapping import load_official
from videollm.models.published.system import StateShapes
from videollm.retrieval.model import RetrievalModel
from videollm.retrieval.published.clip4clip import CLIP4CLIP
from videollm.retrieval.published.stan import STAN
from videollm.retrieval.published.system import OfficialModel, State
from videollm.retrieval.published.viclip import VICLIP
from videollm.retrieval.published.videoclip import VIDEOCLIP

__all__ = ["SYSTEMS", "OfficialModel", "load"]

SYSTEMS = {
    "CLIP4Clip": CLIP4CLIP,
    "X-CLIP": CLIP4CLIP,
    "TeachCLIP": CLIP4CLIP,
    "STAN": STAN,
    "VideoCLIP": VIDEOCLIP,
    "ViCLIP": VICLIP,
}


def load(system: str, state: State, config: Mapping[str, Any]) -> OfficialModel:
    """Build a published system from its state dict, in evaluation mode and float32.

    system: a family, "CLIP4Clip", "X-CLIP", "TeachCLIP", "STAN", "VideoCLIP" or "ViCLIP", and a variant after a slash,
    which matters for "STAN/mugstan" only: others are told by their weights. config: what the official code was run
    with, for example {"sim_header": "seqTransf"}; may be empty.
    Raises ConfigError for an unknown system, CheckpointError that lists weights which are missing, unknown or of
    another shape.
    """
    family, _, variant = system.partition("/")
    if family not in SYSTEMS:
        raise ConfigError(f"there is no system {family!r}: choose from {', '.join(SYSTEMS)}")
    found = SYSTEMS[family]
    state = found.clean(state)
    model = RetrievalModel(found.configure(variant, StateShapes(state), config)).eval()
    official = OfficialModel(model, found)
    load_official(model, state, official.official_names(), found.ignored)
    return official.eval()
