"""From a chat's pieces to the bodies and events of OpenAI's two chat APIs."""

import json
import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from time import time
from typing import Any

from serve.api.errors import APIError
from serve.api.schemas import (
    AssistantMessage,
    CachedTokens,
    ChatChunk,
    ChatCompletion,
    Choice,
    ChoiceLogprobs,
    ChunkChoice,
    Delta,
    IncompleteDetails,
    InputTokens,
    OutputMessage,
    OutputText,
    ResponseObject,
    ResponsesRequest,
    ResponseUsage,
    TokenLogprob,
    TopLogprob,
    Usage,
)
from serve.runtime.service import Chat, Service, evidence_out
from videollm.chat.answer import Answer, Receipt
from videollm.chat.turn import Piece
from videollm.inference.sampling import Token

Items = AsyncGenerator[tuple[int, Piece | Answer]]


class Chunks:
    """One chat completion, whole or in chunks."""

    def __init__(self, service: Service, chat: Chat):
        self.service, self.chat = service, chat
        self.id, self.created = f"chatcmpl-{secrets.token_hex(12)}", int(time())
        self.model = service.model.config.name

    async def whole(self, items: Items) -> ChatCompletion:
        tokens: list[list[Token]] = [[] for _ in range(self.chat.request.n)]
        answers: list[Answer] = []
        async for number, item in items:
            if isinstance(item, Answer):
                answers.append(item)
            elif item.token:
                tokens[number].append(item.token)
        choices = [
            Choice(
                index=number,
                message=AssistantMessage(content=answer.text),
                finish_reason=answer.receipt.finish,
                logprobs=self._logprobs(tokens[number]),
                evidence=evidence_out(answer),
            )
            for number, answer in enumerate(answers)
        ]
        return ChatCompletion(
            id=self.id,
            created=self.created,
            model=self.model,
            choices=choices,
            usage=_usage([answer.receipt for answer in answers]),
            receipt=self.service.receipt(self.chat, answers[0]),
        )

    async def events(self, items: Items) -> AsyncIterator[str]:
        request, receipts = self.chat.request, []
        try:
            for number in range(request.n):
                yield self._chunk(ChunkChoice(index=number, delta=Delta(role="assistant", content="")))
            async for number, item in items:
                if isinstance(item, Answer):
                    receipts.append(item.receipt)
                    last = ChunkChoice(
                        index=number, delta=Delta(), finish_reason=item.receipt.finish, evidence=evidence_out(item)
                    )
                    yield self._chunk(last, receipt=self.service.receipt(self.chat, item) if number == 0 else None)
                elif item.text or (item.token and request.logprobs):
                    logprobs = self._logprobs([item.token] if item.token else [])
                    yield self._chunk(ChunkChoice(index=number, delta=Delta(content=item.text), logprobs=logprobs))
            if request.stream_options and request.stream_options.include_usage:
                yield self._chunk(usage=_usage(receipts))
            yield "data: [DONE]\n\n"
        except APIError as error:
            yield f"data: {json.dumps(error.body)}\n\n"

    def _chunk(self, *choices: ChunkChoice, **more: Any) -> str:
        chunk = ChatChunk(id=self.id, created=self.created, model=self.model, choices=list(choices), **more)
        return f"data: {chunk.model_dump_json(exclude_none=True)}\n\n"

    def _logprobs(self, tokens: list[Token]) -> ChoiceLogprobs | None:
        if not self.chat.request.logprobs:
            return None
        content = []
        for token in tokens:
            assert token.logprob is not None  # asked for
            top = [self._logprob(*one) for one in token.top]
            content.append(TokenLogprob(**dict(self._logprob(token.id, token.logprob)), top_logprobs=top))
        return ChoiceLogprobs(content=content)

    def _logprob(self, token: int, logprob: float) -> TopLogprob:
        text = self.service.model.processor.tokenizer.decode([token])
        return TopLogprob(token=text, logprob=max(logprob, -9999.0), bytes=list(text.encode()))


def _usage(receipts: list[Receipt]) -> Usage:
    """The prompt counts once, however many answers it had."""
    made = sum(receipt.completion_tokens for receipt in receipts)
    first = receipts[0]
    return Usage(
        prompt_tokens=first.prompt_tokens,
        completion_tokens=made,
        total_tokens=first.prompt_tokens + made,
        prompt_tokens_details=CachedTokens(cached_tokens=first.cached_tokens),
    )


class ResponseEvents:
    """One response of the Responses API, whole or as events."""

    def __init__(self, service: Service, chat: Chat, request: ResponsesRequest):
        self.service, self.chat, self.request = service, chat, request
        self.id, self.created = f"resp_{secrets.token_hex(12)}", int(time())
        self.message_id = f"msg_{secrets.token_hex(12)}"
        self._number = -1

    async def whole(self, items: Items) -> ResponseObject:
        async for _, item in items:
            if isinstance(item, Answer):
                return self._response(item)
        raise RuntimeError("the stream ended without an answer")

    async def events(self, items: Items) -> AsyncIterator[str]:
        place = {"item_id": self.message_id, "output_index": 0, "content_index": 0}
        try:
            for name in ("created", "in_progress"):
                yield self._event(f"response.{name}", response=self._response(None).model_dump())
            yield self._event("response.output_item.added", output_index=0, item=self._message("in_progress"))
            yield self._event("response.content_part.added", **place, part=OutputText(text="").model_dump())
            async for _, item in items:
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
        self._number += 1
        return f"event: {kind}\ndata: {json.dumps({'type': kind, 'sequence_number': self._number, **values})}\n\n"

    def _message(self, status: str, *content: OutputText) -> dict[str, Any]:
        return OutputMessage.model_validate(
            {"id": self.message_id, "status": status, "content": list(content)}
        ).model_dump()

    def _response(self, answer: Answer | None) -> ResponseObject:
        request = self.request
        made = ResponseObject(
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
        )
        if answer is None:
            return made
        receipt = answer.receipt
        cut = receipt.finish == "length"
        made.status = "incomplete" if cut else "completed"
        made.incomplete_details = IncompleteDetails(reason="max_output_tokens") if cut else None
        made.output = [OutputMessage(id=self.message_id, status=made.status, content=[OutputText(text=answer.text)])]
        made.evidence, made.receipt = evidence_out(answer), self.service.receipt(self.chat, answer)
        made.usage = ResponseUsage(
            input_tokens=receipt.prompt_tokens,
            input_tokens_details=InputTokens(cached_tokens=receipt.cached_tokens),
            output_tokens=receipt.completion_tokens,
            total_tokens=receipt.prompt_tokens + receipt.completion_tokens,
        )
        return made
