"""The video language model for answers on a CPU, without transformers, whose import takes longer than an answer.

Shapes: V vocabulary size, H language-model width.
"""

from torch import nn

from videollm.config import ModelConfig
from videollm.cpu.llama_weights import LlamaWeights
from videollm.models.visual_prompting import VisualPrompting


class ChatLLM(VisualPrompting):
    """Embeds prompts as `VideoLLM` does, for `LlamaRunner` to read. It computes no loss and is not trained.

    Args:
        config: The model's configuration.
        token_dim: The width of the encoder's tokens.
        tokens_per_frame: The number of the encoder's tokens for each frame.
        language_model: The weights of the language model, adapter included.
    """

    def __init__(self, config: ModelConfig, token_dim: int, tokens_per_frame: int, language_model: LlamaWeights):
        super().__init__()
        self.language_model = language_model
        words = language_model.tensors["words"]
        self.add_projector(config, token_dim, tokens_per_frame, words)
        # In a tuple, so that the words do not count among the projector's weights.
        self._embeddings = (nn.Embedding.from_pretrained(words),)

    def get_input_embeddings(self) -> nn.Module:
        return self._embeddings[0]
