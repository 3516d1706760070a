"""How fast decoding, encoding and chat are on this machine: python scripts/bench/chat.py [--videos PATH] [--out FILE]

What is compared runs interleaved (A B A B ...) in one process on the same input. A ratio is the median over pairs,
other numbers are medians, and peak memory is measured in a process of its own. The script prints a Markdown table;
--out writes JSON.

Chat is measured with a ViT-B/32, a temporal Q-Former of 2 layers and SmolLM2-135M against transformers'
InstructBlipVideo at equal sizes (`peer_models.py`). Both write exactly 32 tokens. Weights are random except for our
language model's, since training does not change the time of a step.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import get_args

import torch
from peer_models import InstructBlip, Peer, Tower, decode_sequentially, decode_with_decord
from report import Row, Times, describe_machine, publish, timed

from videollm.chat.answer import Receipt
from videollm.chat.plan import matrix_speed
from videollm.chat.session import ChatSession
from videollm.checkpoint import load
from videollm.config import Dtype, LanguageModelConfig, ModelConfig, SamplingConfig, SegmentConfig
from videollm.device import resolve_dtype
from videollm.encoders.base import FrameEncoder, Vocabulary
from videollm.encoders.debug import DebugEncoder
from videollm.encoders.open_clip import OpenClipEncoder
from videollm.features.encode import EncodedVideo
from videollm.features.segments import scene_cuts, thumbnails
from videollm.inference.engine import LocalEngine, PromptCache
from videollm.inference.sampling import GenerationConfig, Token
from videollm.model import Model, find
from videollm.models.language import load_language_model, load_tokenizer
from videollm.models.processor import Message, Processor, Prompt
from videollm.models.video_llm import VideoLLM, VideoLLMConfig
from videollm.presets import CLIP_B32_SMOLLM2, DEBUG
from videollm.video import Frames, decode

SAMPLE = Path(__file__).parents[1] / "samples/sample.mp4"
SIXTEEN = SamplingConfig(frames=16)
TWO_SEGMENTS, ONE_SEGMENT = (SegmentConfig(by="time", frames=n) for n in (8, 16))  # of sixteen frames
SIDE = 224
QUESTIONS = ("What happens in this video?", "And what comes next?")
FIRST = GenerationConfig(max_new_tokens=1)
WORDS = Vocabulary(("cat", "coffee", "rocket"), (-1, -1, -1))  # ImageNet's would take a minute to embed, once
PARTS = ("decode", "encode", "chat", "peer", "lite", "start")


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Sizes of a run: `model` is ours and `tower` the peer's; `batches` are frames encoded at once; `tokens` is the
    length of an answer; `matrix` is the number of rows and columns of the product that gives the matmul rate."""

    model: ModelConfig
    tower: Tower
    batches: tuple[int, ...]
    tokens: int
    matrix: int


FULL = Sizes(
    model=replace(
        CLIP_B32_SMOLLM2,
        name="bench",
        segments=TWO_SEGMENTS,
        encoder=replace(CLIP_B32_SMOLLM2.encoder, pretrained=""),
        llm=LanguageModelConfig(source="asset:smollm2-135m-instruct"),
    ),
    tower=Tower(width=768, layers=12, heads=12, image_size=224, patch_size=32),
    batches=(8, 16),
    tokens=32,
    matrix=2048,
)
QUICK = Sizes(
    model=replace(DEBUG, segments=TWO_SEGMENTS),
    tower=Tower(width=16, layers=1, heads=2, image_size=32, patch_size=16),
    batches=(8,),
    tokens=4,
    matrix=256,
)


def measure_decode(clips: list[Path], repeats: int) -> list[Row]:
    """Time decoding. The modification time of each clip is renewed, since the library caches a scan until a file
    changes."""
    times = Times()
    for _ in range(repeats):
        for clip in clips:
            os.utime(clip)
            times.add(ours=timed(decode, clip, SIXTEEN, short_side=SIDE))
            times.add(plain=timed(decode_sequentially, str(clip), 16, SIDE))
            if find_spec("decord"):
                times.add(decord=timed(decode_with_decord, str(clip), 16, SIDE))
    rows = [
        Row("decode", "16 frames", times.ms("ours"), "ms", f"{len(clips)} clip(s)"),
        Row("decode", "16 frames, PyAV decoding every frame", times.ms("plain"), "ms"),
        Row("decode", "ours / PyAV", times.ratio("ours", "plain"), goal=0.85),
    ]
    if find_spec("decord"):
        rows.append(Row("decode", "ours / decord", times.ratio("ours", "decord"), note="which takes frames by number"))
    return rows


