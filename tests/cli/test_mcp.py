"""`videollm mcp` as a process, through the client of the official SDK."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from mcp import Client, StdioServerParameters

from videollm.retrieval.index import Index

SAMPLE = Path(__file__).parents[2] / "scripts/samples/sample.mp4"


def test_tools_answer_over_stdio(tmp_path: Path):
    Index.create(tmp_path / "index", "debug").update([str(SAMPLE)])
    command = ["-m", "videollm.cli", "mcp", "--model", "debug", "--index", str(tmp_path / "index")]
    server = StdioServerParameters(command=sys.executable, args=command, env=dict(os.environ))

    async def talk() -> None:
        async with Client(server) as client:
            tools = (await client.list_tools()).tools
            assert {tool.name for tool in tools} == {"ask", "caption", "moments", "search"}
            for tool in tools:
                properties = tool.input_schema["properties"]
                assert tool.description and all(p["description"] for p in properties.values())
                assert "context" not in properties and tool.annotations and tool.annotations.read_only_hint
            heard: list[float] = []

            async def progress(done: float, total: float | None, message: str | None) -> None:
                heard.append(done)

            async def call(name: str, **arguments: Any) -> Any:
                result = await client.call_tool(name, arguments, progress_callback=progress)
                text = result.content[0].text
                return text if result.is_error else json.loads(text)

            asked = await call("ask", video=str(SAMPLE), question="What is it?")
            assert isinstance(asked["text"], str) and all(e["end"] <= 12.01 for e in asked["evidence"])
            assert heard == sorted(heard) and heard[0] >= 1  # the first question loads the model, which takes seconds
            captions = (await call("caption", video=str(SAMPLE)))["captions"]
            assert captions[0]["start"] == 0 and captions[-1]["end"] > 11
            assert 0 < len((await call("moments", video=str(SAMPLE), query="a cat", limit=2))["moments"]) <= 2
            assert (await call("search", query="a cat", limit=1))["moments"][0]["video"] == str(SAMPLE)
            assert "less than or equal to 100" in await call("moments", video=str(SAMPLE), query="a cat", limit=101)
            assert "absent.mp4" in await call("ask", video="absent.mp4", question="What is it?")

    asyncio.run(asyncio.wait_for(talk(), 300))
