"""Answers that are made side by side."""

import asyncio
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from itertools import pairwise
from typing import Any

import httpx
import openai
import pytest
import torch

from serve.runtime.caches import PrefixCache
from serve.runtime.executor import ModelExecutor, run_in_new_thread
from tests.serve.conftest import Server, Start, asked
from videollm.cpu.llama import StaticKVCache


@pytest.fixture(scope="module")
def fresh(start: Start) -> Server:
    """A server that has seen no video yet."""
    return start("--model", "debug").ready()


def test_eight_chats_on_one_clip_decode_it_once_and_get_what_each_gets_alone(fresh: Server, clip: str):
    client = fresh.client()

    def ask(number: int) -> tuple[str, int]:
        question = f"What is it? {'Really? ' * number}"
        made = client.chat.completions.create(
            model="debug", messages=asked(clip, question), max_tokens=20 + number, temperature=1.5, seed=number
        )
        return made.choices[0].message.content, made.usage.prompt_tokens_details.cached_tokens

    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(ask, range(8)))
    assert fresh.metric('videollm_step_seconds_count{step="decode"}') == 1
    assert fresh.metric('videollm_step_seconds_count{step="encode"}') == 1
    passes, conversations = fresh.metric("videollm_batch_size_count"), fresh.metric("videollm_batch_size_sum")
    assert conversations > 1.5 * passes
    assert sum(cached > 0 for _, cached in together) >= 7  # only the first read the video's tokens
    assert [text for text, _ in together] == [ask(number)[0] for number in range(8)]
    assert fresh.metric('videollm_answers{state="running"}') == 0 == fresh.metric('videollm_answers{state="waiting"}')


def counting(name: str, log: list[str], most: int = 1000) -> Generator[int]:
    try:
        for number in range(most):
            log.append(name)
            yield number
    finally:
        log.append(f"{name} closed")


async def first(items: Any, count: int) -> list[Any]:
    async with aclosing(items):
        return [await anext(items) for _ in range(count)]


def test_iterators_advance_side_by_side_and_end_when_nobody_waits():
    executor, log = ModelExecutor(), []

    async def scenario() -> None:
        got = await asyncio.gather(*(first(executor.iterate(lambda n=n: counting(n, log)), 50) for n in "abc"))
        assert got == [list(range(50))] * 3

    asyncio.run(scenario())
    executor.close()
    assert {log.count(f"{name} closed") for name in "abc"} == {1}
    assert all(50 <= log.count(name) <= 51 for name in "abc")  # an item ahead
    together = log[10:100]
    assert all({*together[i : i + 6]} == {*"abc"} for i in range(84))


def test_what_begins_lets_those_that_run_go_on_in_between():
    """Ten calls at once: between two of them the iterator has its turn."""
    executor, log = ModelExecutor(), []

    async def scenario() -> None:
        async with aclosing(executor.iterate(lambda: counting("item", log))) as items:
            calls = [asyncio.create_task(executor.run(log.append, "call")) for _ in range(10)]
            while not all(call.done() for call in calls):
                await anext(items)
                await asyncio.sleep(0)

    asyncio.run(scenario())
    executor.close()
    calls = [place for place, what in enumerate(log) if what == "call"]
    assert len(calls) == 10 and all(b - a > 1 for a, b in pairwise(calls))


def test_no_more_run_than_there_are_places():
    executor, log = ModelExecutor(max_running=2), []

    async def scenario() -> None:
        seen = []

        async def one(name: str) -> None:
            async with aclosing(executor.iterate(lambda: counting(name, log, 5))) as items:
                async for _ in items:
                    seen.append((executor.running, executor.waiting))

        await asyncio.gather(*(one(name) for name in "abcd"))
        assert max(running for running, _ in seen) == 2 and max(waiting for _, waiting in seen) == 2

    asyncio.run(scenario())
    executor.close()
    assert log.index("c") > min(log.index("a closed"), log.index("b closed"))


def test_errors_reach_who_waits_and_nobody_else():
    executor, log = ModelExecutor(), []

    def failing() -> Generator[int]:
        yield 1
        raise KeyError("broken")

    async def scenario() -> None:
        results = await asyncio.gather(
            first(executor.iterate(failing), 3),
            first(executor.iterate(lambda: counting("a", log)), 9),
            return_exceptions=True,
        )
        assert isinstance(results[0], KeyError) and results[1] == list(range(9))
        with pytest.raises(ZeroDivisionError):
            await run_in_new_thread(divmod, 1, 0, stop=lambda: None)

    asyncio.run(scenario())
    executor.close()
    assert executor.running == 0


