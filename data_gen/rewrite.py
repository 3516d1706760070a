"""What `translate.py` and `paraphrase.py` share: a file of instruction data becomes another, one row after the other.

Each row keeps its video, times and task. A row that no reply of the language model can replace is refused and
counted. The same command continues a run that was stopped.
"""

import argparse
import asyncio
import os
import sys
import zlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from tqdm import tqdm

from data_gen.filters import language as wrong_language
from data_gen.generators.build import chat_client
from data_gen.generators.config import GeneratorConfig
from data_gen.generators.conversation import Conversation
from data_gen.make_instructions import add_server_arguments
from data_gen.prompts import prompts
from data_gen.store import Reject, Store
from videollm.datasets.schema import Message, Sample, read
from videollm.errors import DataError, VideoLLMError
from videollm.inference.openai import ChatClient


@dataclass(frozen=True, slots=True)
class Rewriting:
    """What is done to the rows of a file.

    Args:
        program: The name of the command.
        prompt: The name of the prompt, which is also that of the step that refuses rows.
        done: The past participle that the provenance adds to the generator.
        row: Returns the row with what changes beside its messages.
        messages: Returns the new messages of a row, or nothing.
    """

    program: str
    prompt: str
    done: str
    row: Callable[[Sample], Sample]
    messages: Callable[[Conversation, Sample], Awaitable[list[Message]]]


def add_arguments(top: argparse.ArgumentParser) -> None:
    """Adds the options that both commands have."""
    top.add_argument("file", type=Path, help="samples (JSON Lines), such as those of make_instructions.py")
    top.add_argument("--out", type=Path, required=True, help="file to write or to continue")
    top.add_argument("--seed", type=int, default=0, help="of the language model (default: 0)")
    add_server_arguments(top)


async def rewrite_file(
    rows: Iterator[Sample], store: Store, client: ChatClient, options: argparse.Namespace, how: Rewriting
) -> None:
    """Rewrites rows that the store does not have, `options.concurrency` at a time.

    Raises EndpointError if the server cannot be used. Rows that were done before stay done.
    """
    todo = (row for row in rows if row.id not in store.done)

    async def worker(bar: tqdm) -> None:
        for row in todo:
            asked = Conversation(client, zlib.crc32(f"{options.seed}/{row.id}".encode()))
            messages = await how.messages(asked, row)
            made = _rewritten(row, tuple(messages or row.messages), client.model, options, how)
            refused = _problem(row, made) if messages else asked.unusable[-1]
            rejects = [Reject(step=how.prompt, reason=refused, draft=asdict(made))] if refused else []
            store.commit(
                row.id,
                [] if refused else [made],
                rejects,
                unusable=asked.unusable,
                prompt_tokens=asked.prompt_tokens,
                completion_tokens=asked.completion_tokens,
            )
            bar.update()

    try:
        with tqdm(unit="row", disable=None) as bar:
            async with asyncio.TaskGroup() as group:
                for _ in range(options.concurrency):
                    group.create_task(worker(bar))
    except* VideoLLMError as failed:
        raise failed.exceptions[0] from None


def _problem(row: Sample, made: Sample) -> str | None:
    if made.language == row.language and made.messages == row.messages:
        return "the words are the same as before"
    return wrong_language(made)


def _rewritten(
    row: Sample, messages: tuple[Message, ...], model: str, options: argparse.Namespace, how: Rewriting
) -> Sample:
    provenance = replace(
        row.provenance,
        generator=f"{row.provenance.generator} {how.done}",
        model=model,
        prompt_sha=prompts()[how.prompt].sha,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seed=options.seed,
    )
    video = row.video and Path(os.path.relpath(options.file.parent / row.video, options.out.parent)).as_posix()
    return replace(how.row(row), video=video, messages=messages, provenance=provenance)


def run(options: argparse.Namespace, how: Rewriting) -> int:
    """Rewrites `options.file` to `options.out` and returns the exit status."""
    try:
        config = GeneratorConfig(
            generator="llm",
            base_url=options.base_url,
            model=options.model,
            key_variable=options.key_variable,
            concurrency=options.concurrency,
            rate=options.rate,
        )
        if options.out.resolve() == options.file.resolve():
            raise DataError(f"--out {options.out} is the file to read; choose another")
        with Store(options.out) as store:
            asyncio.run(rewrite_file(read(options.file), store, chat_client(config, options.model), options, how))
            refused = store.totals.rejected.total()
            print(f"{store.path}: {store.totals.rows} rows, {refused} refused; see {store.rejects_path}")
    except VideoLLMError as error:
        print(f"{how.program}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{how.program}: stopped; the same command continues from here", file=sys.stderr)
        return 130  # 128 + SIGINT, as shells report it
    return 0
