"""Answering and training against three video models of transformers: python scripts/bench/peers.py [--out FILE]

Sizes are those of `chat.py`: a ViT-B/32 and a language model of SmolLM2-135M's size with random weights, 16 frames,
equal number formats. Each peer turns frames into visual tokens in its own way. Every round goes through all models in
turn.

A training step is forward, backward and AdamW on what the first stage trains, with a batch of 4. Frozen weights are in
the given format; what we train is in float32, as in our recipes. "cached" means that the features of the frozen tower
come from the cache, as in our training. Peers have no such cache and encode in each step.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import torch
from chat import FULL, QUESTIONS, QUICK, SAMPLE, SIXTEEN, Sizes, build, build_peer, two_turns
from chat import encode as encode_frames
from peer_models import PEERS, Peer
from report import Row, Times, describe_machine, publish, timed

from videollm.config import Dtype
from videollm.device import resolve_dtype
from videollm.features.encode import EncodedVideo
from videollm.model import Model
from videollm.models.processor import Message, collate
from videollm.video import Frames, decode

BATCH, ANSWER = 4, "It shows a cat, then a cup of coffee and a rocket on its launch pad."


def measure_answers(model: Model, peers: list[Peer], frames: Frames, tokens: int, repeats: int) -> list[Row]:
    measured = Times()
    for times in (Times(), *[measured] * repeats):  # the first round warms up
        _, receipt, _ = two_turns(model, frames, tokens, times)
        for peer in peers:
            first, last = peer.answer(frames.pixels, tokens)
            times.add(**{f"{peer.name} first": first, f"{peer.name} last": last})
    rows, ours = [], f"{receipt.visual_tokens} visual tokens"
    for peer in peers:
        tokens_each = f"{ours}, theirs {peer.visual_tokens(len(frames))}"
        for name, part in (("first token", "first"), (f"{tokens} tokens", "last")):
            theirs = f"{peer.name} {part}"
            note = f"{measured.ms(part):.0f} / {measured.ms(theirs):.0f} ms; {tokens_each}"
            rows.append(Row("peers", f"{name}, ours / {peer.name}", measured.ratio(part, theirs), note=note))
    return rows


def step(parameters: list[torch.nn.Parameter], loss: Callable[[], torch.Tensor]) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(parameters)

    def run() -> None:
        loss().backward()
        optimizer.step()
        optimizer.zero_grad()

    return run


def our_loss(model: Model, videos: Callable[[], list[EncodedVideo]]) -> torch.Tensor:
    asked = [Message("user", QUESTIONS[0]), Message("assistant", ANSWER)]
    segments = [video.segments(model.config, model.encoder.vocabulary) for video in videos()]
    prompts = [model.processor(asked, some) for some in segments]
    inputs: dict[str, Any] = collate(prompts, model.processor.tokenizer.pad_token_id or 0)
    return model.llm(**inputs).loss


def measure_training(model: Model, peers: list[Peer], frames: Frames, repeats: int) -> list[Row]:
    model.llm.requires_grad_(False)
    trained = [p for name, p in model.llm.named_parameters() if not name.startswith("language_model.")]
    kept = [encode_frames(model, frames)] * BATCH
    parameters = [p.requires_grad_(True) for p in trained]
    steps = {
        "ours": step(parameters, lambda: our_loss(model, lambda: [encode_frames(model, frames) for _ in kept])),
        "cached": step(parameters, lambda: our_loss(model, lambda: kept)),
    }
    clips = frames.pixels.expand(BATCH, *frames.pixels.shape)
    answers = torch.tensor([model.processor.tokenizer(ANSWER)["input_ids"]] * BATCH)
    for peer in peers:
        steps[peer.name] = step(peer.parameters(), lambda peer=peer: peer.loss(clips, answers))
    measured = Times()
    for times in (Times(), *[measured] * repeats):
        times.add(**{name: timed(run) for name, run in steps.items()})
    rows = []
    for peer in peers:
        for ours in ("ours", "cached"):
            note = f"{measured.ms(ours):.0f} / {measured.ms(peer.name):.0f} ms"
            name = f"training step, {ours} / {peer.name}"
            rows.append(Row("peers", name, measured.ratio(ours, peer.name), note=note))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", choices=get_args(Dtype), default="auto", help="of all models")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="tiny models: does all run?")
    parser.add_argument("--out", type=Path, help="write JSON here")
    options = parser.parse_args()
    sizes: Sizes = QUICK if options.quick else FULL
    tower, llm = sizes.model.encoder, sizes.model.llm
    config = replace(sizes.model, encoder=replace(tower, dtype=options.dtype), llm=replace(llm, dtype=options.dtype))
    sizes = replace(sizes, model=config)
    model, peers = build(config), [build_peer(sizes, kind) for kind in PEERS]
    frames = decode(SAMPLE, SIXTEEN, short_side=model.encoder.image_size)
    rows = measure_answers(model, peers, frames, sizes.tokens, options.repeats)
    rows += measure_training(model, peers, frames, max(1, options.repeats // 2))
    publish(rows, describe_machine(resolve_dtype(config.llm.dtype, "cpu"), sizes.matrix), options.out)


if __name__ == "__main__":
    main()
