"""Errors that a user can act on. Each message says the value, what is allowed and what to do."""


class VideoLLMError(Exception):
    """Base of every error caused by input; the command line prints it in one line and exits with 2."""


class ConfigError(VideoLLMError, ValueError):
    """A configuration value is out of range or two values contradict each other."""


class VideoError(VideoLLMError):
    """A media file cannot be used. The message names the file and the reason."""

    def __init__(self, path: object, reason: str):
        super().__init__(f"{path}: {reason}")
        self.path = str(path)
        self.reason = reason


class VideoNotFoundError(VideoError):
    """The path does not exist, or is not a file."""


class VideoFormatError(VideoError):
    """The file is not a video or image that can be opened (wrong type, empty, header lost)."""


class NoVideoStreamError(VideoError):
    """The container opens, but holds no video stream (audio only), or its video stream has no frame."""


class NoAudioStreamError(VideoError):
    """The container opens, but does not hold the audio stream that was asked for."""


class VideoDecodeError(VideoError):
    """The file opens, but no requested frame could be decoded."""


class VideoRangeError(VideoError):
    """The requested times do not lie inside the video."""


class DataError(VideoLLMError, ValueError):
    """A row of data, or a file of them, is not what its format says."""


class AssetError(VideoLLMError):
    """A weight file cannot be fetched, or does not have the expected hash."""


class CheckpointError(VideoLLMError):
    """A checkpoint directory lacks something, or holds something that its config does not explain."""


class ContextOverflowError(VideoLLMError):
    """The prompt does not fit the language model's context even after merging segments."""


class EngineError(VideoLLMError):
    """The server that runs the language model cannot be reached, refuses, or broke off. The message names the server
    and the reason."""

    def __init__(self, server: str, reason: str):
        super().__init__(f"{server} {reason}")
        self.reason = reason


class SearchIndexError(VideoLLMError):
    """A search index does not exist, was made by another model, or is being written by another process."""
