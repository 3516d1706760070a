"""A chat completions server on this machine whose answers a test decides."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, str, dict[str, str]]  # status, text, further headers


@contextmanager
def chat_server(
    answer: Callable[[dict[str, Any]], Answer], headers: list[dict[str, str]] | None = None
) -> Iterator[str]:
    """Gives each request body to `answer`; yields the server's address.

    A text with an error status becomes the message of an OpenAI error. headers: collects those of the requests, with
    names in lower case.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if headers is not None:
                headers.append({name.lower(): value for name, value in self.headers.items()})
            status, text, more = answer(body)
            usage = {"prompt_tokens": 10, "completion_tokens": 5}
            reply = {"choices": [{"message": {"role": "assistant", "content": text}}], "usage": usage}
            data = json.dumps(reply if status == 200 else {"error": {"message": text}}).encode()
            self.send_response(status)
            sent = {"Content-Type": "application/json", "Content-Length": str(len(data)), **more}
            for name, value in sent.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)
            if int(sent["Content-Length"]) > len(data):  # a reply that is cut off
                self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{http.server_port}/v1"
    finally:
        http.shutdown()
        http.server_close()
