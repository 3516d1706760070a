"""Answers that follow a JSON schema, through OpenAI's own helpers."""

import json
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel

HI = [{"role": "user", "content": "Hi"}]
SHORT = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": False}


class Sighting(BaseModel):
    thing: Literal["cat", "rocket"]
    seconds: list[int]
    sure: bool


def test_parse_gives_the_object_that_was_asked_for(client: Any):
    for seed in range(3):
        made = client.chat.completions.parse(
            model="debug", messages=HI, response_format=Sighting, temperature=2, seed=seed, max_tokens=900
        )
        assert isinstance(made.choices[0].message.parsed, Sighting)
        assert made.choices[0].finish_reason == "stop"
    with client.chat.completions.stream(model="debug", messages=HI, response_format=Sighting, max_tokens=900) as stream:
        assert isinstance(stream.get_final_completion().choices[0].message.parsed, Sighting)
    assert isinstance(client.responses.parse(model="debug", input="Hi", text_format=Sighting).output_parsed, Sighting)


def test_json_object_and_a_schema_with_several_answers(client: Any):
    named = {"type": "json_schema", "json_schema": {"name": "a", "schema": SHORT, "strict": True}}
    made = client.chat.completions.create(model="debug", messages=HI, response_format=named, n=2)
    assert all(json.loads(choice.message.content)["a"] in (1, 2) for choice in made.choices)
    made = client.chat.completions.create(
        model="debug", messages=HI, response_format={"type": "json_object"}, max_tokens=8
    )
    assert made.choices[0].message.content.startswith("{")


@pytest.mark.parametrize(
    "schema", [{"type": "objekt"}, {"$ref": "http://example.com/a"}, {"type": "object", "not": {}}]
)
def test_a_schema_that_cannot_be_followed_is_refused_with_the_reason(client: Any, schema: dict):
    named = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    with pytest.raises(openai.BadRequestError, match="the schema cannot be followed") as refused:
        client.chat.completions.create(model="debug", messages=HI, response_format=named)
    assert refused.value.param == "response_format"
