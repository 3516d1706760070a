"""Run all benchmarks and write their table into README.md: python scripts/bench/run.py [--only NAME ...]

Each benchmark is a script of its own and runs alone in a process. Its rows replace its earlier rows in results.json.
The part of README.md (in this folder) between the two BENCHMARKS marks is then written from everything in results.json.

Inside a benchmark, what is compared runs in turns (A B A B ...), so that a machine that becomes slower during the run
slows both sides. The table shows ratios and medians, and the machine they were measured on.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

BENCH = Path(__file__).parent
RESULTS, README = BENCH / "results.json", BENCH / "README.md"
MARKS = "<!-- BENCHMARKS -->", "<!-- /BENCHMARKS -->"
COMMANDS = {
    "chat": ["chat.py"],
    "peers": ["peers.py"],
    "train": ["training.py"],
    "scoring": ["scoring.py"],
    "search": ["search.py", "vectors", "--rows", "100000", "1000000"],
    "graph": ["search.py", "text", "--rows", "100000", "1000000"],
    "index": ["search.py", "index", str(BENCH.parent / "samples")],
    "serve": ["server.py"],
    "length": ["length.py"],
    "tracking": ["tracking.py"],
}

Results = dict[str, dict[str, Any]]  # by benchmark: {"machine": {...}, "rows": [...]}


def measure(name: str, arguments: list[str]) -> dict[str, Any]:
    """Run one benchmark in a process of its own and return what it wrote.

    Raises subprocess.CalledProcessError if the benchmark fails.
    """
    script, *its_own = COMMANDS[name]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rows.json"
        subprocess.run([sys.executable, str(BENCH / script), *its_own, *arguments, "--out", str(out)], check=True)
        return json.loads(out.read_text())


def markdown(results: Results) -> str:
    """The table of all benchmarks, followed by a line for each machine. results.json holds the rows that it omits."""
    lines = ["| | measure | value | goal | |", "|---|---|---|---|---|"]
    machines: dict[str, list[str]] = {}
    for name in (n for n in COMMANDS if n in results):
        machine = ", ".join(f"{key} {value}" for key, value in results[name]["machine"].items())
        machines.setdefault(machine, []).append(name)
        lines += [table_line(name, row) for row in shown_rows(results[name]["rows"])]
    lines.append("")
    lines += [f"{', '.join(names)}: {machine}." for machine, names in machines.items()]
    return "\n".join(lines)


def shown_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The comparisons and the rows that have a goal. A benchmark that compares nothing is shown whole."""
    measured = [row for row in rows if row["value"] is not None]
    # A ratio has no unit, and a ratio is what carries from one machine to another.
    if all(row["unit"] for row in measured):
        return measured
    return [row for row in measured if not row["unit"] or row["goal"] is not None]


def table_line(name: str, row: dict[str, Any]) -> str:
    value = f"{row['value']:.3g}" if row["value"] < 100 else f"{row['value']:.0f}"
    sign = "≥" if row["more_is_better"] else "≤"
    goal = "" if row["goal"] is None else f"{sign} {row['goal']:g}{'' if row['met'] else ', not met'}"
    return f"| {name} | {row['name']} | {' '.join((value, row['unit'])).strip()} | {goal} | {row['note']} |"


def insert(text: str, part: str) -> str:
    """Return `text` with `part` between its two marks. Exits with a message if a mark is missing."""
    before, begins, rest = text.partition(MARKS[0])
    _, ends, after = rest.partition(MARKS[1])
    if not (begins and ends):
        raise SystemExit(f"{README} has no line {MARKS[0]} with {MARKS[1]} after it; add the two lines")
    return f"{before}{MARKS[0]}\n{part}\n{MARKS[1]}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=list(COMMANDS), default=list(COMMANDS), metavar="NAME",
                        help=f"run these of {', '.join(COMMANDS)}; without a name, only write the table")  # fmt: skip
    parser.add_argument("more", nargs="*", help="arguments for every script, after --, such as -- --repeats 3")
    options = parser.parse_args()
    results: Results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    for name in options.only:
        results[name] = measure(name, options.more)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    README.write_text(insert(README.read_text(), markdown(results)))


if __name__ == "__main__":
    main()
