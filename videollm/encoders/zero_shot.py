"""What dual encoders share: a fingerprint of their weights, and the embeddings of the words that frames are tagged
with."""

import hashlib
from collections.abc import Iterable

import torch
from safetensors.torch import load_file, save_file

from videollm import assets
from videollm.encoders.base import FrameEncoder, batch_size


def fingerprint(tensors: Iterable[tuple[str, torch.Tensor]], extra: str) -> str:
    """Returns 12 hex digits over names, shapes and up to 4,096 evenly spread values of each tensor.

    A sample identifies a model, because training changes all values. Hashing all values of a large model takes seconds.
    """
    digest = hashlib.sha256(extra.encode())
    for name, tensor in tensors:
        flat = tensor.detach().flatten()
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(flat[:: max(1, len(flat) // 4096)].float().cpu().numpy().tobytes())
    return digest.hexdigest()[:12]


def class_text(encoder: FrameEncoder, kind: str, device: torch.device, *, keep: bool) -> torch.Tensor:
    """Returns the embeddings (leaves,E) of "a photo of a WORD" for each leaf of the encoder's vocabulary.

    keep: whether to keep them on disk, under `kind`, for the weights that the encoder's revision names.
    """
    inner = set(encoder.vocabulary.parents)
    words = [word for i, word in enumerate(encoder.vocabulary.words) if i not in inner]

    def embed() -> torch.Tensor:
        texts = [f"a photo of a {word}" for word in words]
        size = batch_size(device)
        return torch.cat([encoder.encode_text(texts[i : i + size]).embed for i in range(0, len(texts), size)])

    if not keep:
        return embed()
    folder = assets.derived(
        f"{kind}-words",
        {"weights": encoder.revision, "words": words},
        lambda target: save_file({"embed": embed().cpu()}, target / "embed.safetensors"),
    )
    return load_file(folder / "embed.safetensors")["embed"].to(device)
