"""CTranslate2's model files read as data, and Whisper in that form as transformers' model.

The format: version, name of the network, its revision, then variables (name, shape, type, bytes) and aliases of them.
https://github.com/OpenNMT/CTranslate2/blob/master/python/ctranslate2/specs/model_spec.py
"""

import json
import re
import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from videollm.errors import AssetError

_TYPES = (np.float32, np.int8, np.int16, np.int32, np.float16)
_SPEC = "WhisperSpec"


def read_variables(path: Path) -> tuple[str, dict[str, np.ndarray]]:
    """The network's name and its variables. Raises AssetError where the file is not of this format."""
    try:
        with path.open("rb") as file:
            (version,) = _unpack(file, "I")
            if version < 4:
                raise AssetError(f"{path.name}: CTranslate2 format {version}, this version reads 4 and newer")
            spec = _text(file)
            _, count = _unpack(file, "II")  # the network's revision is not needed
            variables = {}
            for _ in range(count):
                name = _text(file)
                (rank,) = _unpack(file, "B")
                shape = _unpack(file, f"{rank}I")
                kind, size = _unpack(file, "BI")
                variables[name] = np.frombuffer(file.read(size), _TYPES[kind]).reshape(shape)
    except (struct.error, ValueError, IndexError) as error:
        raise AssetError(f"{path.name}: not a CTranslate2 model ({error})") from error
    return spec, variables


def _unpack(file: BinaryIO, layout: str) -> tuple[Any, ...]:
    return struct.unpack(f"<{layout}", file.read(struct.calcsize(f"<{layout}")))


def _text(file: BinaryIO) -> str:
    (length,) = _unpack(file, "H")
    return file.read(length)[:-1].decode()


def ctranslate2_whisper(source: Path, target: Path) -> None:
    """`source` holds model.bin, config.json and tokenizer.json; `target` gets what `from_pretrained` reads.

    Weights are kept in float16, as they are published.
    """
    import torch
    from transformers import (
        GenerationConfig,
        PreTrainedTokenizerFast,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
    )

    spec, variables = read_variables(source / "model.bin")
    if spec != _SPEC:
        raise AssetError(f"model.bin holds {spec}, not {_SPEC}")
    settings = json.loads((source / "config.json").read_text())
    tokenizer: Any = PreTrainedTokenizerFast(tokenizer_file=str(source / "tokenizer.json"))
    number = tokenizer.convert_tokens_to_ids
    end, start = number("<|endoftext|>"), number("<|startoftranscript|>")
    width = len(variables["encoder/conv1/weight"])
    heads = int(variables["encoder/num_heads"])
    config = WhisperConfig(
        vocab_size=len(variables["decoder/embeddings/weight"]),
        d_model=width,
        encoder_layers=_layers(variables, "encoder"),
        decoder_layers=_layers(variables, "decoder"),
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        encoder_ffn_dim=4 * width,
        decoder_ffn_dim=4 * width,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        decoder_start_token_id=start,
    )
    model = WhisperForConditionalGeneration(config)
    state = {name: torch.from_numpy(value.astype(np.float16)) for name, value in _state(variables, config).items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    if set(missing) - {"proj_out.weight"} or unexpected:  # the output layer is the embedding's own tensor
        raise AssetError(f"model.bin lacks {missing} and has {unexpected} too many")
    model.generation_config = GenerationConfig(
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        decoder_start_token_id=start,
        max_length=config.max_target_positions,
        suppress_tokens=settings["suppress_ids"],
        begin_suppress_tokens=settings["suppress_ids_begin"],
        no_timestamps_token_id=number("<|notimestamps|>"),
        max_initial_timestamp_index=50,  # the first sentence of a window begins within its first second
        is_multilingual=True,
        lang_to_id={tokenizer.convert_ids_to_tokens(i): i for i in settings["lang_ids"]},
        task_to_id={task: number(f"<|{task}|>") for task in ("transcribe", "translate")},
    )
    model.half().save_pretrained(target)
    tokenizer.eos_token = tokenizer.pad_token = "<|endoftext|>"
    tokenizer.save_pretrained(target)
    WhisperFeatureExtractor(feature_size=config.num_mel_bins).save_pretrained(target)


def _layers(variables: dict[str, np.ndarray], side: str) -> int:
    numbered = re.compile(rf"{side}/layer_(\d+)/")
    return 1 + max(int(match[1]) for name in variables if (match := numbered.match(name)))


def _state(variables: dict[str, np.ndarray], config: Any) -> dict[str, np.ndarray]:
    """transformers' names; CTranslate2 keeps queries, keys and values in one matrix."""
    v, state = variables, {}
    for conv in ("conv1", "conv2"):
        for part in ("weight", "bias"):
            state[f"model.encoder.{conv}.{part}"] = v[f"encoder/{conv}/{part}"]
    state["model.decoder.embed_tokens.weight"] = v["decoder/embeddings/weight"]
    for side, layers in (("encoder", config.encoder_layers), ("decoder", config.decoder_layers)):
        state[f"model.{side}.embed_positions.weight"] = v[f"{side}/position_encodings/encodings"]
        _norm(state, f"model.{side}.layer_norm", v, f"{side}/layer_norm")
        for n in range(layers):
            ours, theirs = f"model.{side}.layers.{n}", f"{side}/layer_{n}"
            _norm(state, f"{ours}.self_attn_layer_norm", v, f"{theirs}/self_attention/layer_norm")
            _norm(state, f"{ours}.final_layer_norm", v, f"{theirs}/ffn/layer_norm")
            _attention(state, f"{ours}.self_attn", ("q", "k", "v"), v, f"{theirs}/self_attention/linear_0")
            _linear(state, f"{ours}.self_attn.out_proj", v, f"{theirs}/self_attention/linear_1")
            for number in (0, 1):
                _linear(state, f"{ours}.fc{number + 1}", v, f"{theirs}/ffn/linear_{number}")
            if side == "decoder":
                _norm(state, f"{ours}.encoder_attn_layer_norm", v, f"{theirs}/attention/layer_norm")
                _linear(state, f"{ours}.encoder_attn.q_proj", v, f"{theirs}/attention/linear_0")
                _attention(state, f"{ours}.encoder_attn", ("k", "v"), v, f"{theirs}/attention/linear_1")
                _linear(state, f"{ours}.encoder_attn.out_proj", v, f"{theirs}/attention/linear_2")
    return state


def _norm(state: dict[str, np.ndarray], ours: str, v: dict[str, np.ndarray], theirs: str) -> None:
    state[f"{ours}.weight"], state[f"{ours}.bias"] = v[f"{theirs}/gamma"], v[f"{theirs}/beta"]


def _linear(state: dict[str, np.ndarray], ours: str, v: dict[str, np.ndarray], theirs: str) -> None:
    state[f"{ours}.weight"], state[f"{ours}.bias"] = v[f"{theirs}/weight"], v[f"{theirs}/bias"]


def _attention(
    state: dict[str, np.ndarray], ours: str, parts: tuple[str, ...], v: dict[str, np.ndarray], theirs: str
) -> None:
    weights, biases = np.split(v[f"{theirs}/weight"], len(parts)), np.split(v[f"{theirs}/bias"], len(parts))
    for part, weight, bias in zip(parts, weights, biases, strict=True):
        state[f"{ours}.{part}_proj.weight"] = weight
        if part != "k":  # Whisper's keys have no bias; the file holds zeros for it
            state[f"{ours}.{part}_proj.bias"] = bias
