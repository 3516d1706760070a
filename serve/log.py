"""The log of the server's processes: what clients send can neither look like a line of it nor control a terminal.

It reaches the log in messages, and in the tracebacks of libraries that print them to standard error.
"""

import io
import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr

LINE, LINES = 2000, 100  # most characters of a line, and most lines of a traceback

logger = logging.getLogger(__name__)


def escaped(text: str) -> str:
    """Returns one line of about LINE characters at most, in which escapes stand for what is not printable."""
    text = text if len(text) <= LINE else f"{text[:LINE]}... ({len(text)} characters)"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class LogFormatter(logging.Formatter):
    """Writes each message as one line, and the lines of a traceback behind bars."""

    def format(self, record: logging.LogRecord) -> str:
        head = f"{self.formatTime(record)} {record.levelname} {record.name}: {escaped(record.getMessage())}"
        error = "".join(traceback.format_exception(*record.exc_info)) if record.exc_info else ""
        return "\n".join([head, *(f"| {escaped(line)}" for line in error.splitlines()[-LINES:])])


class _StandardError(io.TextIOBase):
    """Makes lines of the log of what is printed."""

    def __init__(self) -> None:
        self._started = ""

    def write(self, text: str) -> int:
        *lines, self._started = (self._started + text).split("\n")
        if len(self._started) > LINE:
            lines, self._started = [*lines, self._started], ""
        for line in filter(None, lines[-LINES:]):
            logger.warning("%s", line)
        return len(text)


def start_logging() -> None:
    """Logs to standard error from INFO on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LogFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])


@contextmanager
def logged_stderr() -> Iterator[None]:
    """Lets what libraries print to standard error be lines of the log."""
    logging.raiseExceptions = False  # or else what cannot be logged would be printed, and logged again
    with redirect_stderr(_StandardError()):
        yield
