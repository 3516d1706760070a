"""The files in the directory of a retrieval model, which `videollm.retrieval.model` reads and writes."""

import json
from pathlib import Path

CONFIG_FILE, WEIGHTS_FILE, CARD_FILE = "config.json", "model.safetensors", "card.md"
CLASSES_FILE, CLASSIFIER_FILE = "classes.json", "classifier.safetensors"  # of `videollm.retrieval.recogniser`
FORMAT = "retrieval"
LOCAL = "local-dir:"  # what the `pretrained` of an encoder begins with if a directory follows


def is_there(folder: Path) -> bool:
    """Whether the folder holds a model that `videollm.retrieval.model.save` wrote."""
    file = folder / CONFIG_FILE
    return file.is_file() and json.loads(file.read_text()).get("format") == FORMAT
