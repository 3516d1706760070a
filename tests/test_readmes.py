"""What the project's pages say holds: their commands and programs run, their links lead somewhere."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tests.fork_server import programs, python

ROOT = Path(__file__).parents[1]
PACKAGES = ("videollm", "train", "data_gen", "serve")
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / ".github").glob("*.md")),
    *sorted(page for folder in (*PACKAGES, "scripts", "tests") for page in (ROOT / folder).rglob("README.md")),
]
README_LINES = 250
NEEDS = {f"needs: {what}" for what in ("network", "gpu", "minutes", "hours", "a checkpoint", "a server")}
TIMEOUT_S = 500  # a block takes seconds; a machine whose cores are shared takes longer
PORT = re.compile(r"(127\.0\.0\.1:|--port )(\d+)")


@dataclass(frozen=True)
class Block:
    """A fenced block that starts at `line` of `page`.

    mark is the HTML comment on the line before the fence, if there is one: `run by CI` where `.ci/run` has the same
    commands, one of `NEEDS` where the commands cannot run in a test. Every other block of commands runs.
    """

    page: Path
    line: int
    language: str
    mark: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def read_blocks(page: Path) -> list[Block]:
    markdown = page.read_text()
    fenced = re.compile(r"(?:^<!--([^\n]*)-->\n)?^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    return [
        Block(
            page=page,
            line=1 + markdown.count("\n", 0, match.start(3)),
            language=match[2],
            mark=(match[1] or "").strip(),
            text=match[3],
        )
        for match in fenced.finditer(markdown)
    ]


BLOCKS = [block for page in PAGES for block in read_blocks(page)]
COMMANDS = [block for block in BLOCKS if block.language == "bash"]
PROGRAMS = [block for block in BLOCKS if block.language == "python"]


def run(*command: str | Path, cwd: Path = ROOT) -> None:
    """Run a command that must succeed within TIMEOUT_S, without input and with this environment's programs first on
    PATH. Whatever it started and left running is killed."""
    path = os.pathsep.join((str(programs()), str(Path(sys.executable).parent), os.environ["PATH"]))
    process = subprocess.Popen(
        command, cwd=cwd, env=os.environ | {"PATH": path}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        output, _ = process.communicate(timeout=TIMEOUT_S)
    finally:
        # A session of its own is a process group of its own, so that this reaches servers in the background too.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, f"exit code {process.returncode}\n{output}"


def on_free_ports(commands: str) -> str:
    """Return `commands` with a free port in place of each port that they name, so that no block talks to a server that
    something else runs on this machine. A block ends its server by `kill $!`, which fails if that server did not start.
    """
    with ExitStack() as held:
        free: dict[str, str] = {}
        for port in {match[2] for match in PORT.finditer(commands)}:
            taken = held.enter_context(socket.socket())
            taken.bind(("127.0.0.1", 0))
            free[port] = str(taken.getsockname()[1])
    return PORT.sub(lambda match: match[1] + free[match[2]], commands)


@pytest.fixture(scope="module")
def workplaces(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """Gives each page a folder that looks like the repository, where its commands may leave files for later ones."""

    @cache
    def workplace(page: Path) -> Path:
        folder = tmp_path_factory.mktemp("page")
        for name in (*PACKAGES, "scripts", "tests", "pyproject.toml", "README.md"):
            (folder / name).symlink_to(ROOT / name)
        return folder

    return workplace


def test_the_readme_is_one_page():
    assert len((ROOT / "README.md").read_text().splitlines()) <= README_LINES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_is_of_a_known_kind(page: Path):
    blocks = read_blocks(page)
    assert {block.language for block in blocks} <= {"bash", "python", "json", "text", "mermaid"}
    assert {block.mark for block in blocks if block.language == "bash"} <= {"", "run by CI", *NEEDS}
    assert page.read_text().count("```") == 2 * len(blocks)


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page: Path):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in link:
            continue
        file, _, heading = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), f"{page}: {link}"
        assert not heading or heading in anchors(target), f"{page}: {link}"


@pytest.mark.parametrize("block", [b for b in COMMANDS if not b.mark], ids=str)
def test_commands_run(block: Block, workplaces: Callable[[Path], Path]):
    run("bash", "-euo", "pipefail", "-c", on_free_ports(block.text), cwd=workplaces(block.page))


@pytest.mark.parametrize("block", [b for b in COMMANDS if b.mark == "run by CI"], ids=str)
def test_commands_are_those_of_ci(block: Block):
    commands = [line.partition("  #")[0].rstrip() for line in block.text.splitlines()]
    assert set(commands) <= set((ROOT / ".ci" / "run").read_text().splitlines())


@pytest.mark.parametrize("block", [b for b in COMMANDS if b.mark.startswith("needs:")], ids=str)
def test_commands_that_cannot_run_here_are_bash(block: Block):
    run("bash", "-n", "-c", block.text)


@pytest.mark.parametrize("block", PROGRAMS, ids=str)
def test_programs_run(block: Block, workplaces: Callable[[Path], Path]):
    run(python(), "-c", on_free_ports(block.text), cwd=workplaces(block.page))


def test_ports_are_replaced_by_free_ones():
    commands = "serve --port 8000 & serve --port 8001 & curl http://127.0.0.1:8000/v1 # 8000"
    first, second, again = (match[2] for match in PORT.finditer(on_free_ports(commands)))
    assert first == again != second and not {first, second} & {"8000", "8001"}
