"""Published video systems, built from their official weights and equal to their official code.

`load` is a thin adapter; the modules are this project's own, one file a system.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from videollm.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from videollm.models.published.system import PublishedSystem


def load(system: str, state: "Mapping[str, torch.Tensor]", config: Mapping[str, Any]) -> "PublishedSystem":
    """Build a published system from its official state dict, in evaluation mode and float32.

    system: a name of `registry.SYSTEMS`; what follows a slash names a file of recorded arrays and changes nothing: the
    weights tell the variants apart. config: what the weights do not tell, such as numbers of heads, and
    "official_compat", see `system.official_compat`.
    Raises ConfigError for an unknown system or a missing setting, CheckpointError that lists tensors which are
    missing, unknown or of another shape.
    """
    # Not at the top: the systems import modules that import the key mapping from this package.
    from videollm.models.published.registry import SYSTEMS

    family = system.partition("/")[0]
    if family not in SYSTEMS:
        raise ConfigError(f"there is no published system {family!r}; choose one of {', '.join(SYSTEMS)}")
    return SYSTEMS[family](state, config)
