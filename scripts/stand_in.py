"""A stand-in for a language model server, which answers chat completions after a fixed delay with words of the prompt.

    python scripts/stand_in.py [--delay SECONDS] [--port PORT]

It prints its address. Replies follow the JSON Schema of the request. It holds any number of requests at once, so a
benchmark against it measures the client.
"""

import argparse
import asyncio
import contextlib
import json
import re
from typing import Any


def reply(body: dict[str, Any]) -> str:
    """JSON that follows the schema of the request. Answers are lines of the annotation, so they pass the filters."""
    prompt = body["messages"][-1]["content"]
    lines = re.findall(r"^\d+\. (?:[\d:.-]+ )?(?:\w+: )?(.+)$", prompt, re.MULTILINE) or [prompt[-60:]]
    texts = {"question": "What is there to be seen, as number {n}?", "instruction": "Tell a story that begins here."}

    def fill(schema: dict[str, Any], name: str, n: int) -> Any:
        match schema["type"]:
            case "object":
                return {key: fill(value, key, n) for key, value in schema["properties"].items()}
            case "array":
                count = len(lines) if name in ("items", "texts") else 1 if name == "lines" else 4
                return [fill(schema["items"], name, i) for i in range(count)]
            case "integer" | "number":
                return 0 if name == "correct" else n + 1
            case "boolean":
                return True
        if name == "choices":
            return f"{lines[0]} {n}"
        return texts[name].format(n=n + 1) if name in texts else lines[n % len(lines)]

    wanted = body.get("response_format", {}).get("json_schema", {}).get("schema")
    return json.dumps(fill(wanted, "", 0)) if wanted else lines[0]


async def serve(port: int, delay_s: float) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            (length,) = re.findall(rb"content-length: *(\d+)", head, re.IGNORECASE)
            body = json.loads(await reader.readexactly(int(length)))
            await asyncio.sleep(delay_s)
            said = reply(body)
            usage = {"prompt_tokens": len(str(body["messages"])) // 4, "completion_tokens": len(said) // 4}
            message = {"role": "assistant", "content": said}
            data = json.dumps({"choices": [{"index": 0, "message": message}], "usage": usage}).encode()
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(data) + data
            )
            await writer.drain()

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answer(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):  # the client has disconnected
            writer.close()

    server = await asyncio.start_server(connection, "127.0.0.1", port)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--delay", type=float, default=0.2, help="seconds before an answer (default: 0.2)")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0 takes a free one (default: 0)")
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(options.port, options.delay))


if __name__ == "__main__":
    main()
