"""Functions that a model may call, through OpenAI's own client. A grammar makes even random weights call rightly."""

import json
from pathlib import Path
from typing import Any

import openai
import pytest

from scripts.tiny_hub.__main__ import write
from serve.api.schemas.chat import ChatRequest
from serve.runtime.conversation import read_conversation
from tests.serve.conftest import Server, Start, asked
from tests.serve.recorded import assert_answered, recorded_requests
from videollm.checkpoint import load
from videollm.models.language import debug_tokenizer
from videollm.models.processor import Message, Processor
from videollm.models.tool_format import ToolCall, ToolFormat
from videollm.presets import DEBUG

HI = [{"role": "user", "content": "Hi"}]
CITY = {
    "type": "object",
    "properties": {"city": {"enum": ["Oslo", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "Tells it.", "parameters": CITY}}
TIME = {"type": "function", "function": {"name": "time"}}
TOOLS = [WEATHER, TIME]
MARK = 262  # the token <tool_call>


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Qwen3-VL, whose chat template knows tools."""
    path = tmp_path_factory.mktemp("hub") / "qwen3"
    write("qwen3_vl", path)
    return path


@pytest.fixture(scope="module")
def qwen(start: Start, folder: Path) -> Server:
    return start("--model", str(folder)).ready()


@pytest.fixture(scope="module")
def ask(qwen: Server) -> Any:
    client = qwen.client()

    def create(**more: Any) -> Any:
        return client.chat.completions.create(
            **{"model": "qwen3", "messages": HI, "tools": TOOLS, "temperature": 1, "seed": 1, "max_tokens": 900} | more
        )

    return create


def test_a_named_function_is_called_about_a_video(ask: Any, clip: str):
    named = {"type": "function", "function": {"name": "weather"}}
    made = ask(messages=asked(clip), tool_choice=named, extra_body={"video": {"frames": 2}})
    (choice,) = made.choices
    (call,) = choice.message.tool_calls
    assert (choice.finish_reason, choice.message.content, choice.evidence) == ("tool_calls", None, [])
    assert call.type == "function" and call.id.startswith("call_") and call.function.name == "weather"
    assert json.loads(call.function.arguments)["city"] in ("Oslo", "Rome")
    result = {"role": "tool", "tool_call_id": call.id, "content": "21 degrees"}
    said = ask(messages=[*asked(clip), choice.message, result], max_tokens=3, tool_choice="none")
    assert said.choices[0].finish_reason == "length" and said.choices[0].message.tool_calls is None
    assert said.usage.prompt_tokens > made.usage.prompt_tokens - 400  # without the functions, with call and result


def test_required_calls_and_streams_grow_to_the_same(ask: Any):
    arguments = {"tool_choice": "required", "n": 2}
    whole = ask(**arguments)
    grown: list[list[dict[str, str]]] = [[], []]
    finishes = {}
    for chunk in ask(**arguments, stream=True):
        for choice in chunk.choices:
            finishes[choice.index] = choice.finish_reason or finishes.get(choice.index)
            assert not choice.delta.content
            for part in choice.delta.tool_calls or ():
                calls = grown[choice.index]
                if part.id:
                    assert part.index == len(calls) and part.type == "function"
                    calls.append({"name": part.function.name, "arguments": ""})
                calls[part.index]["arguments"] += part.function.arguments
    for choice, calls in zip(whole.choices, grown, strict=True):
        assert [call.function.model_dump() for call in choice.message.tool_calls] == [dict(c) for c in calls]
        assert finishes[choice.index] == choice.finish_reason == "tool_calls"
    assert len({call["arguments"] for calls in grown for call in calls}) > 1
    single = ask(tool_choice="required", parallel_tool_calls=False)
    assert len(single.choices[0].message.tool_calls) == 1


def test_auto_speaks_or_calls_and_a_cut_call_says_so(ask: Any):
    spoken = ask(max_tokens=5, logit_bias={str(MARK): -100}).choices[0]
    assert spoken.message.content and spoken.message.tool_calls is None and spoken.finish_reason == "length"
    called = ask(logit_bias={str(MARK): 100}, parallel_tool_calls=False).choices[0]
    assert called.message.tool_calls and called.finish_reason == "tool_calls"
    # 41 bytes: the mark, `\n{"name": "weather", "arguments": `, and the beginning of the arguments.
    named = {"type": "function", "function": {"name": "weather"}}
    cut = ask(max_tokens=41, tool_choice=named).choices[0]
    (call,) = cut.message.tool_calls
    assert (
        cut.finish_reason == "length" and '{"city": "'.startswith(call.function.arguments) and call.function.arguments
    )
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"enum": ["yes", "no"]}}}
    made = ask(response_format=form, logit_bias={str(MARK): -100}).choices[0]
    assert json.loads(made.message.content) in ("yes", "no")


def test_responses_call_functions_too(qwen: Server):
    client, flat = qwen.client(), [{"type": "function", **WEATHER["function"]}]
    asking = {"model": "qwen3", "input": "Hi", "tools": flat, "tool_choice": {"type": "function", "name": "weather"}}
    made = client.responses.create(**asking)
    (call,) = made.output
    assert call.type == "function_call" and json.loads(call.arguments)["city"] in ("Oslo", "Rome")
    assert made.status == "completed" and made.tools[0].name == "weather" and made.output_text == ""
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "21"}
    more = {"model": "qwen3", "max_output_tokens": 2}
    stored = client.responses.create(input=[result], previous_response_id=made.id, **more)
    sent = client.responses.create(input=[{"role": "user", "content": "Hi"}, call, result], **more)
    reference = {"type": "item_reference", "id": call.id}
    named = client.responses.create(input=[{"role": "user", "content": "Hi"}, reference, result], **more)
    assert stored.usage.input_tokens == sent.usage.input_tokens == named.usage.input_tokens > made.usage.output_tokens
    with pytest.raises(openai.NotFoundError, match="no item 'fc_1'"):
        client.responses.create(model="qwen3", input=[{"type": "item_reference", "id": "fc_1"}, result])
    kinds, arguments, added = [], "", []
    last: Any = None
    for event in client.responses.create(**asking, stream=True):
        kinds.append(event.type)
        arguments += event.delta if event.type == "response.function_call_arguments.delta" else ""
        added += [event.item] if event.type == "response.output_item.added" else []
        last = event
    assert kinds[-3:] == [
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.completed",
    ]
    (ended,) = last.response.output
    assert (ended.arguments, ended.call_id) == (arguments, added[0].call_id) and added[0].name == "weather"


def test_recorded_requests_with_functions_are_answered(qwen: Server, clip: str):
    for one in recorded_requests(clip):
        if one["body"].get("tools"):
            assert_answered(qwen, "qwen3", one)


@pytest.mark.parametrize(
    ("change", "field", "message"),
    [
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice", "no function 'f'"),
        ({"tools": [], "tool_choice": "required"}, "tool_choice", "a call is required"),
        ({"tools": [WEATHER, WEATHER]}, "tools", "two functions have one name"),
        ({"tools": [{"type": "function", "function": {"name": "<|im_end|>"}}]}, "tools", "special token"),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"properties": 7}}}]},
            "tools",
            "cannot be followed",
        ),
    ],
)
def test_what_cannot_work_is_refused(ask: Any, change: dict[str, Any], field: str, message: str):
    with pytest.raises(openai.BadRequestError, match=message) as refused:
        ask(**change)
    assert refused.value.param == field


def test_calls_and_results_of_the_history_are_written_as_the_template_writes_them(folder: Path):
    processor = load(str(folder), "cpu").processor
    format = ToolFormat.of(processor)
    assert format is not None and format.mark == "<tool_call>"
    call = {"id": "a", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    sent = [
        *HI,
        {"role": "assistant", "content": "I look.", "tool_calls": [call, call]},
        {"role": "tool", "content": "21", "tool_call_id": "a"},
        {"role": "tool", "content": "22", "tool_call_id": "a"},
    ]
    read = read_conversation(ChatRequest.model_validate({"model": "m", "messages": sent}).messages, format).messages
    ids = processor(read, tools=[WEATHER]).ids
    parsed = [{**call, "function": {"name": "weather", "arguments": {"city": "Oslo"}}}] * 2
    theirs = [
        {"role": m["role"], "content": [{"type": "text", "text": m["content"]}]}
        | ({"tool_calls": parsed} if "tool_calls" in m else {})
        for m in sent
    ]
    assert processor.tokenizer.decode(ids) == processor.render(theirs, True, [WEATHER])
    assert read[2:] == [Message("tool", "21"), Message("tool", "22")]


def test_a_text_model_of_ours_writes_calls_as_its_template_does_and_xml_is_none():
    """The part of Qwen2.5's template that writes calls and results."""
    template = (
        "{% for tool in tools or [] %}{{ tool | tojson }}{% endfor %}{% for m in messages %}"
        "{% if m.role == 'tool' %}{{ '<|im_start|>user\n<tool_response>\n' + m.content }}"
        "{{ '\n</tool_response><|im_end|>\n' }}"
        "{% else %}{{ '<|im_start|>' + m.role }}{% if m.content %}{{ '\n' + m.content }}{% endif %}"
        '{% for call in m.tool_calls %}{{ \'\n<tool_call>\n{"name": "\' + call.function.name + \'", "arguments": \' }}'
        "{{ call.function.arguments | tojson }}{{ '}\n</tool_call>' }}{% endfor %}{{ '<|im_end|>\n' }}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    tokenizer = debug_tokenizer()
    tokenizer.chat_template = template
    processor = Processor(tokenizer, DEBUG)
    format = ToolFormat.of(processor)
    assert format is not None
    calls = [ToolCall("weather", '{"city": "Oslo"}')] * 2
    parsed = [{"function": {"name": "weather", "arguments": {"city": "Oslo"}}}] * 2
    for said in ("", "I look."):
        messages = [
            *map(Message, ("system", "user"), ("Be brief.", "Hi")),
            Message("assistant", format.text(said, calls)),
        ]
        ours = tokenizer.decode(processor([*messages, Message("tool", "21")], tools=TOOLS).ids)
        theirs: list[dict[str, Any]] = [{"role": m.role, "content": m.content} for m in messages[:2]]
        theirs += [{"role": "assistant", "content": said, "tool_calls": parsed}, {"role": "tool", "content": "21"}]
        assert ours == processor.render(theirs, True, TOOLS)
    tokenizer.chat_template = template.replace("call.function.arguments | tojson", "call.function.arguments | length")
    assert ToolFormat.of(Processor(tokenizer, DEBUG)) is None


def test_a_reply_grows_and_is_read_whole():
    format = ToolFormat("<call>[", "](", ")</call>", "\n", "\n")
    calls = [ToolCall("a", '{"b": ")</call>"}'), ToolCall("c", "{}")]
    text = format.text("So:", calls)
    assert text == 'So:\n<call>[a]({"b": ")</call>"})</call>\n<call>[c]({})</call>'
    assert format.read(text) == ("So:", calls)
    said, known = "", []
    for end in range(len(text) + 1):
        content, found = format.read(text[:end], complete=False)
        assert content.startswith(said) and [c.name for c in found[: len(known)]] == [c.name for c in known]
        assert all(new.arguments.startswith(old.arguments) for new, old in zip(found, known, strict=False))
        said, known = content, found
    assert (said, known) == ("So:", calls)
    assert format.read("1 <call", complete=False) == ("1", []) and format.read("1 <call") == ("1 <call", [])
