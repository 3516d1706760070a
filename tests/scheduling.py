"""How pytest-xdist shares the tests among its workers: those of a file go to one worker, also after one has died."""

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController


class FileScheduling(LoadFileScheduling):
    """`--dist loadfile` that ends when a worker dies.

    pytest-xdist 3.8 puts the files that the dead worker had finished back into the queue, and then waits for ever for
    their tests. It also gives the test that killed the worker to the next one.
    """

    def remove_node(self, node: WorkerController) -> str | None:
        """Returns the test during which the worker died, which is reported as failed, or None if it had none left. The
        other tests of its files are run by other workers."""
        files = self.assigned_work.pop(node)
        crashed = next((test for tests in files.values() for test, done in tests.items() if not done), None)
        if crashed is not None:
            files[self._split_scope(crashed)][crashed] = True
            self.workqueue.update((file, tests) for file, tests in files.items() if not all(tests.values()))
            for other in self.assigned_work:
                self._reschedule(other)
        return crashed


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> FileScheduling | None:
    return FileScheduling(config, log) if config.getvalue("dist") == "loadfile" else None
