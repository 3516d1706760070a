"""The tools of `videollm mcp`.

Needs the extra `mcp`, the official SDK (https://modelcontextprotocol.io).
"""

import asyncio
from collections.abc import Callable
from dataclasses import asdict
from functools import lru_cache
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import Field

from videollm.cli.models import new_session
from videollm.cli.options import Options
from videollm.cli.shapes import CaptionJSON, EvidenceJSON, MomentJSON
from videollm.device_arguments import loading_options
from videollm.errors import VideoLLMError

if TYPE_CHECKING:
    from videollm.features.encode import EncodedVideo
    from videollm.model import Model

VIDEOS = 8  # whose features are kept
PROGRESS_EVERY_S = 1.0

# Assistants read these descriptions.
File = Annotated[str, Field(description="The path of a video file or picture on this machine.")]
Question = Annotated[str, Field(description="What to find out about the video.")]
Query = Annotated[str, Field(description="What is shown, such as: a dog jumps into water.")]
Limit = Annotated[int, Field(ge=1, le=100, description="The most moments to return.")]


class Videos:
    """The model, which is loaded by the first tool that needs it, and the videos that were asked about last.

    Raises the VideoLLMError family.
    """

    def __init__(self, options: Options):
        self.options = options
        self.encoded = lru_cache(maxsize=VIDEOS)(self._encoded)
        self.model = lru_cache(maxsize=1)(self._model)

    def _model(self) -> "Model":
        from videollm.chat.load import load_to_chat

        return load_to_chat(self.options.model, **loading_options(self.options))

    def _encoded(self, path: str) -> "EncodedVideo":
        return new_session(self.model(), path, self.options).video

    def ask(self, path: str, question: str) -> dict[str, Any]:
        from videollm.chat.session import ChatSession

        answer = ChatSession(self.model(), self.encoded(path)).ask(question)
        return {"text": answer.text, "evidence": [asdict(EvidenceJSON.of(one)) for one in answer.evidence]}

    def caption(self, path: str) -> dict[str, Any]:
        from videollm.chat import caption as captions

        model, video = self.model(), self.encoded(path)
        whole, parts = captions.caption(model, video), captions.dense_captions(model, video)
        return {"text": whole.text, "captions": [asdict(CaptionJSON.of(part)) for part in parts]}

    def moments(self, path: str, query: str, limit: int) -> dict[str, Any]:
        from videollm.retrieval.grounding import ground

        found = ground(self.encoded(path), query, self.model().encoder, limit)
        rows = [{"start": s.start_s, "end": s.end_s, "score": s.score, "text": s.text} for s in found]
        return {"moments": rows}

    def search(self, query: str, limit: int) -> dict[str, Any]:
        from videollm.retrieval import search as searching
        from videollm.retrieval.index import Index

        index = Index.open(self.options.index, self.model().encoder)
        return {"moments": [asdict(MomentJSON.of(moment)) for moment in searching.search(index, query, limit)]}


def build_server(options: Options) -> MCPServer:
    """Returns the server with its tools. One of them works at a time, because each needs the whole machine."""
    reading = ToolAnnotations(read_only_hint=True)  # assistants may then call a tool without asking
    server = MCPServer("videollm", instructions="Answers questions about video files. Paths are those of this machine.")
    videos, working = Videos(options), Lock()

    def in_turn(work: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
        with working:
            try:
                return work(*arguments)
            except VideoLLMError as error:
                raise ToolError(str(error)) from error

    async def result(context: Context, work: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
        """Works in a thread and reports progress meanwhile: clients give up on a tool that is silent for long."""
        running = asyncio.ensure_future(asyncio.to_thread(in_turn, work, *arguments))
        started = monotonic()
        while not (await asyncio.wait([running], timeout=PROGRESS_EVERY_S))[0]:
            await context.report_progress(monotonic() - started, message="seconds of work so far")
        return running.result()

    @server.tool(annotations=reading)
    async def ask(context: Context, video: File, question: Question) -> dict[str, Any]:
        """Answers a question about a video file or picture, with the times in seconds that support the answer."""
        return await result(context, videos.ask, video, question)

    @server.tool(annotations=reading)
    async def caption(context: Context, video: File) -> dict[str, Any]:
        """Describes a video file, as a whole and part by part with times in seconds."""
        return await result(context, videos.caption, video)

    @server.tool(annotations=reading)
    async def moments(context: Context, video: File, query: Query, limit: Limit = 3) -> dict[str, Any]:
        """Finds when in a video file something is shown: times in seconds with scores, best first."""
        return await result(context, videos.moments, video, query, limit)

    if options.index is not None:

        @server.tool(annotations=reading)
        async def search(context: Context, query: Query, limit: Limit = 10) -> dict[str, Any]:
            """Finds moments in all videos of the index by a description of what is shown or said, best first."""
            return await result(context, videos.search, query, limit)

    return server
