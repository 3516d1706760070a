"""The decoding process: frames as the library decodes them, limits that hold, and deaths that stay there."""

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch

from serve.api.errors import APIError
from serve.config import Limits, MiB
from serve.runtime.decoding import DecodedVideo, SandboxedDecoder
from tests.serve.conftest import SAMPLE
from tests.video.clips import write_clip
from videollm.checkpoint import load
from videollm.config import SamplingConfig
from videollm.features.encode import encode_frames, encode_video

FOUR = SamplingConfig(frames=4)
MUTANTS = int(os.environ.get("VIDEOLLM_FUZZ", "20"))


@asynccontextmanager
async def running(folder: Path, limits: Limits | None = None) -> AsyncIterator[SandboxedDecoder]:
    decoder = SandboxedDecoder(folder, limits or Limits())
    await decoder.start()
    try:
        yield decoder
    finally:
        await decoder.close()


async def decoded(decoder: SandboxedDecoder, path: Path, sampling: SamplingConfig = FOUR) -> DecodedVideo:
    async with decoder.decode(path, sampling, 32) as found:
        return found


async def refusal(work: Awaitable[object]) -> str:
    with pytest.raises(APIError) as refused:
        await work
    assert refused.value.status == 400
    return str(refused.value)


async def hostile_and_killed(folder: Path) -> None:
    """One process for all of this: starting it takes a while."""
    async with running(folder, Limits(decode_s=20, video_s=15, pixels=1000 * 1000, frames=70)) as decoder:
        model = load("debug")
        every = SamplingConfig(fps=5)
        found = await decoded(decoder, SAMPLE, every)
        ours = encode_frames(found.info, found.pieces, model.encoder, every)
        whole = encode_video(SAMPLE, model.encoder, every)
        assert torch.equal(ours.times_s, whole.times_s) and torch.equal(ours.features.tokens, whole.features.tokens)
        assert replace(ours.info, path="") == replace(whole.info, path="") and ours.cuts == whole.cuts

        assert "the limit is 70" in await refusal(decoded(decoder, SAMPLE, SamplingConfig(fps=10)))
        assert "must be before the end" in await refusal(decoded(decoder, SAMPLE, replace(FOUR, start_s=50)))
        long = write_clip(folder / "long.mp4", ticks=[0, 24 * 30])
        assert "the limit is 15" in await refusal(decoded(decoder, long))
        large = write_clip(folder / "large.mp4", frames=2, size=(1280, 960))
        assert "1280x960 pixels" in await refusal(decoded(decoder, large))
        thin = write_clip(folder / "thin.mp4", frames=2, size=(640, 16))
        assert "longer than 16 to 1" in await refusal(decoded(decoder, thin))
        (folder / "playlist.m3u8").write_text("#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n")
        assert "not a video" in await refusal(decoded(decoder, folder / "playlist.m3u8"))

        data, rng, refused = SAMPLE.read_bytes(), random.Random(0), 0
        for _ in range(MUTANTS):
            mutant = bytearray(data[: rng.choice([len(data), rng.randrange(len(data))])])
            for _ in range(rng.choice([1, 10, 1000])):
                mutant[rng.randrange(min(len(mutant), rng.choice([64, 4096, len(data)])))] = rng.randrange(256)
            (folder / "mutant.mp4").write_bytes(mutant)
            try:
                await decoded(decoder, folder / "mutant.mp4")
            except APIError as error:
                assert error.status == 400
                refused += 1
        assert 0 < refused < MUTANTS and decoder.restarts == 0

        process = decoder._process
        assert process
        before = psutil.Process(process.pid).children()
        waiting = [asyncio.create_task(decoded(decoder, SAMPLE, SamplingConfig(fps=5))) for _ in range(2)]
        while not (new := [c for c in psutil.Process(process.pid).children() if c not in before]):
            await asyncio.sleep(0.001)
        new[0].kill()
        ends = await asyncio.gather(*waiting, return_exceptions=True)
        assert sorted(isinstance(end, DecodedVideo) for end in ends) == [False, True]
        assert any("crashed" in str(end) for end in ends) and decoder.alive

        os.kill(process.pid, signal.SIGKILL)
        await process.wait()
        assert not decoder.alive
        again = await asyncio.gather(*(decoded(decoder, SAMPLE) for _ in range(3)))
        assert [sum(map(len, one.pieces)) for one in again] == [4, 4, 4]
        assert decoder.alive and decoder.restarts == 1


def test_hostile_files_and_deaths_stay_in_the_decoding_process(tmp_path: Path):
    asyncio.run(hostile_and_killed(tmp_path))


async def starved(folder: Path) -> None:
    async with running(folder, Limits(decode_bytes=8 * MiB, decode_s=2)) as decoder:
        large = write_clip(folder / "large.mp4", frames=24, size=(1920, 1080))
        reason = await refusal(decoded(decoder, large))
        assert "8 MiB" in reason or "could be decoded" in reason or "not a video" in reason
        decoder.limits = Limits(decode_s=0.001)
        assert "crashed, or took more than 0.001 s" in await refusal(decoded(decoder, SAMPLE))
        assert decoder.alive and decoder.restarts == 0


def test_memory_and_time_are_limited(tmp_path: Path):
    asyncio.run(starved(tmp_path))
