"""Requests of which parts were replaced, sent to a real server of the debug model.

Right is an answer, or a refusal (4xx) in the form of OpenAI's API that says what is wrong.
"""

import base64
import json
import random
from pathlib import Path
from typing import Any

import httpx

from odd_inputs.media import Media
from odd_inputs.values import changed

LIMIT_S = 600  # an answer may fill the context of the model, and the machine may be busy


class Requests:
    def __init__(self, folder: Path, url: str):
        path = Media(folder).encoded("mp4", (96, 64))
        video = f"data:video/mp4;base64,{base64.b64encode(path.read_bytes()).decode()}"
        self.bodies = _bodies(video)
        self.client = httpx.Client(base_url=url, timeout=LIMIT_S)
        for where, body in self.bodies:
            answer = self.client.post(where, json=body)
            assert answer.status_code == 200, f"{where} is refused though nothing is wrong with it: {answer.text}"

    def check(self, rng: random.Random) -> str:
        """Sends a request. Returns the status of the answer; AssertionError if it is wrong."""
        where, body = rng.choice(self.bodies)
        text = json.dumps(changed(body, rng, rng.choice((1, 1, 2, 4))))
        data = text.encode("utf-8", "surrogatepass")
        if rng.random() < 0.1:
            data = data[: rng.randrange(len(data))] + rng.choice((b"", b"\xff", b"\x00", b"]", b"\xed\xa0\x80"))
        answer = self.client.post(where, content=data, headers={"Content-Type": "application/json"})
        status = answer.status_code
        assert status == 200 or 400 <= status < 500, f"{where} {status}: {answer.text[:300]} for {text[:300]}"
        if status != 200:
            error = answer.json()["error"]
            assert error["message"].strip() and error["type"], f"{where} {status}: {answer.text[:300]}"
        return str(status)


def _bodies(video: str) -> list[tuple[str, dict[str, Any]]]:
    said = [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [{"type": "video_url", "video_url": {"url": video}}, {"type": "text", "text": "?"}],
        },
        {"role": "assistant", "content": "A cat."},
        {"role": "user", "content": "And then?"},
    ]
    settings = {"model": "debug", "temperature": 0.5, "top_p": 0.9, "seed": 1, "stop": ["x"], "n": 1, "user": "u",
                "logit_bias": {"5": 1}, "presence_penalty": 0.1, "logprobs": True, "top_logprobs": 2}  # fmt: skip
    chat = {**settings, "messages": said, "max_tokens": 2}
    return [
        ("/v1/chat/completions", chat),
        (
            "/v1/chat/completions",
            {"model": "debug", "messages": said[-1:], "max_tokens": 2, "tools": []},
        ),
        ("/v1/embeddings", {"model": "debug", "input": ["a", "b"], "encoding_format": "float"}),
        ("/v1/responses", {"model": "debug", "input": "Hi", "max_output_tokens": 2, "metadata": {"a": "b"}}),
    ]
