"""Decoding with decord, a separate install, behind the same front door.

decord numbers frames instead of timing them, its timestamps drop a stream's start offset, and its random access returns
other frames than asked for in open groups of pictures and after H.264 recovery points. So it reads straight through,
its i-th frame is the i-th frame shown, and times come from `pyav.scan`. Files where its count, clock or orientation
disagree with the packets are refused. It says nothing of damage inside a file; only the default decoder counts that.
"""

from collections.abc import Iterator

import numpy as np

from videollm.errors import ConfigError, VideoDecodeError
from videollm.video.pyav import Scan

_CLOCK_S = 0.002  # decord rounds times to float32; Matroska counts milliseconds


def read(scan: Scan, wanted: np.ndarray, size: tuple[int, int]) -> Iterator[np.ndarray | None]:
    """Decode the frames numbered `wanted` (increasing), each as uint8 (height,width,3).

    size is the (width, height) wanted, as shown. Raises VideoDecodeError where decord fails or cannot be trusted.
    """
    try:
        import decord
    except ImportError:
        raise ConfigError(
            "the decoder 'decord' is not installed; pip install 'videollm[decord]', or use 'pyav'"
        ) from None

    decord.logging.set_level(decord.logging.QUIET)  # failures are raised
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
    """(height,width,3) from an array whose rows may be longer.

    FFmpeg aligns rows to 32 bytes or more. decord derives the number of channels from the length of a row, so that it
    returns narrow frames as (height,width,4), of which only the first 3 * width bytes of each row are pixels.
    """
    height = len(image)
    return image.reshape(height, -1)[:, : 3 * width].reshape(height, width, 3)


def _refusal(path: str, reason: str) -> VideoDecodeError:
    return VideoDecodeError(path, f"decord cannot be used here: {reason}; use the decoder 'pyav'")