def measure_encode(sizes: Sizes, encoder: FrameEncoder, clip: Path, repeats: int) -> list[Row]:
    frames, config = decode(clip, SIXTEEN, short_side=encoder.image_size), sizes.model.encoder
    note = f"{sizes.tower.flops / 1e9:.3g} GFLOP a frame: patch embedding, blocks with attention"
    dtype = resolve_dtype(config.dtype, "cpu")
    rows = []
    for batch in sizes.batches:
        pixels, times = frames.pixels[:batch], Times()
        encoder.encode_frames(pixels)
        for _ in range(repeats):
            times.add(matmul=sizes.tower.flops * batch / matrix_speed(dtype, torch.device("cpu"), sizes.matrix))
            times.add(encode=timed(encoder.encode_frames, pixels))
        share = times.ratio("matmul", "encode")
        rows += [
            Row("encode", f"{config.name}, batch {batch}", 1000 * batch / times.ms("encode"), "frames/s", note),
            Row("encode", f"share of matmul rate, batch {batch}", share, goal=0.75, more_is_better=True),
        ]
    return rows


def build(config: ModelConfig) -> Model:
    """Our model with random weights and a short vocabulary of tags."""
    tiny = config.encoder.kind == "debug"
    encoder = DebugEncoder() if tiny else OpenClipEncoder(config.encoder, vocabulary=WORDS)
    wrapped = VideoLLMConfig(
        model=config.to_dict(), token_dim=encoder.token_dim, tokens_per_frame=encoder.tokens_per_frame
    )
    llm = VideoLLM(wrapped, load_language_model(config.llm)).eval()
    return Model(config, encoder, Processor(load_tokenizer(config.llm), config), llm)


def build_peer(sizes: Sizes, kind: type[Peer] = InstructBlip) -> Peer:
    config = sizes.model
    question = Processor(load_tokenizer(config.llm), config)([Message("user", QUESTIONS[0])]).ids
    text = load_language_model(config.llm).config
    return kind(sizes.tower, config.temporal, text, question, resolve_dtype(config.llm.dtype, "cpu"))


class ClockedEngine(LocalEngine):
    """An engine that records when each token arrived."""

    at: list[float]

    def stream(self, prompt: Prompt, cache: PromptCache, generation: GenerationConfig) -> Iterator[Token]:
        self.at = []
        for token in super().stream(prompt, cache, generation):
            self.at.append(perf_counter())
            yield token


def encode(model: Model, frames: Frames) -> EncodedVideo:
    """What `encode_video` returns, made from decoded frames."""
    return EncodedVideo(
        info=frames.info,
        times_s=frames.times_s,
        features=model.encoder.encode_frames(frames.pixels),
        cuts=tuple(scene_cuts(thumbnails(frames.pixels))),
        end_s=frames.info.duration_s,
        lost=frames.lost,
        ms={"decode": 0.0, "encode": 0.0},
    )


def two_turns(
    model: Model, frames: Frames, tokens: int, times: Times, stop_ids: frozenset[int] = frozenset()
) -> tuple[list[Message], Receipt, Receipt]:
    """Ask two questions about decoded frames. Returns the messages before the second question, and both receipts."""
    engine = ClockedEngine(model.llm, set(stop_ids))
    started = perf_counter()
    session = ChatSession(model, encode(model, frames), engine=engine)
    encoded = perf_counter()
    one = session.ask(QUESTIONS[0], GenerationConfig(max_new_tokens=tokens))
    ended, first, last, history = perf_counter(), engine.at[0], engine.at[-1], session.messages
    times.add(encode=encoded - started, first=first - started, last=last - started)
    times.add(step=(last - first) / (one.receipt.completion_tokens - 1), evidence=ended - last)
    started = perf_counter()
    two = session.ask(QUESTIONS[1], FIRST)
    times.add(second=engine.at[0] - started)
    return history, one.receipt, two.receipt


