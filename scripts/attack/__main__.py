"""Attacks a server of this machine and the library's files, and prints what is promised and what is seen:

    python -m scripts.attack [NAME ...]

The server is one of its own, with the model `debug` and small limits; nothing but loopback is reached. It takes about
80 seconds of processor time. The exit code is 0 if every promise holds, else 1.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import httpx

from scripts.attack import library, media, page, requests
from scripts.attack.attacks import Attack, Outcome, Target
from scripts.serving import serving
from videollm.retrieval.index import Index

SAMPLE = Path(__file__).parents[1] / "samples/sample.mp4"
LIMITS = (
    "--connections=60",
    "--header-s=2",
    "--header-bytes=5000",
    "--body-s=2",
    "--files=3",
    "--files-bytes=8000000",
    "--drain-s=2",
)
# Those on the page leave files behind, which others count, and the last one ends the server.
LAST = requests.told_to_stop_during_a_long_text
ATTACKS = (*media.ATTACKS, *requests.ATTACKS, *page.ATTACKS, *library.ATTACKS, LAST)


def prepare(folder: Path) -> tuple[Path, Path]:
    """Returns a media root with the sample, and an index of a short film outside of it."""
    root, index = folder / "root", folder / "index"
    (root / "inside").mkdir(parents=True)
    (root / "inside/clip.mp4").write_bytes(SAMPLE.read_bytes())
    media.write_secret(folder)
    Index.create(index, "debug").update([folder / "secret.mp4"])
    return root, index


def attempt(attack: Attack, target: Target) -> Outcome:
    """Runs an attack. A server that does not answer has not kept its promise."""
    try:
        return attack.run(target)
    except (OSError, ValueError, LookupError, httpx.HTTPError, subprocess.TimeoutExpired) as error:
        return Outcome(f"{type(error).__name__}: {error}", False)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.attack", description=(__doc__ or "").partition("\n")[0])
    names = [attack.name for attack in ATTACKS]
    parser.add_argument("name", nargs="*", help=f"run these attacks only: {', '.join(names)}", metavar="NAME")
    chosen = parser.parse_args().name or names
    if unknown := set(chosen) - set(names):
        parser.error(f"there is no attack {', '.join(sorted(unknown))}; choose from {', '.join(names)}")
    started, failed = perf_counter(), 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        root, index = prepare(folder)
        (temporary := folder / "temporary").mkdir()
        media.leave(temporary)
        options = ("--model", "debug", "--allow-remote", "--media-root", str(root), "--index", str(index))
        with serving(*options, *LIMITS, folder=temporary, VLLM_API_KEY=media.SECRET) as served:
            target = Target(served, folder, root, index)
            print("| attack | promised | seen | ok |\n|---|---|---|---|")
            for attack in ATTACKS:
                if attack.name in chosen:
                    outcome = attempt(attack, target)
                    failed += not outcome.ok
                    kept = "yes" if outcome.ok else "NO"
                    print(f"| {attack.name} | {attack.promised} | {outcome.seen} | {kept} |", flush=True)
    print(f"{len(chosen)} attacks in {perf_counter() - started:.0f} s; {failed or 'none'} succeeded")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
