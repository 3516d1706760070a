"""A language model that judges answers.

The aspects are right or wrong (`accuracy`) and the five aspects of Video-ChatGPT (Maaz et al. 2023,
https://github.com/mbzuai-oryx/Video-ChatGPT, `quantitative_evaluation`). The prompts are files in `prompts/`, which
reports identify by a hash. A reply in another format than its prompt asks for is a failure: it is counted and reported,
and never becomes a score.
"""

import asyncio
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
from threading import Thread
from time import perf_counter
from typing import Any, Protocol

from videollm.chat.answer import Answer
from videollm.chat.turn import fit_to_context, generate_answer
from videollm.datasets.text_file import split_lines
from videollm.errors import ConfigError, ContextOverflowError
from videollm.inference.engine import LocalEngine, PromptCache
from videollm.inference.prompts import ChatPrompt, prompt_environment
from videollm.inference.sampling import GenerationConfig
from videollm.model import Model
from videollm.models.processor import Message

ASPECTS = ("accuracy", "correctness", "detail", "context", "temporal", "consistency")
MAX_SCORE = 5.0
REPLY_TOKENS = 200  # a reply is one small JSON object
TIMEOUT_S = 120.0  # for one reply
CONCURRENCY = 8  # simultaneous requests to a server

_FENCED = re.compile(r"^```(?:json)?\s*(.*?)\s*```$", re.DOTALL)


class Judge(Protocol):
    """Judges one answer at a time. `name` identifies the pinned model in the report."""

    name: str

    def complete(self, messages: list[dict[str, str]], schema: Mapping[str, Any]) -> str:
        """Returns the reply to a prompt. Raises ValueError if there is none to this prompt, and a VideoLLMError if the
        judge cannot be used at all."""
        ...


class JudgePrompt(ChatPrompt):
    """The prompt for one aspect, which is its name."""

    @property
    def schema(self) -> dict[str, Any]:
        """JSON Schema of the reply."""
        score = {"type": "number", "minimum": 0, "maximum": MAX_SCORE}
        properties = {"correct": {"type": "boolean"}, "score": score} if self.name == "accuracy" else {"score": score}
        return {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }


@cache
def prompt(aspect: str) -> JudgePrompt:
    """Raises ConfigError if there is no such aspect."""
    if aspect not in ASPECTS:
        raise ConfigError(f"there is no aspect {aspect!r}; choose from {', '.join(ASPECTS)}")
    return JudgePrompt.load(prompt_environment("videollm.evaluate"), f"{aspect}.jinja")


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One answer to judge.

    Args:
        id: The id of the item.
        question: What was asked.
        answer: The right answer.
        prediction: The answer to judge.
        paraphrase, second: The question in other words and the answer to that, for the aspect `consistency`.
    """

    id: str
    question: str
    answer: str
    prediction: str
    paraphrase: str = ""
    second: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """The judgement of one case in one aspect.

    Args:
        id: The id of the case.
        aspect: One of `ASPECTS`.
        score: 0 to 5.
        correct: Whether the answer is right; of the aspect `accuracy` only.
        failure: Why there is neither, or None.
    """

    id: str
    aspect: str
    score: float | None = None
    correct: bool | None = None
    failure: str | None = None


class EndpointJudge:
    """A model behind an OpenAI-compatible server. The key comes from the environment variable OPENAI_API_KEY.

    Args:
        base_url: The server, up to and including /v1.
        model: The name of the model on the server.
    """

    def __init__(self, base_url: str, model: str):
        # Imported here, so that a local judge does not need the extra `eval`.
        from videollm.inference.openai import ChatClient

        self.name = model
        key = os.environ.get("OPENAI_API_KEY")
        self._client = ChatClient(base_url, model, key=key, concurrency=CONCURRENCY, timeout_s=TIMEOUT_S)
        # The client belongs to one event loop, while verdicts come from several threads: the loop gets its own thread.
        self._loop = asyncio.new_event_loop()
        Thread(target=self._loop.run_forever, daemon=True, name="judge").start()

    def complete(self, messages: list[dict[str, str]], schema: Mapping[str, Any]) -> str:
        from videollm.inference.openai import RefusedError

        asked = self._client.complete(messages, schema, seed=0, temperature=0, max_tokens=REPLY_TOKENS)
        try:
            return asyncio.run_coroutine_threadsafe(asked, self._loop).result().text
        except RefusedError as error:  # of this request only
            raise ValueError(str(error)) from error


class LocalJudge:
    """The language model of a checkpoint in this process; it sees no video."""

    def __init__(self, model: Model):
        self.model = model
        self.name = f"{model.config.name} {model.config.sha}"
        self._engine = LocalEngine(model.llm, model.processor.stop_ids)
        longest = min(REPLY_TOKENS, model.config.prompt.max_new_tokens)
        self._generation = GenerationConfig(max_new_tokens=longest)

    def complete(self, messages: list[dict[str, str]], schema: Mapping[str, Any]) -> str:
        spoken = [Message(**message) for message in messages]
        try:
            asked = fit_to_context(self.model, spoken, [], self._generation.max_new_tokens)
        except ContextOverflowError as error:
            raise ValueError(str(error)) from error
        made = generate_answer(
            self.model, self._engine, asked, spoken[-1].content, [], PromptCache(), self._generation, {}, perf_counter()
        )
        return next(piece for piece in made if isinstance(piece, Answer)).text


def parse(text: str, asked: JudgePrompt) -> dict[str, Any]:
    """The values of a reply. Raises ValueError if it is not exactly what the prompt asks for."""
    fenced = _FENCED.match(text.strip())
    values = json.loads(fenced[1] if fenced else text)
    wanted = asked.schema["properties"]
    if not isinstance(values, dict) or set(values) != set(wanted):
        raise ValueError(f"not an object with {', '.join(wanted)}")
    score = values["score"]
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= MAX_SCORE:
        raise ValueError(f"score is {score!r}, not a number from 0 to {MAX_SCORE:g}")
    if not isinstance(values.get("correct", True), bool):
        raise ValueError(f"correct is {values['correct']!r}, neither true nor false")
    return values | {"score": float(score)}


def verdict(judge: Judge, case: Case, aspect: str) -> Verdict:
    """Judges one case. Raises a VideoLLMError if the judge cannot be used."""
    asked = prompt(aspect)
    values = {name: value for name, value in asdict(case).items() if name != "id"}
    try:
        text = judge.complete(asked.render(**values), asked.schema)
    except ValueError as error:
        return Verdict(id=case.id, aspect=aspect, failure=str(error))
    try:
        return Verdict(id=case.id, aspect=aspect, **parse(text, asked))
    except ValueError as error:
        return Verdict(id=case.id, aspect=aspect, failure=f"{error}: {text[:100]!r}")


def verdicts(judge: Judge, cases: Sequence[Case], aspects: Sequence[str], journal: Path) -> list[Verdict]:
    """The verdicts on every case in every aspect, in order.

    Every verdict is appended to the journal as soon as it is known. Verdicts that the journal holds for the same judge,
    prompt and case are not asked for again, so that a stopped run goes on where it stopped.
    """
    known = dict(_journal(journal))
    work = [(case, aspect) for case in cases for aspect in aspects if aspect != "consistency" or case.second]
    missing = [(case, aspect) for case, aspect in work if _key(judge, case, aspect) not in known]
    journal.parent.mkdir(parents=True, exist_ok=True)
    # One process has one local model, which answers one prompt at a time.
    together = 1 if isinstance(judge, LocalJudge) else CONCURRENCY
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
    for line in split_lines(whole.decode()):
        row = json.loads(line)
        yield row["key"], Verdict(**row["verdict"])


def frozen() -> tuple[list[Case], dict[str, dict[str, Any]]]:
    """The frozen predictions, and the verdicts of people on them by id."""
    text = resources.files("videollm.evaluate").joinpath("prompts", "frozen.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in split_lines(text)]
    cases = [Case(**{k: row[k] for k in ("id", "question", "answer", "prediction")}) for row in rows]
    return cases, {row["id"]: row for row in rows}
