"""Turns the pieces of generated answers into the body or the server-sent events of a chat completion."""

import json
import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from time import time
from typing import Any

from serve.api.errors import APIError
from serve.api.schemas.chat import (
    AssistantMessage,
    CachedTokens,
    ChatChoice,
    ChatChunk,
    ChatCompletion,
    ChatUsage,
    ChoiceLogprobs,
    ChunkChoice,
    ChunkDelta,
    TokenLogprob,
    TopLogprob,
)
from serve.api.schemas.media import ShownPart, shown_part
from serve.api.tool_calls import GrowingReply, finish_reason, tool_call
from serve.runtime.chat import PreparedChat, evidence_json, generated_files, make_receipt
from serve.runtime.service import Service
from videollm.chat.answer import Answer, Receipt
from videollm.chat.turn import Piece
from videollm.inference.sampling import Token
from videollm.models.tokenizer import token_bytes

# Pieces of the answers to one request, each with the number of its answer, and an Answer at the end of each.
AnswerStream = AsyncGenerator[tuple[int, Piece | Answer]]
LEAST_LOGPROB = -9999.0  # OpenAI's number for an impossible token: JSON has no infinity


class ChatCompletionWriter:
    """Writes one chat completion, as one object or as chunks."""

    def __init__(self, service: Service, chat: PreparedChat):
        self.service, self.chat = service, chat
        self.id, self.created = f"chatcmpl-{secrets.token_hex(12)}", int(time())
        self.model = service.model.config.name

    async def whole(self, stream: AnswerStream) -> ChatCompletion:
        tokens: list[list[Token]] = [[] for _ in range(self.chat.request.n)]
        answers: list[Answer] = []
        async for number, item in stream:
            if isinstance(item, Answer):
                answers.append(item)
            elif item.token:
                tokens[number].append(item.token)
        choices = []
        for number, answer in enumerate(answers):
            content, calls = self.chat.read(answer.text)
            made = [tool_call(call) for call in calls]
            choices.append(
                ChatChoice(
                    index=number,
                    message=AssistantMessage(content=content or (None if made else ""), tool_calls=made or None),
                    finish_reason=finish_reason(answer.receipt, calls),
                    logprobs=self._logprobs(tokens[number]),
                    evidence=[] if calls else evidence_json(answer),
                    media=await shown_parts(self.service, self.chat, answer, number),
                )
            )
        return ChatCompletion(
            id=self.id,
            created=self.created,
            model=self.model,
            choices=choices,
            usage=_usage([answer.receipt for answer in answers]),
            receipt=make_receipt(self.chat, answers[0]),
        )

    async def events(self, stream: AnswerStream) -> AsyncIterator[str]:
        request, receipts = self.chat.request, []
        replies = [GrowingReply(self.chat) for _ in range(request.n)]
        try:
            for number in range(request.n):
                yield self._chunk(ChunkChoice(index=number, delta=ChunkDelta(role="assistant", content="")))
            async for number, item in stream:
                reply = replies[number]
                if isinstance(item, Answer):
                    receipts.append(item.receipt)
                    last = ChunkChoice(
                        index=number,
                        delta=reply.grow("", complete=True) or ChunkDelta(),
                        finish_reason=finish_reason(item.receipt, reply.calls),
                        evidence=[] if reply.calls else evidence_json(item),
                        media=await shown_parts(self.service, self.chat, item, number),
                    )
                    yield self._chunk(last, receipt=make_receipt(self.chat, item) if number == 0 else None)
                    continue
                delta = reply.grow(item.text)
                if delta or (item.token and request.logprobs):
                    logprobs = self._logprobs([item.token] if item.token else [])
                    choice = ChunkChoice(index=number, delta=delta or ChunkDelta(content=""), logprobs=logprobs)
                    yield self._chunk(choice)
            if request.stream_options and request.stream_options.include_usage:
                yield self._chunk(usage=_usage(receipts))
            yield "data: [DONE]\n\n"
        except APIError as error:
            # Status 200 was sent before. OpenAI's clients raise an error for an event that has this field.
            yield f"data: {json.dumps(error.body)}\n\n"

    def _chunk(self, *choices: ChunkChoice, **more: Any) -> str:
        chunk = ChatChunk(id=self.id, created=self.created, model=self.model, choices=list(choices), **more)
        return f"data: {chunk.model_dump_json(exclude_none=True)}\n\n"

    def _logprobs(self, tokens: list[Token]) -> ChoiceLogprobs | None:
        if not self.chat.request.logprobs:
            return None
        content = []
        for token in tokens:
            assert token.logprob is not None  # the request asked for them
            top = [self._logprob(*one) for one in token.top]
            content.append(TokenLogprob(**dict(self._logprob(token.id, token.logprob)), top_logprobs=top))
        return ChoiceLogprobs(content=content)

    def _logprob(self, token: int, logprob: float) -> TopLogprob:
        tokenizer = self.service.model.processor.tokenizer
        made = list(token_bytes(tokenizer, token))
        return TopLogprob(token=tokenizer.decode([token]), logprob=max(logprob, LEAST_LOGPROB), bytes=made)


async def shown_parts(service: Service, chat: PreparedChat, answer: Answer, number: int = 0) -> list[ShownPart]:
    """Returns what an answer shows beside its text. number: of the answer among those to the request."""
    files = await generated_files(service, chat, answer, number)
    return [shown_part(file.modality, file.data, file.problem) for file in files]


def _usage(receipts: list[Receipt]) -> ChatUsage:
    """Counts the prompt once, as OpenAI does, however many answers it had."""
    completion_tokens = sum(receipt.completion_tokens for receipt in receipts)
    first = receipts[0]
    return ChatUsage(
        prompt_tokens=first.prompt_tokens,
        completion_tokens=completion_tokens,
        total_tokens=first.prompt_tokens + completion_tokens,
        prompt_tokens_details=CachedTokens(cached_tokens=first.cached_tokens),
    )