def first_token(model: Model, video: Callable[[], EncodedVideo | Path], question: str, history: list[Message]) -> float:
    """Seconds to the first token of a new session on the video that `video()` returns."""
    engine, started = ClockedEngine(model.llm, set()), perf_counter()
    ChatSession(model, video(), engine=engine, sampling=SIXTEEN, messages=history).ask(question, FIRST)
    return engine.at[0] - started


def measure_chat(sizes: Sizes, model: Model, peer: Peer, clip: Path, repeats: int) -> list[Row]:
    frames = decode(clip, SIXTEEN, short_side=model.encoder.image_size)
    video, measured = encode(model, frames), Times()
    short = replace(model, config=replace(model.config, segments=ONE_SEGMENT))
    for times in (Times(), *[measured] * repeats):  # the first round warms up
        history, two_segments, second = two_turns(model, frames, sizes.tokens, times)
        first, last = peer.answer(frames.pixels, sizes.tokens)
        times.add(peer_first=first, peer_last=last)
        _, one_segment, _ = two_turns(short, frames, sizes.tokens, spent := Times())
        times.add(first_1=spent.seconds["first"][0], last_1=spent.seconds["last"][0])
        times.add(prefill=first_token(model, lambda: video, QUESTIONS[1], history))
        times.add(both=first_token(model, lambda: encode(model, frames), QUESTIONS[1], history))
        os.utime(clip)
        times.add(file=first_token(model, lambda: clip, QUESTIONS[0], []))

    t, n, ours, ours_1 = measured, sizes.tokens, _prompt(two_segments), _prompt(one_segment)
    theirs = f"{peer.visual_tokens(len(frames))} visual tokens"
    return [
        Row("chat", "turn 1, first token, from frames", t.ms("first"), "ms", ours),
        Row("chat", "of which encoding", t.ms("encode"), "ms"),
        Row("chat", "turn 1, first token, from the file", t.ms("file"), "ms", "decoding included"),
        Row("chat", f"turn 1, {n} tokens, from frames", t.ms("last"), "ms"),
        Row("chat", "evidence, after the last token", t.ms("evidence"), "ms"),
        Row("chat", "prefill", 1000 * second.prompt_tokens / t.ms("prefill"), "tokens/s", "temporal module included"),
        Row("chat", "generation", 1000 / t.ms("step"), "tokens/s"),
        Row("chat", "turn 2, first token", t.ms("second"), "ms", _kept(second)),
        Row("chat", "turn 2, first token, prefilling again", t.ms("prefill"), "ms"),
        Row("chat", "turn 2, first token, encoding and prefilling again", t.ms("both"), "ms"),
        Row("chat", "turn 2 / prefilling again", t.ratio("second", "prefill")),
        Row("chat", "turn 2 / encoding and prefilling again", t.ratio("second", "both"), goal=0.1),
        Row("chat", "turn 1 / turn 2", t.ratio("first", "second"), goal=8, more_is_better=True),
        Row("peer", "InstructBlipVideo, first token, from frames", t.ms("peer_first"), "ms", theirs),
        Row("peer", f"InstructBlipVideo, {n} tokens, from frames", t.ms("peer_last"), "ms"),
        Row("peer", "first token, ours / peer", t.ratio("first", "peer_first"), note=ours, goal=0.55),
        Row("peer", f"{n} tokens, ours / peer", t.ratio("last", "peer_last"), note=ours, goal=0.65),
        Row("peer", "first token, ours / peer, one segment", t.ratio("first_1", "peer_first"), note=ours_1, goal=0.55),
        Row("peer", f"{n} tokens, ours / peer, one segment", t.ratio("last_1", "peer_last"), note=ours_1, goal=0.65),
    ]


def _prompt(receipt: Receipt) -> str:
    return f"{receipt.visual_tokens} visual of {receipt.prompt_tokens} prompt tokens, {receipt.segments} segment(s)"


def _kept(receipt: Receipt) -> str:
    return f"{receipt.cached_tokens} of {receipt.prompt_tokens} prompt tokens kept"


