"""`videollm mcp`: an MCP server on stdin and stdout, with which assistants ask about videos of this machine.

Needs the extra `mcp`, the official SDK (https://modelcontextprotocol.io).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Any

from videollm.cli.models import new_session
from videollm.cli.options import (
    Commands,
    Options,
    device_arguments,
    model_arguments,
    sampling_arguments,
    senses_arguments,
)
from videollm.cli.output import hide_progress_bars
from videollm.cli.shapes import CaptionJSON, EvidenceJSON, MomentJSON
from videollm.device_arguments import loading_options
from videollm.errors import VideoLLMError

if TYPE_CHECKING:
    from mcp.server import MCPServer

    from videollm.features.encode import EncodedVideo
    from videollm.model import Model

VIDEOS = 8  # whose features are kept


def register(commands: Commands) -> None:
    parser = commands.add_parser(
        "mcp",
        help="let assistants ask about videos, over MCP on stdin and stdout",
        parents=[model_arguments(), device_arguments(), sampling_arguments(), senses_arguments()],
        allow_abbrev=False,
    )
    parser.set_defaults(run=mcp)
    parser.add_argument("--index", metavar="DIR", help="the search index that the tool `search` reads")


def mcp(options: Options) -> None:
    hide_progress_bars()
    build_server(options).run("stdio")


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


def build_server(options: Options) -> "MCPServer":
    """Returns the server with its tools. One of them works at a time, because each needs the whole machine."""
    from mcp.server import MCPServer
    from mcp.server.mcpserver.exceptions import ToolError

    server = MCPServer("videollm", instructions="Answers questions about video files. Paths are those of this machine.")
    videos, working = Videos(options), Lock()

    @contextmanager
    def turn() -> Iterator[None]:
        with working:
            try:
                yield
            except VideoLLMError as error:
                raise ToolError(str(error)) from error

    @server.tool()
    def ask(video: str, question: str) -> dict[str, Any]:
        """Answers a question about a video file or picture, with the times in seconds that support the answer."""
        from videollm.chat.session import ChatSession

        with turn():
            answer = ChatSession(videos.model(), videos.encoded(video)).ask(question)
        return {"text": answer.text, "evidence": [asdict(EvidenceJSON.of(one)) for one in answer.evidence]}

    @server.tool()
    def caption(video: str) -> dict[str, Any]:
        """Describes a video file, as a whole and part by part with times in seconds."""
        from videollm.chat import caption as captions

        with turn():
            model, shown = videos.model(), videos.encoded(video)
            whole, parts = captions.caption(model, shown), captions.dense_captions(model, shown)
        return {"text": whole.text, "captions": [asdict(CaptionJSON.of(part)) for part in parts]}

    @server.tool()
    def moments(video: str, query: str, limit: int = 3) -> dict[str, Any]:
        """Finds when in a video file something is shown: times in seconds with scores, best first."""
        from videollm.retrieval.grounding import ground

        with turn():
            found = ground(videos.encoded(video), query, videos.model().encoder, limit)
        return {"moments": [{"start": span.start_s, "end": span.end_s, "score": span.score} for span in found]}

    if options.index is not None:

        @server.tool()
        def search(query: str, limit: int = 10) -> dict[str, Any]:
            """Finds moments in all videos of the index by a description of what is shown or said, best first."""
            from videollm.retrieval import search as searching
            from videollm.retrieval.index import Index

            with turn():
                index = Index.open(options.index, videos.model().encoder)
                found = searching.search(index, query, limit)
            return {"moments": [asdict(MomentJSON.of(moment)) for moment in found]}

    return server
