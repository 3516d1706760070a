"""Stream an answer about a video from a running server, with OpenAI's own client.

videollm serve --port 8000 &
python scripts/examples/stream_with_openai.py --base-url http://127.0.0.1:8000/v1 [VIDEO] [QUESTION]
"""

import argparse
from pathlib import Path

from openai import OpenAI

SAMPLE = Path(__file__).parents[1] / "samples/sample.mp4"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("video", nargs="?", type=Path, default=SAMPLE)
    parser.add_argument("question", nargs="?", default="What is in this video?")
    parser.add_argument("--base-url", default="http://127.0.0.1:8000/v1")
    parser.add_argument("--api-key", default="none", help="a server on loopback asks for no key")
    options = parser.parse_args()

    client = OpenAI(base_url=options.base_url, api_key=options.api_key)
    model = client.models.list().data[0].id
    # An uploaded file can be asked about many times; its features stay in the server's cache.
    file = client.files.create(file=options.video, purpose="user_data")
    content = [{"type": "file", "file": {"file_id": file.id}}, {"type": "text", "text": options.question}]
    messages = [{"role": "user", "content": content}]
    stream = client.chat.completions.create(model=model, messages=messages, stream=True)  # type: ignore[call-overload]
    for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content:
            print(chunk.choices[0].delta.content, end="", flush=True)
    print()
    client.files.delete(file.id)


if __name__ == "__main__":
    main()
