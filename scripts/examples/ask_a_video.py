"""Ask two questions about a video and print where the answers come from.

python scripts/examples/ask_a_video.py [VIDEO] [--model lite]
"""

import argparse
from pathlib import Path

from videollm import ChatSession, load
from videollm.chat.answer import Answer

SAMPLE = Path(__file__).parents[1] / "samples/sample.mp4"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("video", nargs="?", default=SAMPLE)
    parser.add_argument("--model", default="lite")
    options = parser.parse_args()

    # The video is decoded and encoded here, once. Later turns use its features and the KV cache of the prompt.
    session = ChatSession(load(options.model), options.video)
    for question in ("What is in this video?", "What comes first?"):
        print(f"> {question}")
        for piece in session.stream(question):
            if not isinstance(piece, Answer):
                print(piece, end="", flush=True)
                continue
            print()
            for evidence in piece.evidence:
                print(f"  {evidence.start_s:.1f}-{evidence.end_s:.1f} s, score {evidence.score:.2f}")
            print(f"  {piece.receipt.cached_tokens} of {piece.receipt.prompt_tokens} prompt tokens were in the cache")


if __name__ == "__main__":
    main()
