"""What touches the disk: writes, flushes and locks, each in one place, and what may go wrong in words."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from perdure.errors import StoreUnavailableError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_UNKNOWN = {errno.EINVAL, errno.ENOTSUP, errno.ENOTTY}  # this file system does not know what is asked of it


def write(descriptor: int, data: bytes, at: int) -> None:
    """Write all of it at this place. Raises `OSError`; then some of it may be there."""
    view = memoryview(data)
    while view:
        done = os.pwrite(descriptor, view, at)
        view, at = view[done:], at + done


def sync(descriptor: int) -> None:
    """Return once what was written is on the disk itself."""
    if hasattr(fcntl, "F_FULLFSYNC"):  # macOS: there `fsync` leaves it in the drive's cache
        try:
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
        except OSError as error:
            if error.errno not in _UNKNOWN:
                raise
        else:
            return
    os.fsync(descriptor)


def sync_folder(path: str) -> None:
    """The same for the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        sync(descriptor)
    except OSError as error:
        if error.errno not in _UNKNOWN:  # some file systems keep names without being asked
            raise
    finally:
        os.close(descriptor)


def open_lock(path: str) -> int:
    """A descriptor to hold for life: closing any descriptor of a file gives this process's locks on it away."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)


def try_lock(descriptor: int) -> bool:
    """Take the lock if no other process has it."""
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True


def unlock(descriptor: int) -> None:
    fcntl.lockf(descriptor, fcntl.LOCK_UN)


@contextmanager
def told(path: str) -> Iterator[None]:
    """What the system raises inside comes out in words, as `StoreUnavailableError`."""
    try:
        yield
    except OSError as error:
        raise StoreUnavailableError(in_words(error, path)) from error


def in_words(error: OSError, path: str) -> str:
    if error.errno in _FULL:
        return f"{path}: the disk is full; nothing was recorded, and nothing is lost"
    if error.errno in _FORBIDDEN:
        return f"{path} may not be written by this user, or not at all; nothing was recorded"
    if error.errno == errno.ENOENT:
        return f"{path}: {error.filename or 'a file'} is not there (any more); nothing was recorded"
    if error.errno == errno.ENOLCK:
        return f"{path}: this file system has no locks; use a local disk"
    return f"{path}: the disk reports an error ({error}); nothing was recorded"
