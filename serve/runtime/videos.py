"""Loading of the videos of requests: opens what a request names, decodes it in the sandbox and encodes its frames."""

from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

from serve.api.errors import APIError, as_api_error
from serve.api.schemas.media import UsedVideo, VideoOptions
from serve.runtime.executor import ExecutorEncoder, run_in_new_thread
from serve.runtime.live import SCHEME, remembered
from serve.runtime.media import MediaFile, request_sampling
from serve.runtime.progress import OnProgress, silent, told
from serve.runtime.service import Service
from videollm.cli.live_shapes import date_json
from videollm.config import SamplingConfig
from videollm.encoders.audio import HearingEncoder
from videollm.errors import VideoLLMError
from videollm.features.encode import EncodedVideo, encode_frames, with_audio
from videollm.features.observe import part_of
from videollm.live.window import LiveWindow


@dataclass(frozen=True, slots=True)
class RequestVideo:
    """A video of a request.

    Attributes:
        key: The content hash and the sampling, which determine the features.
        video: The features.
        used: The description for the receipt.
    """

    key: tuple[str, SamplingConfig]
    video: EncodedVideo
    used: UsedVideo


async def load_video(
    service: Service,
    url: str,
    owner: str,
    options: VideoOptions,
    *,
    param: str,
    image: bool = False,
    observed: bool = False,
    progress: OnProgress = silent,
) -> RequestVideo:
    """Returns the features of a video or picture, from the cache if they are there.

    Args:
        param: The field of the request that names the video, for errors.
        image: Whether the request says that it is a picture, of which one frame is used.
        observed: Whether a language model will be told what the model's senses find, which takes longer than encoding.
        progress: Is called with "decode", "encode" and the names of senses while they work, from any thread.

    Raises APIError.
    """
    if url.startswith(SCHEME):
        return await _stream(service, url, owner, options, param)
    metrics, started = service.metrics, perf_counter()
    try:
        sampling = _sampling(service, options, image)
        async with service.media_loader.open(url, owner) as media:
            metrics.seconds.labels("load").observe(perf_counter() - started)
            key = owner, media.sha, sampling
            video, hit = await service.video_cache.get(key, lambda: _encode(service, media, owner, sampling, progress))
            if observed and service.used_senses:
                video = await _observe(service, media, owner, video, progress)
    except (VideoLLMError, APIError) as error:
        refusal = as_api_error(error, param)
        refusal.param = param
        raise refusal from error
    metrics.lookups.labels("features", str(hit).lower()).inc()
    return RequestVideo((media.sha, sampling), video, _used(media, video, sampling, options, image))


async def _stream(service: Service, url: str, owner: str, options: VideoOptions, param: str) -> RequestVideo:
    """Returns what is remembered of a stream as a video."""
    if options != VideoOptions():
        message = "the frames of a stream are chosen when it is watched; leave the video object out"
        raise APIError(400, message, "invalid_value", param="video")
    try:
        stream, parts = await remembered(service, owner, url)
    except APIError as error:
        error.param = param
        raise
    video = LiveWindow.of(stream.id, parts)
    used = UsedVideo(
        source=url,
        duration=video.end_s,
        frames=len(video.times_s),
        lost_frames=0,
        fps=stream.request.fps,
        start=0.0,
        end=video.end_s,
        detail=None,
        times=[round(t, 3) for t in video.times_s.tolist()],
        senses=list(video.findings.senses),
        starts_at=date_json(parts[0].start),
    )
    # The sampling is that of no file; the times of the window make the key one of its own.
    sampling = SamplingConfig(fps=stream.request.fps, start_s=parts[0].start, end_s=parts[-1].end)
    return RequestVideo((stream.id, sampling), video, used)


def _sampling(service: Service, options: VideoOptions, image: bool) -> SamplingConfig:
    if image:
        return SamplingConfig(frames=1)
    return request_sampling(
        service.model.config.sampling,
        service.config.limits.frames,
        frames=options.frames,
        fps=options.fps,
        start_s=options.start,
        end_s=options.end,
        detail=options.detail,
    )


async def _encode(
    service: Service, media: MediaFile, owner: str, sampling: SamplingConfig, progress: OnProgress
) -> EncodedVideo:
    encoder, started = service.model.encoder, perf_counter()
    progress("decode", 0)
    async with service.decoder.decode(media.path, sampling, encoder.image_size, owner, media.sha) as decoded:
        decode_ms = round(1000 * (perf_counter() - started), 1)
        executor_encoder: Any = ExecutorEncoder(encoder, service.executor)  # has the part of FrameEncoder used here
        stop = executor_encoder.stopped.set
        video = await run_in_new_thread(
            encode_frames, decoded.info, told(decoded.pieces, "encode", progress), executor_encoder, sampling, stop=stop
        )
    video.ms["decode"] = decode_ms
    if isinstance(encoder, HearingEncoder) and video.info.has_audio:
        progress("audio", 0)
        async with service.decoder.sound(media.path, owner, media.sha) as sound:
            video = await service.executor.run(lambda: with_audio(video, sound.pieces(), encoder, sampling))
    for step, ms in video.ms.items():
        service.metrics.seconds.labels(step).observe(ms / 1000)
    return video


async def _observe(
    service: Service, media: MediaFile, owner: str, video: EncodedVideo, progress: OnProgress
) -> EncodedVideo:
    """Returns the video with what the senses find in the part that was encoded, and the time that each took.

    Where a sense cannot be used, nobody has looked or listened, which the answers then say.
    """
    sensed = await service.senses.of(owner, media.path, media.sha, service.used_senses, video.info, progress)
    return replace(video, findings=part_of(video, sensed.findings), ms={**video.ms, **sensed.findings.ms})


def _used(
    media: MediaFile, video: EncodedVideo, sampling: SamplingConfig, options: VideoOptions, image: bool
) -> UsedVideo:
    times = video.times_s.tolist()
    by_detail = not image and options.frames is None and options.fps is None
    return UsedVideo(
        source=media.source,
        duration=video.info.duration_s,
        frames=len(times),
        lost_frames=video.lost,
        fps=sampling.fps,
        start=sampling.start_s or 0.0,
        end=video.end_s,
        detail=options.detail if by_detail else None,
        times=[round(t, 3) for t in times],
        senses=list(video.findings.senses),
    )
