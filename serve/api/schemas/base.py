"""Base classes of requests and replies."""

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

Item = TypeVar("Item")
# A list in a request. It is bounded, and checked up to its first wrong item only.
Items = Annotated[list[Item], Field(max_length=2048, fail_fast=True)]


class RequestModel(BaseModel):
    """A JSON object in a request. An unknown field is refused by name, and null is the same as an absent field."""

    # OpenAI's clients send options that this server does not have. Ignoring them would change answers silently.
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        given = {name: value for name, value in values.items() if value is not None}
        # One unknown name is enough for a refusal. Pydantic would make an error of each.
        unknown = next((name for name in given if name not in cls.model_fields), None)
        return {name: value for name, value in given.items() if name in cls.model_fields or name == unknown}


class ReplyModel(BaseModel):
    """A JSON object in a reply."""
