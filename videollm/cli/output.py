"""What commands print: one JSON object, or lines for people."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from videollm.cli.options import Options
from videollm.errors import ConfigError, VideoLLMError, reason_of

if TYPE_CHECKING:
    from videollm.encoders.tags import Tag
    from videollm.retrieval.contact_sheet import Panel


class TimeSpan(Protocol):
    """Anything with a start and an end in seconds."""

    @property
    def start_s(self) -> float: ...
    @property
    def end_s(self) -> float: ...


def print_result(options: Options, value: dict[str, Any], text: str) -> None:
    """Prints the value as JSON with `--json`, else the text."""
    print(to_json(value) if options.json else text)


def print_piece(text: str) -> None:
    """Prints a piece of an answer as soon as it is generated."""
    print(text, end="", flush=True)


def to_json(value: Any) -> str:
    return json.dumps(_rounded(value))


def _rounded(value: Any) -> Any:
    """Rounds floats to 3 decimals: times to a millisecond, and scores to no more digits than they are worth."""
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    return [_rounded(v) for v in value] if isinstance(value, list | tuple) else value


def format_span(span: TimeSpan) -> str:
    """0:04-0:08"""
    from videollm.datasets.schema import format_time

    return f"{format_time(span.start_s)}-{format_time(span.end_s)}"


def format_score(score: float) -> str:
    """0.35. Below 0 nothing matches, which is shown as 0.00."""
    return f"{max(0.0, score):.2f}"


def format_tags(tags: "Sequence[Tag]") -> str:
    """cat 93%, sofa 40%"""
    return ", ".join(f"{tag.word} {round(100 * tag.prob)}%" for tag in tags)


def format_path(path: str) -> str:
    """Relative to the working directory where the file lies below it."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path


def print_with_sheet(
    options: Options, value: dict[str, Any], text: str, file: str | None, panels: "Sequence[Panel]"
) -> None:
    """Prints a result like `print_result` and writes its panels like `save_sheet`, whose name is the value "sheet".

    If the sheet cannot be written, the result is printed all the same, before the error is raised.
    """
    try:
        sheet = save_sheet(file, panels)
    except VideoLLMError:
        print_result(options, value | {"sheet": None}, text)
        raise
    print_result(options, value | {"sheet": sheet}, text)


def save_sheet(file: str | None, panels: "Sequence[Panel]") -> str | None:
    """Writes the panels as one PNG, says so on stderr and returns the file's name.

    Writes nothing and returns None where no file was asked for or there are no panels. Raises ConfigError.
    """
    from videollm.retrieval.contact_sheet import contact_sheet

    if file is None or not panels:
        return None
    if Path(file).suffix.lower() != ".png":
        raise ConfigError(f"{file}: pictures are written as PNG; give a name that ends in .png")
    if not Path(file).parent.is_dir():
        raise ConfigError(f"{file}: the folder {Path(file).parent} does not exist; create it first")
    sheet = contact_sheet(panels)
    try:
        sheet.save(file)
    except OSError as error:
        raise ConfigError(f"{file}: the picture cannot be written ({reason_of(error)})") from error
    print(f"wrote {file}", file=sys.stderr)
    return file


def hide_progress_bars() -> None:
    """Turns off transformers' bars, which it draws while it loads a model."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
