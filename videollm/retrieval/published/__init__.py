"""Published text-video retrieval systems, built from their own weights.

Each module adapts the names and inputs of one code base to the towers and heads of this package. Values that weights do
not contain, such as the number of attention heads or a fixed temperature, are read from `config`, and are the published
settings if `config` does not have them.
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
    """Builds a published system from its state dict, in evaluation mode and float32.

    Args:
        system: A name in `SYSTEMS`, optionally with a variant after a slash. Only "STAN/mugstan" needs the variant,
            because the weights identify all others.
        state: The official state dict.
        config: The settings that the official code was run with, for example {"sim_header": "seqTransf"}. It may be
            empty.

    Raises:
        ConfigError: If the system is unknown.
        CheckpointError: If weights are missing, unknown or of another shape. The message lists them.
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
