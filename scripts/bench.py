"""All benchmarks against peers, and the table of them in the README: python scripts/bench.py [--only NAME ...]

Each is a script of its own, run alone in a process; its rows replace those it had in bench.json beside this file, and
the README's part between its two BENCHMARKS marks is written from all that is there. What is compared runs in turns
(A B A B ...); ratios and medians are told, with the machine.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).parent
RESULTS, README = SCRIPTS / "bench.json", SCRIPTS.parent / "README.md"
MARKS = "<!-- BENCHMARKS -->", "<!-- /BENCHMARKS -->"
COMMANDS = {
    "chat": ["bench_chat.py"],
    "peers": ["bench_peers.py"],
    "train": ["bench_train.py"],
    "scoring": ["bench_scoring.py"],
    "search": ["bench_search.py", "vectors", "--rows", "100000", "1000000"],
    "graph": ["bench_search.py", "text", "--rows", "100000", "1000000"],
    "index": ["bench_search.py", "index", str(SCRIPTS / "samples")],
    "serve": ["bench_serve.py"],
    "length": ["bench_long.py"],
}

Results = dict[str, dict[str, Any]]  # by benchmark: {"machine": {...}, "rows": [...]}


def measure(name: str, more: list[str]) -> dict[str, Any]:
    script, *arguments = COMMANDS[name]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rows.json"
        command = [sys.executable, str(SCRIPTS / script), *arguments, *more, "--out", str(out)]
        subprocess.run(command, check=True)
        return json.loads(out.read_text())


def section(results: Results) -> str:
    """Markdown: what each benchmark tells, then the machines. All rows are in bench.json."""
    lines = ["| | measure | value | goal | |", "|---|---|---|---|---|"]
    machines: dict[str, list[str]] = {}
    for name in (n for n in COMMANDS if n in results):
        machine = ", ".join(f"{key} {value}" for key, value in results[name]["machine"].items())
        machines.setdefault(machine, []).append(name)
        lines += [line(name, row) for row in told(results[name]["rows"])]
    told_machines = [f"{', '.join(names)}: {machine}." for machine, names in machines.items()]
    return "\n".join([*lines, "", *told_machines])


def told(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Comparisons and what has a goal; where there is neither, everything that was measured."""
    measured = [row for row in rows if row["value"] is not None]
    return [row for row in measured if not row["unit"] or row["goal"] is not None] or measured


def line(name: str, row: dict[str, Any]) -> str:
    value = f"{row['value']:.3g}" if row["value"] < 100 else f"{row['value']:.0f}"
    sign = "≥" if row["more_is_better"] else "≤"
    goal = "" if row["goal"] is None else f"{sign} {row['goal']:g}{'' if row['met'] else ', not met'}"
    return f"| {name} | {row['name']} | {' '.join((value, row['unit'])).strip()} | {goal} | {row['note']} |"


def insert(text: str, part: str) -> str:
    """The README with `part` between its marks."""
    before, found, rest = text.partition(MARKS[0])
    _, ended, after = rest.partition(MARKS[1])
    if not (found and ended):
        raise SystemExit(f"{README} has no line {MARKS[0]} with {MARKS[1]} after it")
    return f"{before}{MARKS[0]}\n{part}\n{MARKS[1]}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=list(COMMANDS), default=list(COMMANDS), metavar="NAME",
                        help=f"of {', '.join(COMMANDS)}; none: write the table again")  # fmt: skip
    parser.add_argument("more", nargs="*", help="after --: arguments for each script, such as --repeats 3")
    options = parser.parse_args()
    results: Results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    for name in options.only:
        results[name] = measure(name, options.more)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    README.write_text(insert(README.read_text(), section(results)))


if __name__ == "__main__":
    main()
