"""Questions that a running `videollm serve` answers, which has its model loaded. No module here imports PyTorch."""

import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

from videollm.chat.answer import Answer, Evidence, GenerationReceipt, Receipt
from videollm.errors import EngineError
from videollm.inference.event_stream import KEY_VARIABLE, EventStreamClient
from videollm.senses.finding import Finding

PATIENCE_S = 600.0  # the longest wait for a part of the answer
EXAMPLE = "http://127.0.0.1:8000/v1"
PIECE_BYTES = 1 << 20


def ask_server(
    url: str,
    video: Path,
    question: str,
    request: dict[str, Any],
    on_text: Callable[[str], None] | None = None,
) -> Answer:
    """Has a server answer a question about a video, which is uploaded and deleted there afterwards.

    Args:
        url: The server, up to and including /v1. Its key is read from `KEY_VARIABLE`.
        video: The file.
        question: The question.
        request: Further fields of the request for a chat completion, such as `model` and `video`.
        on_text: Is called with each piece of the answer as it comes.

    Raises:
        OSError: If the file cannot be read.
        ConfigError: If the URL is not an HTTP URL.
        EngineError: If the server cannot be reached, and RefusalError if it refuses the request.
    """
    client = EventStreamClient("the server", url, os.environ.get(KEY_VARIABLE), EXAMPLE, PATIENCE_S)
    file = _upload(client, video)
    try:
        part = {"type": "video_url", "video_url": {"url": file}}
        messages = [{"role": "user", "content": [part, {"type": "text", "text": question}]}]
        with closing(client.post("/chat/completions", request | {"messages": messages, "stream": True})) as chunks:
            return _answer(chunks, on_text)
    finally:
        with suppress(EngineError):  # the answer counts, and the server deletes files after their time
            client.call("DELETE", f"/files/{file}")


def _upload(client: EventStreamClient, video: Path) -> str:
    """Uploads the file piece by piece and returns its id on the server."""
    boundary = secrets.token_hex(16)
    name = re.sub(r'["\r\n]', "_", video.name).encode(errors="replace")
    form = f'--{boundary}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n--{boundary}\r\n'
    head = form.encode() + b'Content-Disposition: form-data; name="file"; filename="' + name + b'"\r\n\r\n'
    tail = f"\r\n--{boundary}--\r\n".encode()
    with open(video, "rb") as opened:

        def pieces() -> Iterator[bytes]:
            yield head
            while piece := opened.read(PIECE_BYTES):
                yield piece
            yield tail

        size = len(head) + os.fstat(opened.fileno()).st_size + len(tail)
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}", "Content-Length": str(size)}
        return client.call("POST", "/files", pieces(), headers)["id"]


def _answer(chunks: Iterator[dict[str, Any]], on_text: Callable[[str], None] | None) -> Answer:
    text, evidence, receipt, finish = "", [], {}, "stop"
    for chunk in chunks:
        receipt = chunk.get("receipt") or receipt
        for choice in chunk["choices"]:
            if piece := choice["delta"].get("content"):
                text += piece
                if on_text is not None:
                    on_text(piece)
            evidence = choice.get("evidence") or evidence
            finish = choice.get("finish_reason") or finish
    (used,) = receipt["videos"]
    made: dict[str, Any] = {field.name: receipt.get(field.name) for field in fields(GenerationReceipt)}
    return Answer(
        text,
        tuple(_evidence(one) for one in evidence),
        Receipt(
            **made,
            frames=used["frames"],
            lost_frames=used["lost_frames"],
            times_s=tuple(used["times"]),
            finish="length" if finish == "length" else "stop",
        ),
    )


def _evidence(one: dict[str, Any]) -> Evidence:
    findings = [Finding(start_s=f.pop("start"), end_s=f.pop("end"), **f) for f in one["findings"]]
    tags = tuple((word, prob) for word, prob in one["tags"])
    return Evidence(one["start"], one["end"], one["score"], tags, one["video"], tuple(findings))
