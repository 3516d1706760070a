"""Errors that users can correct. Each message has the value, what is allowed and what to do."""

# What libraries raise for broken or hostile input, besides the errors of this module.
FOREIGN = (ValueError, ArithmeticError, OSError, MemoryError, RecursionError)


class VideoLLMError(Exception):
    """The base class of all errors that inputs cause. The command line prints them in one line and exits with 2."""


class ConfigError(VideoLLMError, ValueError):
    """A configuration value is out of range or two values contradict each other."""


class VideoError(VideoLLMError):
    """A media file cannot be used. The message names the file and the reason."""

    def __init__(self, path: object, reason: str):
        super().__init__(f"{path}: {reason}")
        self.path = str(path)
        self.reason = reason


class VideoNotFoundError(VideoError):
    """The path does not exist or is not a file."""


class VideoFormatError(VideoError):
    """The file is not a video or image that can be opened: it has another type, is empty, or has lost its header."""


class NoVideoStreamError(VideoError):
    """The container can be opened, but has no video stream (only sound), or its video stream has no frame."""


class NoAudioStreamError(VideoError):
    """The container can be opened, but does not have the requested audio stream."""


class VideoDecodeError(VideoError):
    """The file can be opened, but none of the requested frames can be decoded."""


class VideoRangeError(VideoError):
    """The requested times are not in the video."""


class DataError(VideoLLMError, ValueError):
    """A row of data, or a file of rows, does not have its format."""


class AssetError(VideoLLMError):
    """A file of weights cannot be fetched, or does not have the expected hash."""


class CheckpointError(VideoLLMError):
    """A checkpoint directory lacks something, or has something that its configuration does not explain."""


class ContextOverflowError(VideoLLMError):
    """The prompt does not fit the context of the language model, even after segments were merged."""


class EngineError(VideoLLMError):
    """The server that runs the language model cannot be reached, refuses a request, or ends a stream early.

    The message names the server and the reason.
    """

    def __init__(self, server: str, reason: str):
        super().__init__(f"{server} {reason}")
        self.reason = reason


class SearchIndexError(VideoLLMError):
    """A search index does not exist, was made by another model, or is being written by another process."""


class NoIndexError(SearchIndexError):
    """There is no index in this place."""


def printable(text: str) -> str:
    r"""Returns a text that can be written as UTF-8. File names may hold bytes that cannot, which become \udcNN."""
    return text.encode("utf-8", "backslashreplace").decode()


def reason_of(error: BaseException) -> str:
    """Returns what an error of a library says in one line, without the name of the file."""
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return printable(" ".join(said.split()).lower()[:200]) or type(error).__name__