def peak_mb() -> float:
    """The most memory that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e6 / 1024)


def peak_ours(sizes: Sizes, clip: Path) -> Row:
    model = build(sizes.model)
    two_turns(model, decode(clip, SIXTEEN, short_side=model.encoder.image_size), sizes.tokens, Times())
    return Row("chat", "peak memory", peak_mb(), "MB")


def peak_peer(sizes: Sizes, clip: Path) -> Row:
    peer = build_peer(sizes)
    peer.answer(decode(clip, SIXTEEN, short_side=peer.image_size).pixels, sizes.tokens)
    return Row("peer", "InstructBlipVideo, peak memory", peak_mb(), "MB")


def measure_lite(clip: Path, repeats: int) -> list[Row]:
    """Measure `lite`, with the sampling of its own configuration."""
    started = perf_counter()
    model = load("lite")
    load_ms = 1000 * (perf_counter() - started)
    frames = decode(clip, model.config.sampling, short_side=model.encoder.image_size)
    measured = Times()
    for times in (Times(), *[measured] * repeats):
        _, one, two = two_turns(model, frames, 32, times, frozenset(model.processor.stop_ids))
    t, fps = measured, 1000 * len(frames) / measured.ms("encode")
    return [
        Row("lite", "load", load_ms, "ms", "weights in the cache, libraries imported"),
        Row("lite", "encode", fps, "frames/s", f"{len(frames)} frames"),
        Row("lite", "turn 1, first token, from frames", t.ms("first"), "ms", _prompt(one)),
        Row("lite", "turn 2, first token", t.ms("second"), "ms", _kept(two)),
        Row("lite", "generation", 1000 / t.ms("step"), "tokens/s"),
        Row("lite", "peak memory", peak_mb(), "MB"),
    ]


def measure_apart(sizes: Sizes, clip: Path, repeats: int) -> list[Row]:
    """Measure peak memory in processes of their own. Call this while the calling process is small: on Linux the peak of
    a new process includes the size that its parent had when it was started."""
    with ProcessPoolExecutor(2, get_context("spawn"), max_tasks_per_child=1) as pool:
        peaks = [pool.submit(peak, sizes, clip) for peak in (peak_ours, peak_peer)]
        rows = [peak.result() for peak in peaks]
        if find("lite") is None:
            return [*rows, Row("lite", "all", None, note="its weights are not there")]
        return rows + pool.submit(measure_lite, clip, repeats).result()


def measure_start(repeats: int) -> list[Row]:
    times = Times()
    for _ in range(repeats):
        times.add(help=timed(subprocess.check_output, [sys.executable, "-m", "videollm.cli", "--help"]))
        times.add(module=timed(subprocess.check_output, [sys.executable, "-c", "import videollm"]))
    return [
        Row("start", "videollm --help", times.ms("help"), "ms", goal=1000),
        Row("start", "import videollm", times.ms("module"), "ms", "with the interpreter's start"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, default=SAMPLE, help="a clip, or a folder of .mp4; chat uses the first")
    parser.add_argument("--dtype", choices=get_args(Dtype), default="auto", help="of both models")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="tiny models and no other processes: does all run?")
    parser.add_argument("--out", type=Path, help="write JSON here")
    options = parser.parse_args()
    found = sorted(options.videos.glob("*.mp4")) if options.videos.is_dir() else [options.videos]
    if not found:
        parser.error(f"no .mp4 in {options.videos}")

    sizes = QUICK if options.quick else FULL
    tower, llm = sizes.model.encoder, sizes.model.llm
    model = replace(sizes.model, encoder=replace(tower, dtype=options.dtype), llm=replace(llm, dtype=options.dtype))
    sizes = replace(sizes, model=model)
    with tempfile.TemporaryDirectory() as folder:
        clips = [Path(shutil.copy(clip, folder)) for clip in found]
        rows = [] if options.quick else measure_apart(sizes, clips[0], options.repeats)
        rows += measure_start(options.repeats)
        rows += measure_decode(clips, options.repeats)
        ours, peer = build(model), build_peer(sizes)
        rows += measure_encode(sizes, ours.encoder, clips[0], options.repeats)
        rows += measure_chat(sizes, ours, peer, clips[0], options.repeats)
    rows.sort(key=lambda row: PARTS.index(row.part))

    publish(rows, describe_machine(resolve_dtype(model.llm.dtype, "cpu"), sizes.matrix), options.out)


if __name__ == "__main__":
    main()
