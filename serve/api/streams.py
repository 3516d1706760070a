"""Writers that turn the pieces of a generated answer into the bodies and server-sent events of OpenAI's two chat
APIs."""

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
    ChatMessage,
    ChatUsage,
    ChoiceLogprobs,
    ChunkChoice,
    ChunkDelta,
    TokenLogprob,
    TopLogprob,
)
from serve.api.schemas.responses import (
    IncompleteDetails,
    InputTokens,
    OutputMessage,
    OutputText,
    ResponseObject,
    ResponsesRequest,
    ResponseUsage,
)
from serve.runtime.chat import PreparedChat, evidence_json, make_receipt
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
        choices = [
            ChatChoice(
                index=number,
                message=AssistantMessage(content=answer.text),
                finish_reason=answer.receipt.finish,
                logprobs=self._logprobs(tokens[number]),
                evidence=evidence_json(answer),
            )
            for number, answer in enumerate(answers)
        ]
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
        try:
            for number in range(request.n):
                yield self._chunk(ChunkChoice(index=number, delta=ChunkDelta(role="assistant", content="")))
            async for number, item in stream:
                if isinstance(item, Answer):
                    receipts.append(item.receipt)
                    last = ChunkChoice(
                        index=number,
                        delta=ChunkDelta(),
                        finish_reason=item.receipt.finish,
                        evidence=evidence_json(item),
                    )
                    yield self._chunk(last, receipt=make_receipt(self.chat, item) if number == 0 else None)
                elif item.text or (item.token and request.logprobs):
                    logprobs = self._logprobs([item.token] if item.token else [])
                    yield self._chunk(ChunkChoice(index=number, delta=ChunkDelta(content=item.text), logprobs=logprobs))
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


class ResponseWriter:
    """Writes one response of the Responses API, as one object or as events."""

    def __init__(self, service: Service, chat: PreparedChat, request: ResponsesRequest):
        self.service, self.chat, self.request = service, chat, request
        self.id, self.created = f"resp_{secrets.token_hex(12)}", int(time())
        self.message_id = f"msg_{secrets.token_hex(12)}"
        self._sequence_number = -1

    async def whole(self, stream: AnswerStream) -> ResponseObject:
        async for _, item in stream:
            if isinstance(item, Answer):
                return self._response(item)
        raise RuntimeError("the stream ended without an answer")

    async def events(self, stream: AnswerStream) -> AsyncIterator[str]:
        place = {"item_id": self.message_id, "output_index": 0, "content_index": 0}
        try:
            for name in ("created", "in_progress"):
                yield self._event(f"response.{name}", response=self._response(None).model_dump())
            yield self._event("response.output_item.added", output_index=0, item=self._message("in_progress"))
            yield self._event("response.content_part.added", **place, part=OutputText(text="").model_dump())
            async for _, item in stream:
                if isinstance(item, Piece):
                    if item.text:
                        yield self._event("response.output_text.delta", **place, delta=item.text, logprobs=[])
                    continue
                text, done = OutputText(text=item.text).model_dump(), self._response(item)
                yield self._event("response.output_text.done", **place, text=item.text, logprobs=[])
                yield self._event("response.content_part.done", **place, part=text)
                yield self._event("response.output_item.done", output_index=0, item=done.output[0].model_dump())
                yield self._event(f"response.{done.status}", response=done.model_dump())
        except APIError as error:
            yield self._event("error", code=error.code, message=str(error), param=error.param)

    def _event(self, kind: str, **values: Any) -> str:
        self._sequence_number += 1
        data = {"type": kind, "sequence_number": self._sequence_number, **values}
        return f"event: {kind}\ndata: {json.dumps(data)}\n\n"

    def _message(self, status: str, *content: OutputText) -> dict[str, Any]:
        return OutputMessage.model_validate(
            {"id": self.message_id, "status": status, "content": list(content)}
        ).model_dump()

    def _response(self, answer: Answer | None) -> ResponseObject:
        request = self.request
        response = ResponseObject(
            id=self.id,
            created_at=self.created,
            model=self.service.model.config.name,
            status="in_progress",
            output=[],
            instructions=request.instructions,
            metadata=request.metadata,
            temperature=request.temperature,
            top_p=request.top_p,
            max_output_tokens=request.max_output_tokens,
            parallel_tool_calls=request.parallel_tool_calls,
            previous_response_id=request.previous_response_id,
            store=request.store,
            text=request.text.model_dump(by_alias=True, exclude_none=True),
            truncation=request.truncation,
        )
        if answer is None:
            return response
        receipt = answer.receipt
        truncated = receipt.finish == "length"
        response.status = "incomplete" if truncated else "completed"
        response.incomplete_details = IncompleteDetails(reason="max_output_tokens") if truncated else None
        content = [OutputText(text=answer.text)]
        response.output = [OutputMessage(id=self.message_id, status=response.status, content=content)]
        response.evidence, response.receipt = evidence_json(answer), make_receipt(self.chat, answer)
        response.usage = ResponseUsage(
            input_tokens=receipt.prompt_tokens,
            input_tokens_details=InputTokens(cached_tokens=receipt.cached_tokens),
            output_tokens=receipt.completion_tokens,
            total_tokens=receipt.prompt_tokens + receipt.completion_tokens,
        )
        if request.store:
            said = [*request.messages(), ChatMessage(role="assistant", content=answer.text)]
            self.service.responses.add(self.chat.owner, said, response)
        return response
