"""What serving costs and gains: python scripts/bench/server.py [--model NAME] [--vllm-url URL] [--out FILE]

The engine in this process and a server of the same model, with its clients in this process, run interleaved on the same
machine. A ratio is the median over pairs, other numbers are medians. With --vllm-url, the address of a vLLM that has
the same exported model (scripts/vllm/serve.sh), a second server uses that vLLM. The script prints a Markdown table;
--out writes JSON.
"""

import argparse
import base64
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from itertools import count
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import httpx
import torch
from report import Row, Times, describe_machine

from videollm.checkpoint import load
from videollm.config import LanguageModelConfig
from videollm.inference.engine import LocalEngine, PromptCache
from videollm.inference.runner import make_runner
from videollm.inference.sampling import GenerationConfig
from videollm.model import Model
from videollm.models.language import load_language_model
from videollm.models.processor import Message

SMOLLM2 = "asset:smollm2-135m-instruct"
SAMPLE = Path(__file__).parents[1] / "samples/sample.mp4"
TOKENS = 64
MANY = 16
SETTINGS = {"temperature": 1.5, "seed": 1}  # long answers, the same in every process
LONG = " ".join(["The camera shows a room with a table, two chairs and a window."] * 12)


class Server:
    def __init__(self, url: str, model: str):
        self.url, self.model = url, model
        self._client = httpx.Client(base_url=url, timeout=600, limits=httpx.Limits(max_connections=None))

    def ask(self, messages: list[Any], tokens: int = TOKENS) -> tuple[float, float, int, str]:
        """Seconds to the first text and to the end, tokens, and the text."""
        body = {"model": self.model, "messages": messages, "max_tokens": tokens, "stream": True, **SETTINGS}
        started, first, made, text = perf_counter(), 0.0, 0, ""
        more = {"stream_options": {"include_usage": True}}
        with self._client.stream("POST", "/v1/chat/completions", json=body | more) as response:
            assert response.status_code == 200, response.read()
            for line in response.iter_lines():
                if not line.startswith("data: {"):
                    continue
                chunk = json.loads(line[6:])
                assert "error" not in chunk, chunk
                made = (chunk.get("usage") or {}).get("completion_tokens", made)
                for choice in chunk["choices"]:
                    if piece := choice["delta"].get("content"):
                        first, text = first or perf_counter() - started, text + piece
        return first, perf_counter() - started, made, text

    def rate(self, at_once: int, requests: int, questions: Iterator[int]) -> float:
        """Tokens a second over so many requests."""
        asked = [[{"role": "user", "content": f"{next(questions)}: tell a story."}] for _ in range(requests)]
        with ThreadPoolExecutor(at_once) as pool:
            started = perf_counter()
            made = sum(tokens for _, _, tokens, _ in pool.map(self.ask, asked))
            return made / (perf_counter() - started)

    def metric(self, name: str) -> float:
        found = re.search(rf"^{re.escape(name)} (\S+)$", self._client.get("/metrics").text, re.MULTILINE)
        return float(found[1]) if found else 0.0


@contextmanager
def serving(model: str, name: str, *options: str) -> Iterator[Server]:
    with tempfile.NamedTemporaryFile("w+") as log:
        command = [sys.executable, "-m", "serve", "--model", model, "--port", "0", "--waiting", "64", *options]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log)
        try:
            while not (found := re.search(r"running on (http://\S+)", Path(log.name).read_text())):
                assert process.poll() is None, Path(log.name).read_text()
                sleep(0.1)
            while httpx.get(f"{found[1]}/ready").status_code != 200:
                sleep(0.1)
            yield Server(found[1], name)
        finally:
            process.terminate()
            process.wait()


def measure_engine(repeats: int) -> list[Row]:
    """Our `ModelRunner` against transformers' generate: a 135M model in bfloat16 and one conversation of 300
    positions."""
    language_model: Any = load_language_model(LanguageModelConfig(source=SMOLLM2, dtype="bfloat16"))
    ours, times = make_runner(language_model), Times()
    ids = torch.randint(5, 1000, (1, 300), generator=torch.Generator().manual_seed(0))
    words = language_model.get_input_embeddings()

    @torch.inference_mode()
    def read(tokens: int) -> float:
        past, embeds = ours.begin(), words(ids[0])
        for _ in range(tokens):
            started = perf_counter()
            logits = ours.forward([(embeds, past)])
            times.add(step=perf_counter() - started)
            embeds = words(logits.argmax(-1))
        return sum(times.seconds["step"][1 - tokens :])

    def generate(tokens: int) -> float:
        started = perf_counter()
        language_model.generate(
            ids, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False, attention_mask=torch.ones_like(ids)
        )
        return perf_counter() - started

    read(4), generate(4)  # warm
    for _ in range(repeats):
        times.add(ours=read(TOKENS + 1))
        times.add(theirs=generate(TOKENS + 1) - generate(1))
    note = f"{times.ms('ours') / TOKENS:.1f} ms a token, theirs {times.ms('theirs') / TOKENS:.1f}"
    return [
        Row(
            "engine",
            "tokens/s, ours / transformers' generate, bfloat16",
            times.ratio("theirs", "ours"),
            "",
            note,
            1.5,
            True,
        )
    ]


