"""Makes odd inputs and looks at what becomes of them: python scripts/fuzz.py [--cases 1000] [--seed 0] [--kinds ...]

    media     clips with odd timestamps, tags and sizes; pictures of odd forms
    text      rows, pairs, predictions and subtitles in odd encodings, with odd characters
    tables    tables, annotations, items and predictions with odd values
    requests  requests with odd values, to a real server of the debug model

Each outcome must be right, or one of the errors that are named for users. Damaged bytes are `fuzz_intake.py`'s. Case N
of a seed is the same every time: `--first N --cases 1` makes it again, with the same --kinds. The exit code is 0 if all
cases ended well, else 1.
"""

import argparse
import random
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Protocol

import httpx
import torch
from odd_inputs.media import Media
from odd_inputs.requests import Requests
from odd_inputs.tables import Tables
from odd_inputs.text import Text
from serving import serving

from videollm.errors import FOREIGN

KINDS = ("media", "text", "tables", "requests")
# What no input may cause: the failures of a check, errors of other libraries, and mistakes of our own.
WRONG = (*FOREIGN, AssertionError, TypeError, LookupError, AttributeError, RuntimeError, httpx.HTTPError)


class Kind(Protocol):
    def check(self, rng: random.Random) -> str: ...


@contextmanager
def opened(names: Sequence[str]) -> Iterator[dict[str, Kind]]:
    """Yields the kinds by name, with a server if one is needed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found: dict[str, Kind] = {"media": Media(folder), "text": Text(folder), "tables": Tables(folder)}
        if "requests" not in names:
            yield found
            return
        with serving("--model", "debug") as server:
            yield {**found, "requests": Requests(folder, server.url)}
            assert server.alive, "the server has ended"


def fuzz(cases: int, seed: int, first: int, names: Sequence[str]) -> int:
    """Returns the number of cases that ended wrongly."""
    started, ends, wrong = perf_counter(), Counter[tuple[str, str]](), 0
    with opened(names) as kinds:
        for number in range(first, first + cases):
            name = names[number % len(names)]
            try:
                ends[name, kinds[name].check(random.Random(f"{seed}:{number}"))] += 1
            except WRONG as error:
                wrong += 1
                frame = traceback.extract_tb(error.__traceback__)[-1]
                print(f"WRONG case {number} ({name}): {type(error).__name__}: {str(error)[:400]}")
                print(f"  at {frame.filename}:{frame.lineno}", flush=True)
    print(f"{cases} cases, seed {seed}, in {perf_counter() - started:.0f} s")
    for (name, end), count in sorted(ends.items()):
        print(f"  {name} {end}: {count}")
    print(f"ended wrongly: {wrong}")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="the number of the first case")
    parser.add_argument("--kinds", default=",".join(KINDS), help=f"some of {','.join(KINDS)} (default: all)")
    options = parser.parse_args()
    names = options.kinds.split(",")
    if unknown := sorted({*names} - {*KINDS}):
        parser.error(f"there are no kinds {', '.join(unknown)}; choose from {', '.join(KINDS)}")
    torch.set_num_threads(1)
    return 1 if fuzz(options.cases, options.seed, options.first, names) else 0


if __name__ == "__main__":
    sys.exit(main())
