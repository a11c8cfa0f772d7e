"""The files of the executions, which follow the log: written a little later, and flushed before the log goes."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from contextlib import suppress

from perdure.stores import files_disk as disk
from perdure.stores.files_log import Write
from perdure.stores.files_names import FOLDER

logger = logging.getLogger("perdure.stores.files")


class Files:
    """What one process knows of them. Used under the folder's lock, but for `sync`."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.lengths: dict[str, int] = {}
        """Where each of them ends, once it is brought up."""
        self.behind: dict[str, list[Write]] = {}
        """What is in the log, and perhaps not in the file."""
        self.size = 0
        """Bytes of that."""
        self.ragged: set[str] = set()
        """Those that have something behind their end."""
        self.unsynced: set[str] = set()
        """Those that may not be on the disk as they are, and need the log."""

    def begin(self) -> None:
        """Everything is about to be read again."""
        self.lengths, self.behind, self.size = {}, {}, 0

    def note(self, writes: Iterable[Write]) -> None:
        """These are in the log."""
        for write in writes:
            size = len(write.line or b"")
            self.lengths[write.file] = write.at + size
            self.behind.setdefault(write.file, []).append(write)
            self.size += size
            self.unsynced.add(write.file)

    def bring_up(self) -> bool:
        """Write what they lack. False if that did not succeed: the log has it, and is kept."""
        try:
            for file in self.ragged - self.behind.keys():
                with suppress(FileNotFoundError):
                    os.truncate(os.path.join(self.path, file), self.lengths[file])
            for file, writes in self.behind.items():
                self._bring_up(file, writes)
        except OSError as error:
            logger.warning("%s", disk.in_words(error, self.path))
            return False
        self.ragged.clear()
        self.behind, self.size = {}, 0
        return True

    def _bring_up(self, file: str, writes: list[Write]) -> None:
        path = os.path.join(self.path, file)
        removed = max((n for n, write in enumerate(writes) if write.line is None), default=-1)
        lines = [(at, line) for _, at, line in writes[removed + 1 :] if line is not None]
        if not lines:
            if removed >= 0:
                with suppress(FileNotFoundError):
                    os.unlink(path)
            return
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            for at, data in _runs(lines):
                disk.write(descriptor, data, at)
            if removed >= 0 or file in self.ragged:  # in place: another process may have flushed this very file
                os.ftruncate(descriptor, self.lengths[file])
        finally:
            os.close(descriptor)

    def sync(self, files: Iterable[str], is_over: Callable[[], bool]) -> bool:
        """Return once these are on the disk. False if it is over before that."""
        for file in sorted(files):
            if is_over():
                return False
            with suppress(FileNotFoundError):
                descriptor = os.open(os.path.join(self.path, file), os.O_RDWR | os.O_CLOEXEC)
                try:
                    disk.sync(descriptor)
                finally:
                    os.close(descriptor)
        for folder in (os.path.join(self.path, FOLDER), self.path):
            disk.sync_folder(folder)
        return True


def _runs(lines: Iterable[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """Lines that stand one behind the other, together."""
    runs: list[tuple[int, bytearray]] = []
    for at, line in lines:
        if runs and runs[-1][0] + len(runs[-1][1]) == at:
            runs[-1][1].extend(line)
        else:
            runs.append((at, bytearray(line)))
    return [(at, bytes(data)) for at, data in runs]