def test_one_who_leaves_while_an_item_is_made_is_waited_for():
    """As a stream that blocks on another server: its thread is still inside when its client goes."""
    executor, inside, leave, closed = ModelExecutor(4, 4), threading.Event(), threading.Event(), threading.Event()

    def blocking() -> Generator[int]:
        try:
            inside.set()
            leave.wait(60)
            yield 1
        finally:
            closed.set()

    async def scenario() -> None:
        waiting = asyncio.create_task(first(executor.iterate(blocking), 1))
        await asyncio.to_thread(inside.wait, 60)
        waiting.cancel()
        await asyncio.sleep(0)
        assert not closed.is_set()
        leave.set()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(scenario())
    assert closed.is_set()
    executor.close()


def test_one_who_leaves_while_an_item_is_made_interrupts_it():
    executor, inside, interrupted = ModelExecutor(4, 4), threading.Event(), threading.Event()

    def blocking() -> Generator[int]:
        inside.set()
        assert interrupted.wait(60)
        yield 1

    async def scenario() -> None:
        waiting = asyncio.create_task(first(executor.iterate(blocking, interrupted.set), 1))
        await asyncio.to_thread(inside.wait, 60)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(scenario())
    assert executor.running == 0
    executor.close()


def filled(length: int) -> StaticKVCache:
    past = StaticKVCache(1, 1, 4)
    past.reserve(length, torch.empty(0))
    past.length = length
    return past


def test_a_beginning_is_copied_also_from_an_answer_being_made():
    prefixes = PrefixCache(1 << 20)
    one = prefixes.take("video", [1, 2, 3])
    assert one.ids == []
    one.ids, one.past = [1, 2, 3], filled(3)
    two = prefixes.take("video", [1, 2, 9])
    assert two is not one and two.ids == [1, 2] and two.past and two.past is not one.past
    same = prefixes.take("video", [1, 2, 3, 4])  # would continue it, but it is in use
    assert same is not one and same.ids == [1, 2, 3]
    assert prefixes.take("other", [1, 2, 3]).ids == []
    prefixes.put(one)
    assert prefixes.take("video", [1, 2, 3, 5]) is one


def test_prefixes_are_bounded_and_what_is_used_stays():
    size = filled(3).nbytes
    prefixes = PrefixCache(2 * size)
    caches = [prefixes.take(number, [1, 2, 3]) for number in range(4)]
    for cache in caches:
        cache.ids, cache.past = [1, 2, 3], filled(3)
    assert prefixes.nbytes == 4 * size
    for cache in caches:
        prefixes.put(cache)
    assert prefixes.nbytes == 2 * size
    assert prefixes.take(3, [1, 2, 3, 4]) is caches[3] and prefixes.take(0, [1, 2, 3, 4]) is not caches[0]


def test_without_its_vllm_the_server_says_so_and_recovers(start: Start):
    """tests/inference/test_vllm.py has the protocol, tests/vllm the real one."""
    from tests.inference.test_vllm import DONE, MODEL, chunk, says, serving

    ids = MODEL.processor.tokenizer("Yes.", add_special_tokens=False)["input_ids"]
    with serving(says(*(chunk(i) for i in ids), DONE)) as engine:
        url = engine.url
    server = start("--model", "debug", "--engine", "vllm", "--vllm-url", url)
    client, hello = server.client(), [{"role": "user", "content": "Hello"}]
    health = httpx.get(f"{server.url}/health")
    assert health.status_code == 200 and (health.json()["status"], health.json()["engine"]) == ("degraded", "down")
    assert httpx.get(f"{server.url}/ready").status_code == 503
    for stream in (False, True):
        with pytest.raises(openai.InternalServerError) as refused:
            list(client.chat.completions.create(model="debug", messages=hello, stream=stream))
        assert refused.value.status_code == 503 and refused.value.code == "engine_unavailable"
        assert "does not answer" in refused.value.message and url not in refused.value.message
        assert refused.value.response.headers["retry-after"] == "5"
    assert f"vLLM at {url} does not answer" in server.log.read_text()
    with serving(says(*(chunk(i) for i in ids), DONE), port=int(url.rpartition(":")[2])):
        server.ready()
        made = client.chat.completions.create(model="debug", messages=hello, n=2)
        assert [choice.message.content for choice in made.choices] == ["Yes.", "Yes."]
