"""Who lives, told by locks that die with their process: a lock file for each worker, beside the database.

POSIX `fcntl` locks, because `flock` outlives a killed process in its forked children. They have two traps: a
process never conflicts with itself, and closing *any* descriptor of a file drops its lock. So a lock file is
opened once by its owner and kept for life, and never probed by the process that owns it.
"""

from __future__ import annotations

import fcntl
import os
import uuid
from contextlib import suppress
from functools import cache


def process_token() -> str:
    """Tells this process from all others, forked children included; a pid is a hint only."""
    return _token(os.getpid())


@cache
def _token(_pid: int) -> str:
    return uuid.uuid4().hex


class Presence:
    """The lock files of the workers of one database."""

    def __init__(self, database: str) -> None:
        self._stem = os.path.realpath(database)
        self._held: dict[int, int] = {}

    def appear(self, worker: int) -> None:
        """Hold this worker's lock from now on. Raises `OSError`."""
        descriptor = os.open(self._path(worker), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise
        self._held[worker] = descriptor

    def is_free(self, worker: int) -> bool:
        """Whether the lock of a worker *of another process* is free, which is to say: that process is dead.

        What cannot be seen (no such file, no right to open it) is not free; then the lease tells.
        """
        try:
            descriptor = os.open(self._path(worker), os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        finally:
            os.close(descriptor)
        return True

    def vanish(self, worker: int) -> None:
        """This worker of this process has left: give its lock back, remove its file."""
        if worker in self._held:
            self.bury(worker)
            os.close(self._held.pop(worker))

    def bury(self, worker: int) -> None:
        """Remove the file of a worker that was declared dead. A file without a lock behind it says nothing."""
        with suppress(OSError):
            os.unlink(self._path(worker))

    def close(self) -> None:
        """Give all locks back. The files stay and show that their workers are gone."""
        while self._held:
            os.close(self._held.popitem()[1])

    def _path(self, worker: int) -> str:
        return f"{self._stem}.worker-{worker}"
