"""Who may run executions: the workers of one process at a time, told by a lock that dies with it.

Other processes stand by. They start, deliver and read meanwhile, and one of them takes over when the lock is free.
"""

from __future__ import annotations

import os
import threading

from perdure.stores import files_disk as disk


class Crew:
    """The workers of this process. All methods may be called from any thread."""

    def __init__(self, path: str) -> None:
        self._lock = disk.open_lock(os.path.join(path, "locks", "run"))
        self._mutex = threading.Lock()
        self.runs = False
        """May this process run executions?"""
        self.workers: set[int] = set()
        """Those that want to."""
        self.abandoned: set[int] = set()
        """Those whose store was closed before they had left."""

    def close(self) -> None:
        with self._mutex:
            os.close(self._lock)
            self._lock, self.runs = -1, False

    def join(self, worker: int) -> None:
        """A worker of this process wants to run executions."""
        self.workers.add(worker)
        self.try_to_run()

    def leave(self, worker: int) -> None:
        """It has left; after the last one another process may."""
        with self._mutex:
            self.workers.discard(worker)
            if self.runs and not self.workers:
                self.runs = False
                disk.unlock(self._lock)

    def try_to_run(self) -> bool:
        """May this process run executions, now at last? Only asked for where a worker wants to.

        The lock is taken again each time: whoever copies the folder in this process gives it away without knowing.
        """
        with self._mutex:
            self.runs = bool(self.workers) and self._lock >= 0 and disk.try_lock(self._lock)
            return self.runs
