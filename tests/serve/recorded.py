"""Requests that other clients than OpenAI's own send: tests/serve/api/recorded_clients.json.

haystack-ai 3.4.1, litellm 1.110.2, llama-index-llms-openai-like, the proxy of litellm 1.108.7, and Vercel's ai 6.0.326
with @ai-sdk/openai-compatible 2.0.92 and @ai-sdk/openai 3.0.141 sent theirs to this server, unmodified. Those of Open
WebUI are what its routers openai.py and tasks.py build.
"""

import json
from pathlib import Path
from typing import Any

import httpx

from tests.serve.conftest import Server

FILE = Path(__file__).parent / "api/recorded_clients.json"
KINDS = ("chat.completion", "list", "response")


def recorded_requests(clip: str) -> list[dict[str, Any]]:
    """The client, path and body of each request. clip: the data: URL of the video that some ask about."""
    return json.loads(FILE.read_text().replace('"CLIP"', json.dumps(clip)))


def assert_answered(server: Server, model: str, one: dict[str, Any]) -> None:
    made = httpx.post(f"{server.url}{one['path']}", json=one["body"] | {"model": model}, timeout=300)
    assert made.status_code == 200, (one["client"], made.text)
    if one["body"].get("stream"):
        assert "[DONE]" in made.text or "response.completed" in made.text or "response.incomplete" in made.text
        assert '"error"' not in made.text.replace('"error": null', "")
    else:
        assert made.json()["object"] in KINDS
