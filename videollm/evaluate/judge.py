"""A language model as judge of answers: Video-ChatGPT's five aspects (Maaz et al. 2023) and right or wrong.

Prompts are files in `prompts/`, known by their hash. A reply that is not what its prompt asks for is a failure: it is
counted and shown, and never becomes a score.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from string import Template
from time import perf_counter, sleep
from typing import Any, Protocol

import httpx2 as httpx

from videollm.chat.answer import Answer
from videollm.chat.turn import fit_to_context, generate_answer
from videollm.checkpoint import Model
from videollm.errors import ConfigError, ContextOverflowError, VideoLLMError
from videollm.inference.engine import LocalEngine, PromptCache
from videollm.inference.sampling import GenerationConfig
from videollm.models.processor import Message

ASPECTS = ("accuracy", "correctness", "detail", "context", "temporal", "consistency")
BEST = 5.0
REPLY_TOKENS = 200
TRIES, FIRST_WAIT_S = 4, 0.5
TOGETHER = 8  # requests to a server at a time

_RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_FENCED = re.compile(r"^```(?:json)?\s*(.*?)\s*```$", re.DOTALL)


class JudgeError(VideoLLMError):
    """The judge cannot be reached or used at all."""


class Judge(Protocol):
    """name: the pinned model, as the report states it."""

    name: str

    def complete(self, system: str, user: str, schema: Mapping[str, Any]) -> str:
        """Its reply. Raises ValueError where it has none to this one, JudgeError where it cannot be used."""
        ...


@dataclass(frozen=True, slots=True)
class Prompt:
    """sha: 12 hex digits that change with any word of it."""

    aspect: str
    system: str
    user: Template
    sha: str

    @property
    def schema(self) -> dict[str, Any]:
        score = {"type": "number", "minimum": 0, "maximum": BEST}
        properties = {"correct": {"type": "boolean"}, "score": score} if self.aspect == "accuracy" else {"score": score}
        return {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }


@cache
def prompt(aspect: str) -> Prompt:
    """Raises ConfigError for an aspect that there is not."""
    if aspect not in ASPECTS:
        raise ConfigError(f"there is no aspect {aspect!r}; choose from {', '.join(ASPECTS)}")
    text = _file(f"{aspect}.txt")
    system, user = text.split("\n---\n")
    return Prompt(aspect, system.strip(), Template(user.strip()), hashlib.sha256(text.encode()).hexdigest()[:12])


def _file(name: str) -> str:
    return resources.files("videollm.evaluate").joinpath("prompts", name).read_text(encoding="utf-8")


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """What is judged. paraphrase, second: the question in other words and what was answered to that."""

    id: str
    question: str
    answer: str
    prediction: str
    paraphrase: str = ""
    second: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """score: 0 to 5. correct: of "accuracy" only. failure: why there is neither."""

    id: str
    aspect: str
    score: float | None = None
    correct: bool | None = None
    failure: str | None = None


class EndpointJudge:
    """A model behind an OpenAI-compatible server. base_url: up to and with /v1. The key comes from OPENAI_API_KEY."""

    def __init__(self, base_url: str, model: str, first_wait_s: float = FIRST_WAIT_S):
        self.name, self.first_wait_s = model, first_wait_s
        self._url = f"{base_url.rstrip('/')}/chat/completions"
        key = os.environ.get("OPENAI_API_KEY")
        self._http = httpx.Client(headers={"Authorization": f"Bearer {key}"} if key else {}, timeout=120.0)

    def complete(self, system: str, user: str, schema: Mapping[str, Any]) -> str:
        form = {"type": "json_schema", "json_schema": {"name": "verdict", "schema": schema, "strict": True}}
        body = {
            "model": self.name,
            "messages": [{"role": "system", "content": system}, {"role": "user", "content": user}],
            "temperature": 0,
            "seed": 0,
            "max_tokens": REPLY_TOKENS,
            "response_format": form,
        }
        response = self._send(body)
        if response.status_code in (400, 422):  # a server without JSON Schema is left to the prompt
            response = self._send({name: value for name, value in body.items() if name != "response_format"})
        if not response.is_success:
            raise JudgeError(f"{self._url} answers {response.status_code}: {response.text[:200]}")
        try:
            return response.json()["choices"][0]["message"]["content"] or ""
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise ValueError(f"no chat completion: {response.text[:100]!r}") from error

    def _send(self, body: Mapping[str, Any]) -> httpx.Response:
        trouble = ""
        for attempt in range(TRIES):
            if attempt:
                sleep(self.first_wait_s * 2 ** (attempt - 1))
            try:
                response = self._http.post(self._url, json=body)
            except httpx.TransportError as error:
                trouble = f"{type(error).__name__} {error}"
                continue
            if response.status_code not in _RETRIED:
                return response
            trouble = f"it answers {response.status_code}"
        raise JudgeError(f"{self._url} gave no answer in {TRIES} tries ({trouble.strip()}); is the server up?")


class LocalJudge:
    """The language model of a checkpoint, without a video, in this process."""

    def __init__(self, model: Model):
        self.model = model
        self.name = f"{model.config.name} {model.config.sha}"
        self._engine = LocalEngine(model.llm, model.processor.stop_ids)
        longest = min(REPLY_TOKENS, model.config.prompt.max_new_tokens)
        self._generation = GenerationConfig(max_new_tokens=longest)

    def complete(self, system: str, user: str, schema: Mapping[str, Any]) -> str:
        messages = [Message("system", system), Message("user", user)]
        try:
            asked = fit_to_context(self.model, messages, [], self._generation.max_new_tokens)
        except ContextOverflowError as error:
            raise ValueError(str(error)) from error
        made = generate_answer(
            self.model, self._engine, asked, user, [], PromptCache(), self._generation, {}, perf_counter()
        )
        return next(piece for piece in made if isinstance(piece, Answer)).text


def parse(text: str, asked: Prompt) -> dict[str, Any]:
    """What a reply says. Raises ValueError where it is not exactly what the prompt asks for."""
    fenced = _FENCED.match(text.strip())
    values = json.loads(fenced[1] if fenced else text)
    wanted = asked.schema["properties"]
    if not isinstance(values, dict) or set(values) != set(wanted):
        raise ValueError(f"not an object with {', '.join(wanted)}")
    score = values["score"]
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= BEST:
        raise ValueError(f"score is {score!r}, not a number from 0 to {BEST:g}")
    if not isinstance(values.get("correct", True), bool):
        raise ValueError(f"correct is {values['correct']!r}, neither true nor false")
    return values | {"score": float(score)}


def verdict(judge: Judge, case: Case, aspect: str) -> Verdict:
    """Raises JudgeError where the judge cannot be used."""
    asked = prompt(aspect)
    values = {name: value for name, value in asdict(case).items() if name != "id"}
    try:
        text = judge.complete(asked.system, asked.user.substitute(values), asked.schema)
    except ValueError as error:
        return Verdict(id=case.id, aspect=aspect, failure=str(error))
    try:
        return Verdict(id=case.id, aspect=aspect, **parse(text, asked))
    except ValueError as error:
        return Verdict(id=case.id, aspect=aspect, failure=f"{error}: {text[:100]!r}")


def verdicts(judge: Judge, cases: Sequence[Case], aspects: Sequence[str], journal: Path) -> list[Verdict]:
    """Of every case in every aspect, in order. What the journal holds of the same judge, prompt and case is not asked
    again."""
    known = dict(_journal(journal))
    work = [(case, aspect) for case in cases for aspect in aspects if aspect != "consistency" or case.second]
    missing = [(case, aspect) for case, aspect in work if _key(judge, case, aspect) not in known]
    journal.parent.mkdir(parents=True, exist_ok=True)
    together = 1 if isinstance(judge, LocalJudge) else TOGETHER
    with journal.open("a", encoding="utf-8") as file, ThreadPoolExecutor(together) as pool:
        for (case, aspect), found in zip(missing, pool.map(lambda w: verdict(judge, *w), missing), strict=True):
            key = _key(judge, case, aspect)
            known[key] = found
            file.write(json.dumps({"key": key, "verdict": asdict(found)}, ensure_ascii=False) + "\n")
            file.flush()
    return [known[_key(judge, case, aspect)] for case, aspect in work]


def _key(judge: Judge, case: Case, aspect: str) -> str:
    parts = [judge.name, prompt(aspect).sha, asdict(case)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


def _journal(path: Path) -> Iterator[tuple[str, Verdict]]:
    if not path.is_file():
        return
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):  # a run was stopped in the middle of a line
        os.truncate(path, len(whole))
    for line in whole.decode().splitlines():
        row = json.loads(line)
        yield row["key"], Verdict(**row["verdict"])


def frozen() -> tuple[list[Case], dict[str, dict[str, Any]]]:
    """The frozen predictions, and what people say of them by id."""
    rows = [json.loads(line) for line in _file("frozen.jsonl").splitlines()]
    cases = [Case(**{k: row[k] for k in ("id", "question", "answer", "prediction")}) for row in rows]
    return cases, {row["id"]: row for row in rows}
