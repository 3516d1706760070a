"""Print the options with which vLLM runs a model, one a line: python scripts/vllm/options.py MODEL

MODEL is what `videollm export` wrote, or the directory or hub id of a video model of transformers.
"""

import sys

from videollm.model import config_of
from videollm.vllm_model import config_directory


def options(model: str) -> list[str]:
    """Returns the options. Raises CheckpointError if there is no such model."""
    config = config_of(model)
    if config_directory(model) is not None:
        # Requests of our server alone reach vLLM, so that it may trust them.
        return [f"--model={model}", f"--served-model-name={config.name}", "--trust-request-mm-kwargs"]
    named = [f"--model={model}/language_model", "--served-model-name=videollm", f"--dtype={config.llm.dtype}"]
    return [*named, f"--max-model-len={config.prompt.context}", "--enable-prompt-embeds"]


if __name__ == "__main__":
    print(*options(sys.argv[1]), sep="\n")
