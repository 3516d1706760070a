"""The requests that one item of work sends to a language model."""

from collections.abc import Callable
from typing import Any

from data_gen.generators.replies import REPLY_FORMATS, ReplyError, parse
from data_gen.prompts import GenerationPrompt
from videollm.inference.openai import ChatClient, Completion, RefusedError

ASKS = 3  # attempts to get one usable reply
MAX_TOKENS = 1500
TEMPERATURE = 0.7


class Conversation:
    """The requests of one item of work, with their cost and the reasons why replies could not be used."""

    def __init__(self, client: ChatClient, seed: int):
        self.client, self.seed = client, seed
        self.unusable: list[str] = []
        self.prompt_tokens = self.completion_tokens = 0

    async def entries(
        self,
        prompt: GenerationPrompt,
        messages: list[dict[str, str]],
        check: Callable[[list[dict[str, Any]]], None] = lambda entries: None,
    ) -> list[dict[str, Any]]:
        """The entries of the first usable reply. A model that gives none is told why and asked again.

        The list is empty after ASKS attempts, or if the server rejects the request. check raises ReplyError if the
        entries do not fit the request.
        """
        reply_format = REPLY_FORMATS[prompt.shape]
        for attempt in range(ASKS):
            try:
                reply = await self.client.complete(
                    messages,
                    reply_format.schema,
                    seed=self.seed + attempt,
                    temperature=TEMPERATURE,
                    max_tokens=MAX_TOKENS,
                )
            except RefusedError:
                self.unusable.append("rejected by the server")
                return []
            self._count(reply)
            try:
                entries = parse(reply_format, reply.text)
                check(entries)
                return entries
            except ReplyError as error:
                self.unusable.append(f"{prompt.shape}: {error}")
                again = f"That cannot be used: {error}. Reply again, in the form asked for, with nothing else."
                messages = [
                    *messages[:2],
                    {"role": "assistant", "content": reply.text},
                    {"role": "user", "content": again},
                ]
        return []

    def _count(self, reply: Completion) -> None:
        self.prompt_tokens += reply.prompt_tokens
        self.completion_tokens += reply.completion_tokens
