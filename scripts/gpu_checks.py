"""Run every command on one GPU and measure it: `bash scripts/test_gpu.sh`.

    python scripts/gpu_checks.py [--device cuda|cpu] [--only CHECK ...] [--json FILE]

Each check prints one line, and its numbers where it measures something. The exit code is 1 if any check failed. With
`--device cpu` the same commands run at toy size, which tests this script where there is no GPU; checks that need CUDA
are then reported as not run.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import httpx
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from videollm import checkpoint
from videollm.chat.plan import matrix_speed
from videollm.chat.session import ChatSession
from videollm.device import resolve_device, wait_for
from videollm.inference.runner import make_runner
from videollm.inference.sampling import GenerationConfig

ROOT = Path(__file__).parents[1]
SAMPLE = str(ROOT / "scripts/samples/sample.mp4")
TIMEOUT_S = 240
QUESTIONS = ("What is it?", "What happens after that?", "How does it end?")


class CheckError(Exception):
    """A command failed or gave something else than it should."""


class NeedsCudaError(Exception):
    """The check has no meaning without a GPU."""


@dataclass
class Context:
    """What checks share. folder: for what they write; later checks use what earlier ones wrote there."""

    device: torch.device
    folder: Path
    numbers: dict[str, Any] = field(default_factory=dict)

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    @property
    def model(self) -> str:
        """A real model on a GPU, a random tiny one on a CPU."""
        return "lite" if self.on_gpu else "debug"

    def run(self, *command: object, stdin: str = "") -> str:
        """The stdout of a command of this project, which sees the device in VIDEOLLM_DEVICE. Raises CheckError."""
        done = subprocess.run(
            [sys.executable, *map(str, command)],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            cwd=ROOT,
            env=os.environ | {"VIDEOLLM_DEVICE": str(self.device), "PYTHONPATH": str(ROOT)},
        )
        if done.returncode:
            raise CheckError(f"{' '.join(map(str, command))} exited with {done.returncode}: {done.stderr[-1500:]}")
        return done.stdout

    def videollm(self, *arguments: object, stdin: str = "") -> dict[str, Any]:
        return json.loads(self.run("-m", "videollm.cli", *arguments, "--json", stdin=stdin).splitlines()[-1])


def expect(condition: object, message: str) -> None:
    if not condition:
        raise CheckError(message)


# --- commands


def equal_answers(context: Context) -> None:
    """Greedy answers of `debug` are the same on the CPU and on the device."""
    generation = GenerationConfig(max_new_tokens=24)
    here, there = (ChatSession(checkpoint.load("debug", d), SAMPLE) for d in ("cpu", context.device))
    for question in QUESTIONS:
        a, b = here.ask(question, generation), there.ask(question, generation)
        expect(a.text == b.text, f"{question} {a.text!r} on the CPU, {b.text!r} on {context.device}")
        expect(b.receipt.device == str(context.device), f"the receipt says {b.receipt.device}")


def ask(context: Context) -> None:
    found = context.videollm("ask", SAMPLE, "What is in this video?", "--model", context.model)
    receipt = found["receipt"]
    expect(receipt["device"] == str(context.device), f"the receipt says {receipt['device']}")
    context.numbers["ask"] = {"text": found["text"], **receipt["ms"]}


def chat(context: Context) -> None:
    script = "What is it?\nAnd then?\n/quit\n"
    out = context.run("-m", "videollm.cli", "chat", SAMPLE, "--model", context.model, "--json", stdin=script)
    turns = [json.loads(line.removeprefix("> ")) for line in out.splitlines() if '"receipt"' in line]
    expect(len(turns) == 2, f"two questions had {len(turns)} answers")
    expect(turns[1]["receipt"]["cached_tokens"] > 0, "the second turn reused nothing of the first")


def serve(context: Context) -> None:
    """The server answers several requests at once."""
    command = [sys.executable, "-m", "serve", "--port", "0", "--model", context.model]
    log = context.folder / "server.log"
    environment = os.environ | {"VIDEOLLM_DEVICE": str(context.device), "PYTHONPATH": str(ROOT)}
    with log.open("wb") as stderr:
        server = subprocess.Popen([*command, "--device", str(context.device)], stderr=stderr, cwd=ROOT, env=environment)
    try:
        url = _url(server, log)
        health = httpx.get(f"{url}/health").json()
        expect(health["device"] == str(context.device), f"/health says {health}")
        body = {"model": context.model, "messages": [{"role": "user", "content": "Describe a cat."}], "max_tokens": 64}
        started = perf_counter()
        with ThreadPoolExecutor(8) as pool:
            sent = [
                pool.submit(httpx.post, f"{url}/v1/chat/completions", json=body, timeout=TIMEOUT_S) for _ in range(8)
            ]
            answers = [answer.result().raise_for_status().json() for answer in sent]
        tokens = sum(answer["usage"]["completion_tokens"] for answer in answers)
        context.numbers["serve"] = {"tokens/s of 8 requests": round(tokens / (perf_counter() - started), 1)}
    finally:
        server.terminate()
        server.wait(60)


def _url(server: subprocess.Popen[bytes], log: Path) -> str:
    until = time.monotonic() + TIMEOUT_S
    while time.monotonic() < until and server.poll() is None:
        line = next((line for line in log.read_text().splitlines() if "running on http" in line), None)
        if line:
            return "http" + line.partition("running on http")[2].split()[0]
        time.sleep(0.2)
    raise CheckError(f"the server did not start: {log.read_text()[-1500:]}")


def index(context: Context) -> None:
    folder = ["--index", context.folder / "index"]
    made = context.videollm("index", SAMPLE, *folder, "--model", context.model, "--device", context.device)
    expect(made["added"] == 1, f"the index has {made}")
    found = context.videollm("search", "a cat", *folder, "--rerank", context.model, "--device", context.device)
    expect(found["moments"], "the search found nothing")


def evaluation(context: Context) -> None:
    world = context.folder / "world"
    sizes = ["--size", 64, "--seconds", 2, 3, "--processes", 1]
    context.run("data_gen/make_world.py", "--out", world, "--split", "test=4", "unseen=2", *sizes)
    out = ["--data", world, "--limit", 8, "--out", context.folder / "report"]
    found = context.videollm("eval", "mcqa", "--model", context.model, *out, "--device", context.device)
    expect(found["scores"], "the report has no scores")


# --- training


def stage(number: int, *options: object) -> list[object]:
    return [f"train/stage{number}.py", f"debug_stage{number}", "--bf16", "true", "--num-videos", 32, *options]


def stage1(context: Context) -> None:
    context.run(*stage(1, "--output", context.folder / "stage1"))


def stage2(context: Context) -> None:
    context.run(*stage(2, "--init", context.folder / "stage1", "--output", context.folder / "stage2"))
    context.videollm("ask", SAMPLE, "What?", "--model", context.folder / "stage2", "--max-new-tokens", 4)


def qlora_options(context: Context) -> list[object]:
    adapter = ["--tune", "adapter", "--load-in-4bit", "true", "--bf16", "true"]
    return ["train/stage2.py", "lite_stage2", *adapter, "--num-videos", 64, "--output", context.folder / "qlora"]


def qlora(context: Context) -> None:
    """Four bits need a real language model, that of `lite`. Its stage 1 is made first, in a few steps."""
    if not context.on_gpu:
        raise NeedsCudaError
    aligned = context.folder / "lite1"
    context.run("train/stage1.py", "lite_stage1", "--num-videos", 128, "--bf16", "true", "--output", aligned)
    context.run(*qlora_options(context), "--init", aligned)
    context.videollm("ask", SAMPLE, "What?", "--model", context.folder / "qlora", "--max-new-tokens", 4)


def zero2_options(context: Context) -> list[object]:
    output = ["--init", context.folder / "stage1", "--output", context.folder / "zero2"]
    return stage(2, "--zero-stage", 2, *output)


def zero2(context: Context) -> None:
    if not context.on_gpu:
        raise NeedsCudaError
    context.run("-m", "deepspeed.launcher.runner", "--num_gpus", 1, *zero2_options(context))


def export(context: Context) -> None:
    trained = context.folder / ("qlora" if context.on_gpu else "stage2")
    found = context.videollm("export", trained, "--out", context.folder / "exported")
    context.numbers["export"] = found
    context.videollm("ask", SAMPLE, "What?", "--model", context.folder / "exported", "--max-new-tokens", 4)


# --- speed


def speed(context: Context) -> None:
    """Prefill, decoding and a training step of a random language model: 1.2 billion parameters in bfloat16 on a GPU."""
    device = context.device
    model, width = _random_llama(context)
    peak = matrix_speed(model.dtype, device, seconds=0.5)
    parameters = model.num_parameters(exclude_embeddings=True)
    rows, length, steps = (8, 1024, 64) if context.on_gpu else (2, 16, 4)
    numbers: dict[str, Any] = {"matrix TFLOP/s": round(peak / 1e12, 2)}
    with torch.no_grad():  # and not inference_mode, in which the runner would make weights that cannot be trained
        runner = make_runner(model)
        prompt = torch.randn(length, width, device=device, dtype=model.dtype)
        word = prompt[:1]
        runner.forward([(prompt, runner.begin())])  # the first call also loads kernels
        caches = [runner.begin() for _ in range(rows)]
        seconds = _timed(device, lambda: [runner.forward([(prompt, cache)]) for cache in caches])
        numbers |= _rate("prefill", rows * length, seconds, 2 * parameters, peak)
        for batch in (1, rows):
            some = [(word, cache) for cache in caches[:batch]]
            seconds = _timed(device, lambda some=some: [runner.forward(some) for _ in range(steps)])
            numbers |= _rate(f"decode, {batch} at once", batch * steps, seconds, 2 * parameters, peak)
    ids = torch.randint(0, model.config.vocab_size, (rows, length), device=device)
    model.requires_grad_(True)

    def step() -> None:
        model(input_ids=ids, labels=ids).loss.backward()

    step()
    numbers |= _rate("training step", rows * length, _timed(device, step), 6 * parameters, peak)
    if context.on_gpu:
        numbers["peak memory GB"] = round(torch.cuda.max_memory_allocated(device) / 1e9, 2)
    context.numbers["speed"] = numbers


def _random_llama(context: Context) -> tuple[LlamaForCausalLM, int]:
    width, layers, heads = (2048, 22, 32) if context.on_gpu else (64, 2, 4)
    config = LlamaConfig(
        vocab_size=32000 if context.on_gpu else 256,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 4,
    )
    with context.device:
        model = LlamaForCausalLM(config)
    model.to(torch.bfloat16 if context.on_gpu else torch.float32)  # type: ignore[arg-type]
    return model.eval().requires_grad_(False), width


def _timed(device: torch.device, work: Callable[[], Any]) -> float:
    wait_for(device)
    started = perf_counter()
    work()
    wait_for(device)
    return perf_counter() - started


def _rate(name: str, tokens: int, seconds: float, flops: float, peak: float) -> dict[str, float]:
    """Tokens a second, and the share of the measured matrix speed that they use (model FLOPs utilisation)."""
    rate = tokens / seconds
    return {f"{name}, tokens/s": round(rate, 1), f"{name}, MFU": round(rate * flops / peak, 4)}


CHECKS: tuple[Callable[[Context], None], ...] = (
    equal_answers, ask, chat, serve, index, evaluation, stage1, stage2, qlora, zero2, export, speed
)  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    names = [check.__name__ for check in CHECKS]
    parser = argparse.ArgumentParser(description="Run every command on one GPU and measure it.")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu (default: cuda)")
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="CHECK", help=", ".join(names))
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results here")
    options = parser.parse_args(argv)
    device, results = resolve_device(options.device), {}
    with tempfile.TemporaryDirectory() as folder:
        context = Context(device, Path(folder))
        for check in (check for check in CHECKS if check.__name__ in options.only):
            results[check.__name__] = found = _run(check, context)
            print(
                f"{found['seconds']:6.1f} s  {found['result']:8} {check.__name__} {found['reason']}".rstrip(),
                flush=True,
            )
    for name, numbers in context.numbers.items():
        print(f"\n{name}")
        for key, value in numbers.items():
            print(f"  {key}: {value}")
    where = torch.cuda.get_device_name(device) if context.on_gpu else "CPU"
    report = {"device": str(device), "name": where, "checks": results, "numbers": context.numbers}
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    return int(any(found["result"] == "FAILED" for found in results.values()))


def _run(check: Callable[[Context], None], context: Context) -> dict[str, Any]:
    started, result, reason = perf_counter(), "passed", ""
    try:
        check(context)
    except NeedsCudaError:
        result, reason = "not run", "(needs CUDA)"
    except (CheckError, subprocess.TimeoutExpired, httpx.HTTPError) as error:
        result, reason = "FAILED", str(error)
    return {"result": result, "reason": reason, "seconds": round(perf_counter() - started, 1)}


if __name__ == "__main__":
    sys.exit(main())
