"""`videollm mcp`: an MCP server on stdin and stdout, with which assistants ask about videos of this machine."""

from videollm.cli.options import (
    Commands,
    Options,
    device_arguments,
    model_arguments,
    sampling_arguments,
    senses_arguments,
)
from videollm.cli.output import hide_progress_bars


def register(commands: Commands) -> None:
    parser = commands.add_parser(
        "mcp",
        help="let assistants ask about videos, over MCP on stdin and stdout",
        parents=[model_arguments(), device_arguments(), sampling_arguments(), senses_arguments()],
        allow_abbrev=False,
    )
    parser.set_defaults(run=mcp)
    parser.add_argument("--index", metavar="DIR", help="the search index that the tool `search` reads")


def mcp(options: Options) -> None:
    from videollm.cli.mcp_server import build_server

    hide_progress_bars()
    build_server(options).run("stdio")
