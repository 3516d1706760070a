"""Base classes of requests and replies."""

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator


class RequestModel(BaseModel):
    """A JSON object in a request. An unknown field is refused by name, and null is the same as an absent field."""

    # OpenAI's clients send options that this server does not have. Ignoring them would change answers silently.
    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, values: Any) -> Any:
        if isinstance(values, dict):
            return {name: value for name, value in values.items() if value is not None}
        return values


class ReplyModel(BaseModel):
    """A JSON object in a reply."""
