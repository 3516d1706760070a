"""A live source on loopback for scripts and tests: a playlist of HLS that goes on by itself."""

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import monotonic
from typing import Any

SECONDS = 60


class HLSServer:
    """Publishes a clip as a live playlist of the last segments, of a second each, again and again from its start on.

    Attributes:
        is_down: Whether everything is answered with 503.
        redirect: Where every request is sent to instead.

    Args:
        folder: Where the segments are written.
        write: Writes a clip of so many seconds, with a key frame a second, in a container with its options.
        encrypted: Whether segments are encrypted with AES-128, by a key that the server hands out.
    """

    def __init__(self, folder: Path, write: Callable[..., Any], encrypted: bool = False):
        self._key_line = []
        options = {"hls_time": "1", "hls_list_size": "0"}
        if encrypted:
            (folder / "segments.key").write_bytes(bytes(range(16)))
            (folder / "key.info").write_text(f"segments.key\n{folder / 'segments.key'}\n{'0f' * 16}\n")
            options["hls_key_info_file"] = str(folder / "key.info")
            self._key_line = [f'#EXT-X-KEY:METHOD=AES-128,URI="segments.key",IV=0x{"0f" * 16}']
        write(folder / "all.m3u8", SECONDS, "hls", **options)
        self.folder, self.started, self.is_down, self.redirect = folder, monotonic(), False, ""
        handler = type("Handler", (_HLSHandler,), {"hls": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/live.m3u8"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def playlist(self) -> str:
        newest = int(monotonic() - self.started) + 3
        first = max(0, newest - 5)
        lines = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:1", f"#EXT-X-MEDIA-SEQUENCE:{first}"]
        lines += self._key_line
        for number in range(first, newest):
            # The clip begins again when it has ended, and with it its timestamps.
            lines += ["#EXT-X-DISCONTINUITY"] if number and number % SECONDS == 0 else []
            lines += ["#EXTINF:1.0,", f"all{number % SECONDS}.ts"]
        return "\n".join(lines) + "\n"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _HLSHandler(BaseHTTPRequestHandler):
    hls: HLSServer

    def do_GET(self) -> None:
        name = Path(self.path.partition("?")[0]).name
        if self.hls.is_down:
            self.send_error(503)
        elif self.hls.redirect:
            self.send_response(302)
            self.send_header("Location", self.hls.redirect)
            self.end_headers()
        elif name == "live.m3u8":
            self._send(self.hls.playlist().encode(), "application/vnd.apple.mpegurl")
        elif (self.hls.folder / name).is_file():
            self._send((self.hls.folder / name).read_bytes(), "video/mp2t")
        else:
            self.send_error(404)

    def _send(self, data: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass
