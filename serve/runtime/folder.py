"""The temporary folder of a server. What a server that was killed has left is deleted by the next one that starts."""

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

PREFIX, UNREADY = "videollm-serve-", "videollm-new-"


class TemporaryFolder:
    """A folder that only this user can read, and that is locked for as long as its server runs.

    The operating system ends the lock with the process, however that ends. A folder without a lock is therefore left
    over.
    """

    def __init__(self) -> None:
        top = Path(tempfile.gettempdir())
        for left in top.glob(f"{PREFIX}*"):
            _delete_unlocked(left)
        made = Path(tempfile.mkdtemp(prefix=UNREADY))
        self._lock = os.open(made, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        # It has its name only once it is locked, so that no server that starts meanwhile takes it for left over.
        self.path = made.rename(top / f"{PREFIX}{made.name.removeprefix(UNREADY)}")

    def close(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _delete_unlocked(folder: Path) -> None:
    """Deletes a folder of this user that no process has locked. Names in a temporary folder may be anybody's."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            if os.fstat(descriptor).st_uid == os.geteuid():
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(descriptor)
