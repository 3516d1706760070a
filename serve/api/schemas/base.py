"""Base classes of requests and replies."""

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

METADATA = 16  # most entries of a request's metadata, as in OpenAI's API

Item = TypeVar("Item")
# A list in a request. It is bounded, and checked up to its first wrong item only.
Items = Annotated[list[Item], Field(max_length=2048, fail_fast=True)]
# A text or a list, or a text or an object. Which of the two is meant shows in its type, so that an error is about one.
TextOr = Annotated[
    Annotated[str, Tag("text")] | Annotated[Item, Tag("other")],
    Discriminator(lambda value: "other" if isinstance(value, list | dict | BaseModel) else "text"),
]


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
        known = {field.alias or name for name, field in cls.model_fields.items()}
        # One unknown name is enough for a refusal. Pydantic would make an error of each.
        unknown = next((name for name in given if name not in known), None)
        return {name: value for name, value in given.items() if name in known or name == unknown}


def _few(values: Any) -> Any:
    """Checks the number of entries before the entries themselves, so that a large object costs as little as a small
    one."""
    if isinstance(values, dict) and len(values) > METADATA:
        raise ValueError(f"{len(values)} entries, the limit is {METADATA}")
    return values


class CallerOptions(RequestModel):
    """Fields that change no answer: they name the caller, or choose between services that OpenAI sells.

    They are checked and not used. A request may send them, because most clients do.
    """

    user: str | None = None
    safety_identifier: str | None = None
    metadata: Annotated[dict[str, str], BeforeValidator(_few)] = Field(default_factory=dict)
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None


class ReplyModel(BaseModel):
    """A JSON object in a reply."""
