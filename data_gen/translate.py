"""Translate a file of instruction data with a language model.

    python data_gen/translate.py FILE --out FILE --language es --base-url URL --model NAME ...

Each row keeps its id, video, times and task. Rows whose numbers, times, placeholders or choices do not survive the
translation are refused and counted. The same command continues a run that was stopped.
"""

import argparse
import asyncio
import os
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

from tqdm import tqdm

from data_gen.filters import language as wrong_language
from data_gen.generators.build import chat_client
from data_gen.generators.config import GeneratorConfig
from data_gen.generators.conversation import Conversation
from data_gen.generators.translation import translate
from data_gen.make_instructions import add_server_arguments
from data_gen.prompts import prompts
from data_gen.store import Reject, Store
from videollm.datasets.schema import Message, Sample, read
from videollm.errors import DataError, VideoLLMError
from videollm.inference.openai import ChatClient


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(description="Translate a file of instruction data with a language model.")
    top.add_argument("file", type=Path, help="samples (JSON Lines), such as those of make_instructions.py")
    top.add_argument("--out", type=Path, required=True, help="file to write or to continue")
    top.add_argument("--language", required=True, metavar="CODE", help="language to translate to, such as es or zh")
    top.add_argument("--seed", type=int, default=0, help="of the language model (default: 0)")
    add_server_arguments(top)
    return top


async def translate_file(rows: Iterator[Sample], store: Store, client: ChatClient, options: argparse.Namespace) -> None:
    """Translates rows that the store does not have, `options.concurrency` at a time.

    Raises EndpointError if the server cannot be used. Rows that were done before stay done.
    """
    todo = (row for row in rows if row.id not in store.done)

    async def worker(bar: tqdm) -> None:
        for row in todo:
            asked = Conversation(client, zlib.crc32(f"{options.seed}/{row.id}".encode()))
            messages = await translate(asked, row.messages, options.language)
            made = _translated(row, tuple(messages or row.messages), client.model, options)
            refused = wrong_language(made) if messages else asked.unusable[-1]
            rejects = [Reject(step="translation", reason=refused, draft=asdict(made))] if refused else []
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


def _translated(row: Sample, messages: tuple[Message, ...], model: str, options: argparse.Namespace) -> Sample:
    provenance = replace(
        row.provenance,
        generator=f"{row.provenance.generator} translated",
        model=model,
        prompt_sha=prompts()["translation"].sha,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seed=options.seed,
    )
    video = row.video and Path(os.path.relpath(options.file.parent / row.video, options.out.parent)).as_posix()
    return replace(row, video=video, language=options.language, messages=messages, provenance=provenance)


def main(argv: Sequence[str] | None = None) -> int:
    options = parser().parse_args(argv)
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
            raise DataError(f"--out {options.out} is the file to translate; choose another")
        with Store(options.out) as store:
            asyncio.run(translate_file(read(options.file), store, chat_client(config, options.model), options))
            refused = store.totals.rejected.total()
            print(f"{store.path}: {store.totals.rows} rows, {refused} refused; see {store.rejects_path}")
    except VideoLLMError as error:
        print(f"translate: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("translate: stopped; the same command continues from here", file=sys.stderr)
        return 130  # 128 + SIGINT, as shells report it
    return 0


if __name__ == "__main__":
    sys.exit(main())
