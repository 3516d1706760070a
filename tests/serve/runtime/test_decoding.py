"""The decoding process: frames as the library decodes them, limits that hold, and deaths that stay there."""

import asyncio
import hashlib
import os
import random
import signal
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
import pytest
import torch

from serve.api.errors import APIError
from serve.config import Limits, MiB
from serve.runtime.decoding import DecodedVideo, SandboxedDecoder
from serve.runtime.decoding_process import _one_file
from serve.runtime.executor import ModelExecutor
from serve.runtime.senses import VideoSenses
from serve.web.thumbnails import Thumbnails
from tests.senses.test_speech import LONG
from tests.serve.conftest import SAMPLE
from tests.video.clips import write_clip
from videollm.checkpoint import load
from videollm.config import SamplingConfig
from videollm.errors import VideoLLMError, VideoNotFoundError
from videollm.features.encode import encode_frames, encode_video
from videollm.senses.objects import ObjectSense
from videollm.video.audio import SAMPLE_RATE, iter_audio
from videollm.video.frames import VideoInfo

FOUR = SamplingConfig(frames=4)
MUTANTS = int(os.environ.get("VIDEOLLM_FUZZ", "20"))


@asynccontextmanager
async def running(folder: Path, limits: Limits | None = None) -> AsyncIterator[SandboxedDecoder]:
    decoder = SandboxedDecoder(folder, limits or Limits(), share=1)
    await decoder.start()
    try:
        yield decoder
    finally:
        await decoder.close()


async def decoded(
    decoder: SandboxedDecoder, path: Path, sampling: SamplingConfig = FOUR, owner: str = "a"
) -> DecodedVideo:
    async with decoder.decode(path, sampling, 32, owner) as found:
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
        assert "the limit is 16 to 1" in await refusal(decoded(decoder, thin))
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
        waiting = [asyncio.create_task(decoded(decoder, SAMPLE, SamplingConfig(fps=5), owner)) for owner in "ab"]
        while not (new := [c for c in psutil.Process(process.pid).children() if c not in before]):
            await asyncio.sleep(0.001)
        while sum(new[0].cpu_times()[:2]) < 0.03:  # it has begun with the file
            await asyncio.sleep(0.001)
        new[0].kill()
        ends = await asyncio.gather(*waiting, return_exceptions=True)
        assert sorted(isinstance(end, DecodedVideo) for end in ends) == [False, True]
        assert any("crashed" in str(end) for end in ends) and decoder.alive

        slow = write_clip(folder / "slow.mp4", frames=60, size=(960, 640), preset="ultrafast")
        leaving = asyncio.create_task(decoded(decoder, slow, SamplingConfig(frames=60)))
        while not (child := psutil.Process(process.pid).children()) or sum(child[0].cpu_times()[:2]) < 0.03:
            assert not leaving.done()
            await asyncio.sleep(0.001)
        child[0].suspend()
        behind = asyncio.create_task(decoded(decoder, SAMPLE))
        assert len((await decoded(decoder, SAMPLE, owner="b")).pieces) == 1  # which has a share of its own
        assert not behind.done()
        child[0].resume()
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        assert leaving.cancelled()
        async with asyncio.timeout(20):  # the decoding process kills the child once it sees that the client has left
            while child[0].is_running() and child[0].status() != psutil.STATUS_ZOMBIE:
                await asyncio.sleep(0.001)
        await behind

        os.kill(process.pid, signal.SIGKILL)
        await process.wait()
        assert not decoder.alive
        again = await asyncio.gather(*(decoded(decoder, SAMPLE) for _ in range(3)))
        assert [sum(map(len, one.pieces)) for one in again] == [4, 4, 4]
        assert decoder.alive and decoder.restarts == 1


def test_hostile_files_and_deaths_stay_in_the_decoding_process(tmp_path: Path):
    asyncio.run(hostile_and_killed(tmp_path))


async def heard(folder: Path) -> None:
    async with running(folder, Limits(video_s=10, decode_s=20)) as decoder:
        ours = torch.cat([piece.samples for piece in iter_audio(LONG)])
        async with decoder.sound(LONG, "a") as found:
            pieces = list(found.pieces())
            assert torch.equal(torch.cat([piece.samples for piece in pieces]), ours)
            assert found.end_s == pytest.approx(len(ours) / SAMPLE_RATE) and len(pieces) == 1

        async def refused(path: Path) -> str:
            async def listen() -> None:
                async with decoder.sound(path, "a"):
                    pass

            return await refusal(listen())

        assert "it has no sound" in await refused(SAMPLE)
        write_sound(folder / "hostile.wav", np.full(SAMPLE_RATE, np.nan, np.float32))
        async with decoder.sound(folder / "hostile.wav", "a") as found:
            assert all(piece.samples.isfinite().all() for piece in found.pieces())
        write_sound(folder / "long.wav", np.zeros(11 * SAMPLE_RATE, np.float32))
        assert "lasts more than 10 s" in await refused(folder / "long.wav")
        data, rng = LONG.read_bytes(), random.Random(0)
        for _ in range(MUTANTS):
            mutant = bytearray(data[: rng.choice([len(data), rng.randrange(len(data))])])
            for _ in range(rng.choice([1, 10, 1000])):
                mutant[rng.randrange(len(mutant))] = rng.randrange(256)
            (folder / "mutant.ogg").write_bytes(mutant)
            with suppress(APIError):
                async with decoder.sound(folder / "mutant.ogg", "a"):
                    pass
        assert decoder.alive and decoder.restarts == 0
        assert not list(folder.glob("tmp*"))


