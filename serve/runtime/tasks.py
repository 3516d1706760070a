"""The tasks of the server besides chat: embeddings, captions, summaries and search."""

import base64
from pathlib import Path

import torch

from serve.api.errors import APIError, api_errors
from serve.api.schemas.embeddings import EmbeddingItem, EmbeddingsReply, EmbeddingsRequest, EmbeddingsUsage
from serve.api.schemas.media import FilePart, ImagePart, TextPart, VideoOptions, VideoPart, url_of
from serve.api.schemas.videos import (
    CaptionReply,
    CaptionRequest,
    FoundMoment,
    SearchReply,
    SearchRequest,
    SummarizeRequest,
    SummaryReply,
)
from serve.runtime.executor import run_in_new_thread
from serve.runtime.service import Service
from serve.runtime.videos import load_video
from videollm.chat.caption import caption, dense_captions
from videollm.chat.summary import summarize
from videollm.cli.shapes import CaptionJSON, PartJSON
from videollm.encoders.base import FrameEncoder
from videollm.errors import ConfigError
from videollm.retrieval.queries import embed_text


async def embed(service: Service, request: EmbeddingsRequest, owner: str) -> EmbeddingsReply:
    """Embeds each input. Raises APIError."""
    service.check_model(request.model)
    inputs = [request.input] if isinstance(request.input, str) else request.input
    limit = service.config.limits.embeddings
    if len(inputs) > limit:
        raise APIError(400, f"input has {len(inputs)} items; the limit is {limit}", "invalid_value", param="input")
    vectors, tokens = [], 0
    for number, item in enumerate(inputs):
        if isinstance(item, str | TextPart):
            text = item if isinstance(item, str) else item.text
            with api_errors(f"input.{number}"):
                vector, count = await service.executor.run(_embed_text, text, service.model.encoder)
            tokens += count
        else:
            vector = await _embed_media(service, item, owner, request.video, f"input.{number}")
        vectors.append(vector)
    items = [
        EmbeddingItem(index=number, embedding=_numbers(vector, request.encoding_format))
        for number, vector in enumerate(vectors)
    ]
    usage = EmbeddingsUsage(prompt_tokens=tokens, total_tokens=tokens)
    return EmbeddingsReply(data=items, model=request.model, usage=usage)


def _embed_text(text: str, encoder: FrameEncoder) -> tuple[torch.Tensor, int]:
    """Returns the unit vector (E,) of a text, and its number of tokens. Raises ConfigError if the text is empty."""
    if not text.strip():
        raise ConfigError("the text is empty; give at least one word")
    return embed_text(text, encoder), int(encoder.encode_text([text]).mask.sum())


async def _embed_media(
    service: Service, part: VideoPart | ImagePart | FilePart, owner: str, options: VideoOptions, param: str
) -> torch.Tensor:
    """Returns the unit vector (E,) of a video or picture, which is the normalised mean over its frames."""
    loaded = await load_video(service, url_of(part), owner, options, param=param, image=isinstance(part, ImagePart))
    return torch.nn.functional.normalize(loaded.video.features.embed.float().mean(0), dim=0).cpu()


def _numbers(vector: torch.Tensor, encoding: str) -> list[float] | str:
    if encoding == "float":
        return vector.tolist()
    return base64.b64encode(vector.numpy().astype("<f4").tobytes()).decode()


async def caption_video(service: Service, request: CaptionRequest, owner: str) -> CaptionReply:
    """Describes a video. Raises APIError."""
    service.check_model(request.model)
    loaded = await load_video(service, request.video.url, owner, request.options, param="video")
    model, engine = service.model, service.blocking_engine_for(owner)
    with api_errors("video"):
        answer = await run_in_new_thread(caption, model, loaded.video, engine)
        dense = await run_in_new_thread(dense_captions, model, loaded.video, engine) if request.dense else []
    return CaptionReply(
        model=request.model,
        text=answer.text,
        captions=[CaptionJSON.of(one) for one in dense],
        video=loaded.used,
    )


async def summarize_video(service: Service, request: SummarizeRequest, owner: str) -> SummaryReply:
    """Describes the parts that represent a video. Raises APIError."""
    service.check_model(request.model)
    loaded = await load_video(service, request.video.url, owner, request.options, param="video")
    engine = service.blocking_engine_for(owner)
    with api_errors("video"):
        summary = await run_in_new_thread(summarize, service.model, loaded.video, request.parts, engine)
    parts = [PartJSON.of(part) for part in summary.parts]
    return SummaryReply(model=request.model, text=summary.text, parts=parts, video=loaded.used)


async def search_index(service: Service, request: SearchRequest, owner: str) -> SearchReply:
    """Finds moments of indexed videos by a text, a video or a picture. Raises APIError."""
    if service.index is None:
        raise APIError(404, "this server has no index; start it with --index DIR", "no_index")
    from videollm.retrieval.search import Filter, search  # needs the extra `index`

    with api_errors("has" if request.has else "said"):
        where = Filter(said=request.said, has=tuple(request.has))
    query: str | torch.Tensor | None = request.query
    if request.like is not None:
        query = await _embed_media(service, request.like, owner, request.options, "like")
    with api_errors("query"):
        moments = await service.executor.run(search, service.index, query, request.limit, where)
    root = service.config.media_root
    return SearchReply(data=[FoundMoment.of(moment, _public_name(moment.path, root)) for moment in moments])


def _public_name(path: str, root: Path | None) -> str:
    """Returns the name by which requests may use the video. It reveals the folder only below the media root."""
    if root is not None and Path(path).is_relative_to(root.resolve()):
        return Path(path).as_uri()
    return Path(path).name
