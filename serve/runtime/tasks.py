"""The tasks of the server besides chat: embeddings, captions, summaries and search."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from videollm.retrieval.queries import embed_text_parts, join_parts

if TYPE_CHECKING:
    from videollm.retrieval.search import Moment


async def embed(service: Service, request: EmbeddingsRequest, owner: str) -> EmbeddingsReply:
    """Embeds each input. Raises APIError."""
    service.check_model(request.model)
    limit, width = service.config.limits.embeddings, service.model.encoder.embed_dim
    if len(request.items) > limit:
        raise APIError(
            400, f"input has {len(request.items)} items; the limit is {limit}", "invalid_value", param="input"
        )
    if (dimensions := request.dimensions or width) > width:
        message = f"dimensions is {dimensions}; the model has vectors of {width}"
        raise APIError(400, message, "invalid_value", param="dimensions")
    inputs = [_text_or_part(service, item, f"input.{number}") for number, item in enumerate(request.items)]
    service.check_text([item for item in inputs if isinstance(item, str)], "input")
    vectors, tokens = [], 0
    for number, item in enumerate(inputs):
        if isinstance(item, str):
            vector, count = await embed_text(service, item, f"input.{number}")
            tokens += count
        else:
            vector = await _embed_media(service, item, owner, request.video, f"input.{number}")
        vectors.append(torch.nn.functional.normalize(vector[:dimensions], dim=0))
    items = [
        EmbeddingItem(index=number, embedding=_numbers(vector, request.encoding_format))
        for number, vector in enumerate(vectors)
    ]
    usage = EmbeddingsUsage(prompt_tokens=tokens, total_tokens=tokens)
    return EmbeddingsReply(data=items, model=request.model, usage=usage)


def _text_or_part(service: Service, item: Any, param: str) -> str | VideoPart | ImagePart | FilePart:
    """Returns the text of an item of the input, or its video or picture. Raises APIError for unknown token ids."""
    if not isinstance(item, list):
        return item.text if isinstance(item, TextPart) else item
    tokenizer = service.model.processor.tokenizer
    if tokenizer is None:
        raise APIError(
            400, f"{param}: the model's server does not tell its tokens; send text", "invalid_value", param=param
        )
    if (largest := max(item)) >= len(tokenizer):
        message = f"{param}: token {largest} is not one of the {len(tokenizer)} of this model's tokenizer; send text"
        raise APIError(400, message, "invalid_value", param=param)
    return tokenizer.decode(item)


async def embed_text(service: Service, text: str, param: str) -> tuple[torch.Tensor, int]:
    """Returns the unit vector (E,) of a text, and its number of tokens. Raises APIError for an empty one.

    A long text is embedded in parts. Other requests take turns with them, and a client that goes away ends them.
    """
    with api_errors(param):
        parts = [part async for part in service.executor.run_parts(embed_text_parts(text, service.model.encoder))]
    return join_parts([part.weighted for part in parts]), sum(part.tokens for part in parts)


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
    loaded = await load_video(service, request.video.url, owner, request.options, param="video", observed=True)
    engine, stop = service.blocking_engine_for(owner)
    model, dense = service.model, []
    with api_errors("video"):
        answer = await run_in_new_thread(caption, model, loaded.video, engine, stop=stop)
        if request.dense:
            dense = await run_in_new_thread(dense_captions, model, loaded.video, engine, stop=stop)
    return CaptionReply(
        model=request.model,
        text=answer.text,
        captions=[CaptionJSON.of(one) for one in dense],
        video=loaded.used,
    )


async def summarize_video(service: Service, request: SummarizeRequest, owner: str) -> SummaryReply:
    """Describes the parts that represent a video. Raises APIError."""
    service.check_model(request.model)
    loaded = await load_video(service, request.video.url, owner, request.options, param="video", observed=True)
    engine, stop = service.blocking_engine_for(owner)
    with api_errors("video"):
        summary = await run_in_new_thread(summarize, service.model, loaded.video, request.parts, engine, stop=stop)
    parts = [PartJSON.of(part) for part in summary.parts]
    return SummaryReply(model=request.model, text=summary.text, parts=parts, video=loaded.used)


async def search_index(service: Service, request: SearchRequest, owner: str) -> SearchReply:
    """Finds moments of indexed videos by a text, a video or a picture. Raises APIError."""
    query: str | torch.Tensor | None = request.query
    if request.like is not None:
        query = await _embed_media(service, request.like, owner, request.options, "like")
    moments = await find_moments(service, query, request.limit, request.said, request.has)
    root = service.config.media_root
    return SearchReply(data=[FoundMoment.of(moment, _public_name(moment.path, root)) for moment in moments])


async def find_moments(
    service: Service, query: str | torch.Tensor | None, limit: int, said: str | None = None, has: Sequence[str] = ()
) -> "list[Moment]":
    """Finds moments of indexed videos by a text or by an embedding (E,), best first. Raises APIError.

    said, has: see `videollm.retrieval.search.Filter`.
    """
    if service.index is None:
        raise APIError(404, "this server has no index; start it with --index DIR", "no_index")
    from videollm.retrieval.search import Filter, search  # needs the extra `index`

    service.check_text([said or "", *has], "said")
    with api_errors("has" if has else "said"):
        where = Filter(said=said, has=tuple(has))
    embed = await embed_query(service, query) if isinstance(query, str) else query
    with api_errors("query"):
        return await service.executor.run(search, service.index, query, limit, where, embed)


async def embed_query(service: Service, query: str) -> torch.Tensor:
    """Returns the unit vector (E,) of a text to search for. Raises APIError."""
    service.check_text([query], "query")
    return (await embed_text(service, query, "query"))[0]


def _public_name(path: str, root: Path | None) -> str:
    """Returns the name by which requests may use the video. It reveals the folder only below the media root."""
    if root is not None and Path(path).is_relative_to(root.resolve()):
        return Path(path).as_uri()
    return Path(path).name