async def clipped(folder: Path) -> None:
    async with running(folder) as decoder:
        with await decoder.clip(SAMPLE, 4.0, 8.0, "a") as file, av.open(file, "r") as container:
            times_s = [frame.time for frame in container.decode(video=0)]
        assert times_s[0] == 0 and times_s[-1] < 4 and len(times_s) > 30
        assert "no frame starts between 50.000 and 60.000 s" in await refusal(decoder.clip(SAMPLE, 50.0, 60.0, "a"))
        assert "end_s 1.0 must be above start_s 2.0" in await refusal(decoder.clip(SAMPLE, 2.0, 1.0, "a"))
        (folder / "bad.mp4").write_bytes(b"nonsense" * 99)
        assert "cannot be used" in await refusal(decoder.clip(folder / "bad.mp4", 0.0, 1.0, "a"))
        assert decoder.alive and decoder.restarts == 0
        assert not list(folder.glob("tmp*"))


def test_a_clip_is_cut_in_the_same_limits(tmp_path: Path):
    asyncio.run(clipped(tmp_path))


def write_sound(path: Path, samples: np.ndarray) -> None:
    """A WAV file of floating point samples."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("pcm_f32le", rate=SAMPLE_RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None], "flt", "mono")
        frame.sample_rate = SAMPLE_RATE
        output.mux(stream.encode(frame))
        output.mux(stream.encode())


def test_sound_is_decoded_in_the_same_limits(tmp_path: Path):
    asyncio.run(heard(tmp_path))


async def starved(folder: Path) -> None:
    async with running(folder, Limits(decode_bytes=8 * MiB, decode_s=2)) as decoder:
        large = write_clip(folder / "large.mp4", frames=24, size=(1920, 1080))
        reason = await refusal(decoded(decoder, large))
        assert "8 MiB" in reason or "could be decoded" in reason or "not a video" in reason
        decoder.limits = Limits(decode_s=0.001)
        assert "crashed, or took more than 0.001 s" in await refusal(decoded(decoder, SAMPLE))
        assert decoder.alive and decoder.restarts == 0


async def swapped(folder: Path) -> None:
    """What is found in a file is kept under the hash of its content, and must never be that of another one."""
    film, other, sound = folder / "film.mp4", folder / "other.mp4", folder / "sound.wav"
    film.write_bytes(SAMPLE.read_bytes())
    write_clip(other, frames=2)
    write_sound(sound, np.zeros(SAMPLE_RATE, np.float32))
    sha = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in (film, sound)}

    async def sense(_: str) -> Any:
        return ObjectSense()

    async with running(folder) as decoder:

        async def look() -> VideoInfo:
            async with decoder.decode(film, FOUR, 32, "a", sha[film]) as found:
                return found.info

        async def listen() -> None:
            async with decoder.sound(sound, "a", sha[sound]):
                pass

        info = await look()
        await listen()
        for path in (film, sound):
            path.unlink()
            path.symlink_to(other)
        senses, thumbnails = VideoSenses(decoder, ModelExecutor(), sense), Thumbnails(decoder)
        of_film = "a", film, sha[film], ["objects"]
        for ask in (look(), listen(), senses.of(*of_film), thumbnails.at(film, sha[film], [0.5])):
            assert "changed while it was read" in await refusal(ask)
        seen = await senses.of(*of_film, info=info)  # of a video that was decoded before the swap
        assert not seen.findings.found and "changed while it was read" in str(seen.problems["objects"])


def test_what_is_kept_under_a_hash_is_of_that_content(tmp_path: Path):
    asyncio.run(swapped(tmp_path))


def test_a_file_is_opened_once_and_must_not_change_meanwhile(tmp_path: Path):
    file, name = tmp_path / "film.mp4", tmp_path / "name.mp4"
    file.write_bytes(b"first")
    name.symlink_to(file)
    with _one_file(str(name)) as same:
        name.unlink()
        name.write_bytes(b"second")
        assert same.read_bytes() == b"first"
    with (
        pytest.raises(VideoLLMError, match="changed while it was read"),
        _one_file(str(file)),
        open(file, "ab") as more,
    ):
        more.write(b"more")
    with pytest.raises(VideoNotFoundError), _one_file(str(tmp_path / "none")):
        pass


def test_memory_and_time_are_limited(tmp_path: Path):
    asyncio.run(starved(tmp_path))
