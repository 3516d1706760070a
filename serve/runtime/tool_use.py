"""Functions that a request offers to the model: what is told of them, and which answers are then possible."""

import json
from typing import TYPE_CHECKING, Any

from serve.api.errors import APIError, api_errors
from serve.api.schemas.chat import ChatRequest
from serve.api.schemas.tools import JSONSchemaFormat, NamedTool, ResponseFormat, TextFormat
from serve.runtime.service import Service
from videollm.models.processor import SLOTS
from videollm.models.tool_format import function_tool

if TYPE_CHECKING:
    from videollm.inference.grammar import Grammar


def offered_tools(service: Service, request: ChatRequest) -> list[dict[str, Any]]:
    """Returns the functions that the model is told of, in the form of chat templates. Raises APIError."""
    choice = request.tool_choice
    names = [tool.function.name for tool in request.tools]
    wanted = choice.function.name if isinstance(choice, NamedTool) else None
    if wanted is not None and wanted not in names:
        raise _invalid(f"tool_choice: no function {wanted!r} is among tools", "tool_choice")
    if choice == "required" and not names:
        raise _invalid("tool_choice: a call is required, and tools has no function", "tool_choice")
    if choice == "none" or not names:
        return []
    if service.config.engine != "local":
        raise _invalid("tools: calling functions needs --engine local; leave tools out", "tools")
    if service.tool_format is None:
        model = service.model.config.name
        raise _invalid(f"tools: the chat template of {model!r} does not know functions; leave tools out", "tools")
    if len(set(names)) < len(names):
        raise _invalid("tools: two functions have one name", "tools")
    made = [function_tool(f.name, f.description, f.parameters) for f in (tool.function for tool in request.tools)]
    text = json.dumps(made, ensure_ascii=False)
    tokens = service.model.processor.tokenizer.all_special_tokens
    # The template's text may have special tokens. In a description they would end the system message.
    if found := next((token for token in tokens if token in text), None) or SLOTS.search(text):
        raise _invalid(f"tools: the text has a special token of the model ({found!r:.40}); leave it out", "tools")
    service.check_text([text], "tools")
    return made


def answer_grammar(service: Service, request: ChatRequest, tools: list[dict[str, Any]]) -> "Grammar | None":
    """Returns what answers must look like, None for any text. `tools` are those of `offered_tools`.

    Raises APIError for a schema that is wrong.
    """
    schema = _schema(request.response_format)
    if schema is None and not tools:
        return None
    from videollm.inference.grammar import Grammar, call_grammar, json_grammar  # imports llguidance

    processor, choice = service.model.processor, request.tool_choice
    if processor.tokenizer is None:
        return Grammar(schema)  # which the model's server follows
    if not tools:
        with api_errors("response_format"):
            return json_grammar(processor.tokenizer, processor.stop_ids, schema or {})
    assert service.tool_format is not None  # `offered_tools` refuses tools without
    functions = [(f.name, {**f.parameters, "type": "object"}) for f in (tool.function for tool in request.tools)]
    if isinstance(choice, NamedTool):
        functions = [one for one in functions if one[0] == choice.function.name]
    with api_errors("tools"):
        return call_grammar(
            processor.tokenizer,
            processor.stop_ids,
            service.tool_format,
            functions,
            required=choice != "auto",
            parallel=request.parallel_tool_calls and not isinstance(choice, NamedTool),
            schema=schema,
        )


def _schema(format: ResponseFormat) -> dict[str, Any] | None:
    if isinstance(format, TextFormat):
        return None
    return format.json_schema.json_schema if isinstance(format, JSONSchemaFormat) else {"type": "object"}


def _invalid(message: str, param: str) -> APIError:
    return APIError(400, message, "invalid_value", param=param)
