"""Decoding with decord, an optional dependency, behind the interface of `decode`.

decord numbers frames and does not return their times, its timestamps ignore the start offset of a stream, and its
random access returns wrong frames in open groups of pictures and after H.264 recovery points. This module therefore
reads all frames in order, takes the i-th as the i-th frame shown, and takes times from `pyav.scan`. It refuses files
for which decord's count, clock or orientation disagree with the packets. decord does not report damage inside a file;
only the default decoder counts it.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from videollm.errors import ConfigError, VideoDecodeError
from videollm.video.pyav import Scan

_CLOCK_S = 0.002  # decord rounds times to float32; Matroska counts milliseconds


def read(scan: Scan, views: Sequence[tuple[np.ndarray, tuple[int, int]]]) -> Iterator[tuple[int, np.ndarray | None]]:
    """Yields the frames of each view, one view after the other. See `videollm.video.pyav.read`."""
    for number, (wanted, size) in enumerate(views):
        yield from ((number, image) for image in _read(scan, wanted, size))


def _read(scan: Scan, wanted: np.ndarray, size: tuple[int, int]) -> Iterator[np.ndarray]:
    """Yields the frames with the numbers `wanted`, which increase, as uint8 (height,width,3).

    Args:
        scan: The scan of the file.
        wanted: The numbers of the frames in the order of showing.
        size: The (width, height) of the frames as shown.

    Raises:
        ConfigError: If decord is not installed.
        VideoDecodeError: If decord fails or its frames cannot be trusted.
    """
    try:
        import decord
    except ImportError:
        raise ConfigError(
            "the decoder 'decord' is not installed; pip install 'videollm[decord]', or use 'pyav'"
        ) from None

    decord.logging.set_level(decord.logging.QUIET)  # failures are raised instead of printed
    path = scan.info.path
    if scan.container == "mpegts":
        raise _refusal(path, "it does not return to the start of a transport stream")
    if scan.orientation.is_mirrored or (scan.info.rotation and "mp4" not in scan.container):
        raise _refusal(path, f"it does not turn the frames of this {scan.container} file")
    try:
        reader = decord.VideoReader(path, width=size[0], height=size[1])
        if len(reader) != len(scan.times_s):
            raise _refusal(path, f"it counts {len(reader)} frames, the file has {len(scan.times_s)}")
        clock = reader.get_frame_timestamp(np.arange(len(reader)))[:, 0]
        difference_s = np.abs(clock - clock[0] - scan.times_s).max()
        if difference_s > _CLOCK_S:
            raise _refusal(path, f"its clock is off by up to {difference_s:.3g} s")
        at = 0
        for number in wanted.tolist():
            while at < number:
                reader.next()
                at += 1
            yield _without_padding(reader.next().asnumpy(), size[0])
            at += 1
    except (decord.DECORDError, RuntimeError, StopIteration) as error:
        raise _refusal(path, "it cannot read the file") from error


def _without_padding(image: np.ndarray, width: int) -> np.ndarray:
    """Returns the pixels (height,width,3) of an array whose rows may be longer.

    FFmpeg aligns rows to 32 bytes or more. decord derives the number of channels from the length of a row, so that it
    returns narrow frames as (height,width,4), of which only the first 3 * width bytes of each row are pixels.
    """
    height = len(image)
    return image.reshape(height, -1)[:, : 3 * width].reshape(height, width, 3)


def _refusal(path: str, reason: str) -> VideoDecodeError:
    return VideoDecodeError(path, f"decord cannot be used here: {reason}; use the decoder 'pyav'")
