"""Attacks by media: addresses, paths, bombs, and the process that decodes."""

import os
import struct
import zlib
from base64 import b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import av
import httpx
import numpy as np
import psutil

from scripts.attack.attacks import Outcome, Target, attack, codes, until
from scripts.serving import MiB

SECRET = "a-key-of-another-service"  # in the server's environment
HOSTS = (
    *("127.0.0.1", "localhost", "0", "2130706433", "0x7f.1", "127.1", "[::1]", "[::ffff:127.0.0.1]", "10.0.0.1"),
    *("[::ffff:0.0.0.0]", "169.254.169.254", "168.63.129.16", "[fec0::1]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]"),
    *("[::", "[::1", "a" * 64 + ".example", "\u2100\u2488.example", "user:pass@127.0.0.1", "[::1%25lo]"),
)


def asked(url: str, kind: str = "video_url") -> dict:
    return {"model": "debug", "input": [{"type": kind, kind: {"url": url}}]}


@attack("400, and nothing is fetched")
def addresses_inside_and_odd_ones(target: Target) -> Outcome:
    reached = Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            reached.set()
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as inside:
        Thread(target=inside.serve_forever, daemon=True).start()
        urls = [f"http://{host}:{inside.server_port}/a.mp4" for host in HOSTS]
        answers = [target.post("/v1/embeddings", asked(url)) for url in urls]
        inside.shutdown()
    good = {answer.status_code for answer in answers} == {400} and not reached.is_set()
    return Outcome(f"{len(urls)} addresses: {codes(answers)}; reached: {reached.is_set()}", good)


@attack("400 unless below the media root")
def paths_outside_of_the_media_root(target: Target) -> Outcome:
    root = target.root
    (root / "link.mp4").symlink_to(target.folder / "secret.mp4")
    spellings = [
        f"{root}/../secret.mp4",
        f"{root}/%2e%2e/secret.mp4",
        f"{root}/link.mp4",
        f"{root}/a%00b",
        "/etc/passwd",
    ]
    names = ["[::1", f"other-host{root}/inside/clip.mp4", *spellings]
    answers = [target.post("/v1/embeddings", asked(f"file://{name}")) for name in names]
    (root / "link.mp4").unlink()
    return Outcome(f"{len(names)} spellings: {codes(answers)}", {answer.status_code for answer in answers} == {400})


def _caption(target: Target, url: str, frames: int) -> httpx.Response:
    """Asks about a video in a way that no earlier request did, so that it must be decoded."""
    return target.post("/v1/videos/caption", {"model": "debug", "video": {"url": url}, "options": {"frames": frames}})


@attack("the honest file or a refusal, never the other one")
def a_folder_swapped_for_a_link(target: Target) -> Outcome:
    """The clip has 12 seconds, the secret film one."""
    inside, done = target.root / "inside", Event()
    (link := target.root / "elsewhere").symlink_to(target.folder / "secret")
    away = target.root / "away"

    def swap() -> None:
        while not done.is_set():
            inside.rename(away)
            link.rename(inside)
            inside.rename(link)
            away.rename(inside)

    swapping = Thread(target=swap)
    swapping.start()
    honest = (inside / "clip.mp4").as_uri()
    seen = []
    for number in range(25):
        seen.append(_caption(target, honest, frames=number + 1))
    done.set()
    swapping.join()
    link.unlink()
    durations = {answer.json()["video"]["duration"] for answer in seen if answer.is_success}
    good = all(duration > 5 for duration in durations)  # none, where every request met the folder while it was moved
    return Outcome(f"{codes(seen)}; durations {sorted(durations)}", good)


@attack("the answer is about what the file holds now")
def a_file_that_is_changed(target: Target) -> Outcome:
    file, clip = target.root / "changed.mp4", (target.root / "inside/clip.mp4").read_bytes()
    vectors = []
    for content in (clip, (target.folder / "secret.mp4").read_bytes(), clip):
        seen = file.stat() if file.exists() else None
        file.write_bytes(content)
        if seen is not None:
            os.utime(file, ns=(seen.st_atime_ns, seen.st_mtime_ns))
        vectors.append(target.post("/v1/embeddings", asked(file.as_uri())).json()["data"][0]["embedding"])
    file.unlink()
    good = vectors[0] == vectors[2] != vectors[1]
    return Outcome("each content has its own answer" if good else "an answer about another content", good)


@attack("400 within the limits of memory and time")
def pictures_of_256_megapixels(target: Target) -> Outcome:
    before = target.served.memory()
    answers = [target.post("/v1/embeddings", asked(_bomb(), "image_url"))]
    grown = (target.served.memory() - before) / MiB
    good = answers[0].status_code == 400 and grown < 300
    return Outcome(f"{codes(answers)}; {answers[0].elapsed.total_seconds():.1f} s, {grown:+.0f} MiB", good)


def _bomb(side: int = 16_000) -> str:
    """Returns a picture of zeros as a data: URL."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(bytes(side * (1 + side // 8)), 1)
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return f"data:image/png;base64,{b64encode(data).decode()}"


@attack("no key in its environment; replaced when killed")
def the_process_that_decodes(target: Target) -> Outcome:
    children = psutil.Process(target.served.process.pid).children()
    (decoder,) = [child for child in children if "serve.runtime.decoding_process" in child.cmdline()]
    leaked = SECRET in str(decoder.environ())
    decoder.kill()
    answer = _caption(target, (target.root / "inside/clip.mp4").as_uri(), frames=40)
    ready = until(lambda: httpx.get(f"{target.url}/ready").is_success)
    good = not leaked and answer.status_code in (200, 503) and ready
    return Outcome(f"key {'leaked' if leaked else 'absent'}; killed: {codes([answer])}, then ready: {ready}", good)


@attack("deleted when the next server starts")
def uploads_that_a_killed_server_left(target: Target) -> Outcome:
    """`leave` made the folder before the server was started."""
    left = [path.name for path in target.served.folder.glob(f"{LEFT}*")]
    return Outcome(f"{', '.join(left) or 'nothing'} left", not left)


def write_secret(folder: Path) -> None:
    """Writes a film of one second, which also has the name of the clip below the media root."""
    with av.open(str(folder / "secret.mp4"), "w") as output:
        stream = output.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for shade in range(8):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((64, 96, 3), 30 * shade, np.uint8))))
        output.mux(stream.encode())
    (folder / "secret").mkdir()
    (folder / "secret/clip.mp4").write_bytes((folder / "secret.mp4").read_bytes())


LEFT = "videollm-serve-left"


def leave(folder: Path) -> None:
    """Makes what a killed server leaves."""
    (folder / LEFT / "files").mkdir(parents=True)
    (folder / LEFT / "files/file-1").write_bytes(b"video")


ATTACKS = (
    uploads_that_a_killed_server_left,
    addresses_inside_and_odd_ones,
    paths_outside_of_the_media_root,
    a_folder_swapped_for_a_link,
    a_file_that_is_changed,
    pictures_of_256_megapixels,
    the_process_that_decodes,
)
