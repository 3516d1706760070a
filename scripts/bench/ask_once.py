"""Two questions about a video, for `length.py`, in a process that imports what `videollm ask` does.

python scripts/bench/ask_once.py MODEL WARM_UP_VIDEO VIDEO prints one line of JSON.
"""

import json
import resource
import sys
from dataclasses import asdict
from pathlib import Path

from videollm.chat.load import load_to_chat
from videollm.chat.session import ChatSession
from videollm.inference.sampling import GenerationConfig

ONE_TOKEN = GenerationConfig(max_new_tokens=1)


def private_bytes() -> int:
    """Memory of this process that is in no file, on Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:")) * 1024


def main() -> None:
    name, warm_up, video = sys.argv[1:]
    model = load_to_chat(name)
    ChatSession(model, warm_up).ask("What is this?", ONE_TOKEN)
    session = ChatSession(model, video)
    first = session.ask("What is in this video?", ONE_TOKEN).receipt
    second = session.ask("And then?", ONE_TOKEN).receipt  # which the language model answers, as the first
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    found = {"first": asdict(first), "second": asdict(second), "peak_bytes": peak, "private_bytes": private_bytes()}
    print(json.dumps(found, default=str))


if __name__ == "__main__":
    main()
