"""Attacks by requests: bodies, texts, uploads and clients that leave."""

import json
import resource
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx

from scripts.attack.attacks import Outcome, Target, attack, codes, until
from scripts.serving import MiB

JSON = {"Content-Type": "application/json"}
CHAT = {"model": "debug", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}


def _posted(path: str, body: bytes) -> bytes:
    """Returns a request whose answer nobody need wait for."""
    fields = f"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return f"POST {path} HTTP/1.1\r\n{fields}\r\n\r\n".encode() + body


@attack("400, others are answered, memory stays")
def lists_of_wrong_items(target: Target) -> Outcome:
    body = json.dumps({"model": "debug", "input": [0] * 340_000}).encode()
    before, slowest = target.served.memory(), 0.0
    with ThreadPoolExecutor(8) as clients:
        sent = [clients.submit(target.post, "/v1/embeddings", content=body, headers=JSON) for _ in range(16)]
        while not all(one.done() for one in sent):
            slowest = max(slowest, target.health_s())
    grown, said = (target.served.memory() - before) / MiB, codes([one.result() for one in sent])
    good = said == "400 invalid_value" and slowest < 10 and grown < 400
    return Outcome(f"{said}; health {slowest:.1f} s; {grown:+.0f} MiB", good)


@attack("413 and 400")
def too_much_json_and_text(target: Target) -> Outcome:
    said = [
        codes([target.post("/v1/embeddings", content=b"[" + b"0," * MiB, headers=JSON)]),
        codes([target.post("/v1/embeddings", {"model": "debug", "input": "a" * 262_144})]),
        codes([target.post("/v1/videos/search", {"query": "a" * 262_144})]),
        codes([target.post("/v1/chat/completions", CHAT | {"messages": [{"role": "user", "content": "a" * 262_144}]})]),
    ]
    return Outcome(", ".join(said), said == ["413 request_too_large", *["400 text_too_long"] * 3])


@attack("work ends with its client")
def clients_that_leave(target: Target) -> Outcome:
    video = (target.root / "inside/clip.mp4").as_uri()
    body = json.dumps({"model": "debug", "video": {"url": video}, "dense": True}).encode()
    with ExitStack() as clients:
        for _ in range(20):
            clients.enter_context(target.connection(_posted("/v1/videos/caption", body)))
        begun = until(lambda: target.working > 0)
    ended = until(lambda: target.working == 0)
    answer = target.post("/v1/chat/completions", CHAT)
    return Outcome(f"begun {begun}, ended {ended}, then {codes([answer])}", begun and ended and answer.is_success)


@attack("no more files and bytes than one after the other")
def forty_uploads_at_once(target: Target) -> Outcome:
    def send(_: int) -> httpx.Response:
        form = {"files": {"file": ("a.mp4", bytes(3_000_000))}, "data": {"purpose": "vision"}}
        return target.post("/v1/files", **form)

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(send, range(40)))
    kept, size = len(target.uploads()), sum(path.stat().st_size for path in target.uploads())
    for file in httpx.get(f"{target.url}/v1/files").json()["data"]:
        httpx.delete(f"{target.url}/v1/files/{file['id']}")
    good = kept <= 2 and size <= 8_000_000 and kept == sum(answer.is_success for answer in answers)
    return Outcome(f"{kept} files, {size / 1e6:.0f} MB; {codes(answers)}", good and not target.uploads())


@attack("403 and 400, nothing kept")
def uploads_of_other_sites_and_names_that_are_no_text(target: Target) -> Outcome:
    part = b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nvision\r\n--b\r\n'
    body = part + b'Content-Disposition: form-data; name="file"; filename="\\ud800.mp4"\r\n\r\nabc\r\n--b--\r\n'
    form = "multipart/form-data; boundary=b"
    sent = [
        target.post("/v1/files", content=body, headers={"Content-Type": form, "Origin": "https://evil.example"}),
        target.post("/media", content=body, headers={"Content-Type": form, "Origin": "null"}),
        target.post("/v1/files", content=body, headers={"Content-Type": f"{form}; charset=raw_unicode_escape"}),
    ]
    listed = httpx.get(f"{target.url}/v1/files").is_success
    good = [answer.status_code for answer in sent] == [403, 403, 400] and listed and not target.uploads()
    return Outcome(f"{codes(sent)}; list {'works' if listed else 'fails'}", good)


@attack("503, the server goes on, nothing is left")
def a_full_disk(target: Target) -> Outcome:
    """The server may not write files beyond a size, as on a full disk. Its first search writes what it searches in."""
    pid, before = target.served.process.pid, resource.getrlimit(resource.RLIMIT_FSIZE)
    ask = {"query": "red", "limit": 1}
    for made in target.index.glob("local/vectors-*/*"):
        made.unlink()  # so that they are written again
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (64, before[1]))
    try:
        form = {"files": {"file": ("a.mp4", bytes(100_000))}, "data": {"purpose": "vision"}}
        upload, search = target.post("/v1/files", **form), target.post("/v1/videos/search", ask)
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
    again = target.post("/v1/videos/search", ask)
    good = (upload.status_code, search.status_code, again.status_code) == (503, 503, 200)
    return Outcome(f"{codes([upload, search])}; later {codes([again])}", good and not target.uploads())


@attack("408 and 431; nobody is locked out")
def heads_bodies_and_connections(target: Target) -> Outcome:
    head = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
    said = []
    late = _posted("/v1/embeddings", bytes(99))[:-90]
    for data in (head + b"A: " + b"a" * 9000, head + b"A: a\r\n" * 2000, head, late):
        with target.connection(data) as made:
            said.append(made.recv(1 << 16)[9:12].decode())
    with ExitStack() as silent:
        for _ in range(100):
            silent.enter_context(target.connection())
        health = target.health_s()
    good = said == ["431", "431", "408", "408"] and health < 10
    return Outcome(f"{', '.join(said)}; health among 100 silent connections {health:.1f} s", good)


@attack("ends within 30 s, exit code 0, nothing on disk")
def told_to_stop_during_a_long_text(target: Target) -> Outcome:
    body = json.dumps({"model": "debug", "input": "word " * 26_000}).encode()
    with target.connection(_posted("/v1/embeddings", body)):
        until(lambda: target.working > 0)
        target.served.process.terminate()
        code = target.served.process.wait(30)
    left = list(target.served.folder.glob("videollm-serve-*"))
    return Outcome(f"exit code {code}, {len(left)} folders left", code == 0 and not left)


ATTACKS = (
    lists_of_wrong_items,
    too_much_json_and_text,
    clients_that_leave,
    forty_uploads_at_once,
    uploads_of_other_sites_and_names_that_are_no_text,
    a_full_disk,
    heads_bodies_and_connections,
)
