"""InternVideo2 of the second stage as a directory for `videollm index` and `search`
(Wang et al. 2024, https://github.com/OpenGVLab/InternVideo)."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from safetensors.torch import save_file
from transformers import AutoTokenizer

from videollm.config import EncoderConfig, ModelConfig, SamplingConfig, SegmentConfig
from videollm.encoders.build import build_encoder
from videollm.model import FORMAT, OWN
from videollm.models.language import reachable
from videollm.models.published.internvideo2_encoder import SETTINGS as SETTINGS_FILE
from videollm.models.published.internvideo2_encoder import WEIGHTS
from videollm.models.published.internvideo2_stage2 import load_internvideo2_stage2
from videollm.models.published.system import Config
from videollm.official.chat import Imported, card, check_new, read_files

FOLDER = "encoder"
# What the weights do not tell, for the model of 1 billion parameters.
SETTINGS: Config = {
    "vit": {"heads": 16, "pool_heads": 16, "num_frames": 4},
    "bert": {"heads": 16, "fusion_layer": 19},
}


def import_internvideo2(files: Sequence[Path], bert: Path, out: Path, settings: Config = SETTINGS) -> Imported:
    """Writes InternVideo2 of the second stage as the directory `out`, whose encoder indexes and searches.

    Args:
        files: InternVideo2-stage2_1b-224p-f4.pt.
        bert: The directory of the text encoder's tokenizer, bert-large-uncased.
        out: The directory, new or empty.
        settings: What the weights do not tell: numbers of heads, frames of a clip, and the first layer of BERT that
            reads the video.

    Raises:
        CheckpointError: If tensors are missing, unknown or of another shape, or `out` is not empty.
    """
    check_new(out)
    state = read_files(files, {})
    system = load_internvideo2_stage2(state, settings)
    with reachable(str(bert)):
        tokenizer = AutoTokenizer.from_pretrained(bert, trust_remote_code=False)
    folder = out / FOLDER
    folder.mkdir(parents=True)
    used = set(system.official_names().values())
    save_file({name: tensor.contiguous() for name, tensor in state.items() if name in used}, folder / WEIGHTS)
    (folder / SETTINGS_FILE).write_text(json.dumps({part: settings[part] for part in ("vit", "bert")}) + "\n")
    tokenizer.save_pretrained(folder)
    config = ModelConfig(
        name="InternVideo2",
        sampling=SamplingConfig(fps=1.0),
        segments=SegmentConfig(frames=settings["vit"]["num_frames"]),  # a segment is a clip of the tower
        encoder=EncoderConfig(kind="internvideo2", name="InternVideo2-stage2", pretrained=OWN + FOLDER),
    )
    encoder = build_encoder(replace(config.encoder, pretrained=f"local-dir:{folder}"), "cpu")
    record = {"format": FORMAT, "model": config.to_dict(), "towers": {"encoder": encoder.revision}}
    (out / "config.json").write_text(json.dumps(record, indent=2) + "\n")
    (out / "card.md").write_text(
        card(config.name, files, "https://github.com/OpenGVLab/InternVideo (Wang et al. 2024)")
    )
    return Imported(
        out=str(out),
        system=config.name,
        parameters=sum(parameter.numel() for parameter in system.parameters()),
        visual_tokens=0,
    )