def measure_overhead(model: Model, server: Server, repeats: int, questions: Iterator[int]) -> list[Row]:
    """Time the same prompt, seed and tokens in this process and through HTTP. No two prompts share a prefix, so that no
    turn profits from the cache of another."""
    engine, times = LocalEngine(model.llm, model.processor.stop_ids), Times()
    generation = GenerationConfig(max_new_tokens=TOKENS, **SETTINGS)

    def here(text: str) -> tuple[float, float, int]:
        started, first, made, ids = perf_counter(), 0.0, 0, []
        prompt = model.processor([Message("system", text), Message("user", "Tell a story.")])
        for token in engine.stream(prompt, PromptCache(), generation):
            ids.append(token.id)
            made += 1
            if model.processor.decode(ids):
                first = first or perf_counter() - started
        return first, perf_counter() - started, made

    for _ in range(repeats + 1):
        text = f"{next(questions)}. {LONG}"
        ours = here(text)
        first, end, made, _ = server.ask(
            [{"role": "system", "content": text}, {"role": "user", "content": "Tell a story."}]
        )
        assert made == ours[2], "the two did not make the same answer"
        if made > 8:
            times.add(
                first=ours[0], rest=(ours[1] - ours[0]) / made, served_first=first, served_rest=(end - first) / made
            )
    return [
        Row("overhead", "first token, in this process", times.ms("first"), "ms"),
        Row("overhead", "first token, server / in this process", times.ratio("served_first", "first"), goal=1.05),
        Row("overhead", "a token after it, in this process", times.ms("rest"), "ms"),
        Row("overhead", "a token after it, server / in this process", times.ratio("served_rest", "rest"), goal=1.05),
    ]


def about(clip: str, text: str) -> dict[str, Any]:
    return {
        "role": "user",
        "content": [{"type": "video_url", "video_url": {"url": clip}}, {"type": "text", "text": text}],
    }


def new_clip(questions: Iterator[int]) -> str:
    """Return the sample as a file that no server has seen: a `free` box, which players skip, makes its content new."""
    box = f"{next(questions):016d}".encode()
    data = SAMPLE.read_bytes() + (8 + len(box)).to_bytes(4, "big") + b"free" + box
    return f"data:video/mp4;base64,{base64.b64encode(data).decode()}"


def measure_turns(server: Server, repeats: int, questions: Iterator[int]) -> list[Row]:
    times = Times()
    for _ in range(repeats):
        clip = new_clip(questions)
        first, _, _, text = server.ask([about(clip, "What is in this video?")])
        messages = [about(clip, "What is in this video?"), {"role": "assistant", "content": text}]
        second, *_ = server.ask([*messages, {"role": "user", "content": "And what comes first?"}])
        times.add(first=first, second=second)
    return [
        Row("turns", "turn 1, a new clip: first token", times.ms("first"), "ms"),
        Row("turns", "turn 2: first token", times.ms("second"), "ms"),
        Row("turns", "turn 1 / turn 2", times.ratio("first", "second"), "", "", 8, True),
    ]


def measure_chats(server: Server, questions: Iterator[int]) -> list[Row]:
    """Eight clients ask about one new clip at once, and then once more one after another."""
    clip, decoded = new_clip(questions), server.metric('videollm_step_seconds_count{step="decode"}')
    asked = [[about(clip, f"What is in this video? {number}")] for number in range(8)]
    started = perf_counter()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(server.ask, asked))
    together, started = perf_counter() - started, perf_counter()
    for messages in asked:
        server.ask(messages)
    alone = perf_counter() - started
    decoded = server.metric('videollm_step_seconds_count{step="decode"}') - decoded
    return [
        Row("chats", "decodings of one clip for 8 chats at once", decoded, goal=1),
        Row("chats", "8 at once, with decoding / one after another, without", together / alone),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="lite")
    parser.add_argument("--vllm-url", help="a vLLM that has the same exported model")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    model, questions, rows = load(options.model), count(), []

    def show(measured: list[Row]) -> None:
        rows.extend(measured)
        print(*measured, sep="\n", flush=True)

    print("| part | measure | value | goal | | note |\n|---|---|---|---|---|---|")
    show(measure_engine(options.repeats))
    with ExitStack() as stack:
        local = stack.enter_context(serving(options.model, model.config.name))
        show(measure_overhead(model, local, options.repeats, questions))
        show(measure_turns(local, options.repeats, questions))
        show(measure_chats(local, questions))
        servers = {"local": local}
        if options.vllm_url:
            with_vllm = ("--engine", "vllm", "--vllm-url", options.vllm_url)
            servers["vllm"] = stack.enter_context(serving(options.model, model.config.name, *with_vllm))
        rates = Times()
        for _ in range(max(1, options.repeats // 2)):
            for name, server in servers.items():
                one, many = server.rate(1, 4, questions), server.rate(MANY, 2 * MANY, questions)
                rates.add(**{f"{name} 1": 1 / one, f"{name} {MANY}": 1 / many})
        for name in servers:
            note = f"{1000 / rates.ms(f'{name} {MANY}'):.0f} tokens/s, alone {1000 / rates.ms(f'{name} 1'):.0f}"
            gain = rates.ratio(f"{name} 1", f"{name} {MANY}")
            show([Row("together", f"{name}: tokens/s of {MANY} at once / of one", gain, "", note)])
        if options.vllm_url:
            show([Row("together", f"vllm / local, {MANY} at once", rates.ratio(f"local {MANY}", f"vllm {MANY}"))])
    if options.out:
        dtype = next(model.llm.language_model.parameters()).dtype
        report = {"machine": describe_machine(dtype, 2048), "rows": [asdict(row) | {"met": row.met} for row in rows]}
        options.out.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
