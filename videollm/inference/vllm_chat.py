"""An engine whose language model runs in a vLLM server that has the whole video model of transformers."""

from typing import Any

from videollm.inference.chat_completions import ChatCompletionsEngine

# Sent with every request, because vLLM would otherwise take the values of the model's generation_config.json.
PLAIN = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}


class VLLMChatEngine(ChatCompletionsEngine):
    """Asks vLLM for chat completions about videos that it encodes itself. See `ChatCompletionsEngine`.

    Args:
        model: The name of the model on the server.
        url: The URL of the server, up to and including /v1.
        api_key: The key that the server was started with, if any.
        owner: The user whose prompts these are. vLLM reuses nothing of one owner's prompts for another's.
    """

    key_variable = "VLLM_API_KEY"

    def __init__(self, model: str, url: str, api_key: str | None = None, owner: str | None = None):
        super().__init__(model, url, api_key)
        self.fields: dict[str, Any] = PLAIN | {"cache_salt": owner}

    def of(self, owner: str) -> "VLLMChatEngine":
        """See `ChatCompletionsEngine.of`."""
        return VLLMChatEngine(self.model, self._client.url, self.api_key, owner)
