"""The log: what makes a batch durable as a whole, and the one order in which all processes see what happened.

    {"file":"executions/a.jsonl","at":120,"line":{"put":"entry",...},"crc":"..."}
    {"file":"executions/b.jsonl","at":0,"line":{"put":"execution",...},"crc":"..."}
    {"commit":17,"lines":2,"crc":"..."}

Each line says what stands at which place of which file; a batch counts if its `commit` is there, whole. So it is
written and flushed once, however many executions it concerns, and doing it again changes nothing. The log is a row of
numbered segments; `{"next":8}` ends one. Everything here happens under the folder's lock, but for `has_grown`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

import msgspec

from perdure.errors import CommitUnknownError, StoreUnavailableError
from perdure.stores import files_disk as disk
from perdure.stores.files_lines import seal, unseal

logger = logging.getLogger("perdure.stores.files")


class Write(NamedTuple):
    """This line is at this place of this file; None: the file is removed."""

    file: str
    at: int
    line: bytes | None


class Log:
    """One process's place in the log."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.number = 0
        self.position = 0
        self._batch = 0
        self._descriptor = -1

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def segments(self) -> list[int]:
        """The numbers of those that are there."""
        names = (name.removesuffix(".jsonl") for name in os.listdir(self.folder) if name.endswith(".jsonl"))
        return sorted(int(name) for name in names if name.isdecimal())

    def rewind(self) -> None:
        """Go to the beginning of what is there; make the first segment if nothing is."""
        there = self.segments()
        if there:
            self._enter(there[0])
        else:
            self._begin(1)

    def _path(self, number: int) -> str:
        return os.path.join(self.folder, f"{number:08d}.jsonl")

    def _enter(self, number: int, flags: int = 0) -> None:
        descriptor = os.open(self._path(number), os.O_RDWR | os.O_CLOEXEC | flags, 0o644)
        self.close()
        self._descriptor, self.number, self.position = descriptor, number, 0

    def _begin(self, number: int) -> None:
        self._enter(number, os.O_CREAT)
        disk.sync(self._descriptor)
        disk.sync_folder(self.folder)

    # Reading --------------------------------------------------------------------------------------------

    def has_grown(self) -> bool:
        """Is there something that was not read yet? Raises `StoreUnavailableError` if the log was deleted."""
        found = os.fstat(self._descriptor)
        if found.st_size == self.position and not found.st_nlink:
            raise StoreUnavailableError(f"{self.folder} was deleted while it was open: nothing more is recorded")
        return found.st_size != self.position

    def read(self) -> list[Write]:
        """What was committed since the last look. What a dying process left unfinished is cut off.

        Raises `FileNotFoundError` if others have gone on so far that segments not yet read are gone.
        """
        found: list[Write] = []
        while True:
            data = _read_from(self._descriptor, self.position)
            writes, end, following = self._parse(data)
            found += writes
            if following is not None:
                self._enter(following)
                continue
            self.position += end
            if end < len(data):
                os.ftruncate(self._descriptor, self.position)
            return found

    def _parse(self, data: bytes) -> tuple[list[Write], int, int | None]:
        """(writes, how far they go, the next segment).

        The last batch counts only if it is whole: its flush did not return, or it would be. A damaged line before
        that is somebody's lost line: its file will show a gap.
        """
        done: list[Write] = []
        last: list[Write] = []
        gathered: list[Write | None] = []
        end = position = 0
        intact = True
        while (stop := data.find(b"\n", position)) >= 0:
            found = _read(data[position:stop])
            position = stop + 1
            if isinstance(found, Write) or found is None:
                gathered.append(found)
                continue
            if not intact:
                self._name_damage(last)
            done += last
            if "next" in found:
                return done, position, found["next"]
            last = [write for write in gathered if write is not None]
            own = gathered[len(gathered) - found["lines"] :] if found["lines"] <= len(gathered) else [None]
            if None in gathered[: len(gathered) - len(own)]:
                self._name_damage(last)
            intact, gathered = None not in own, []
            if intact:
                end, self._batch = position, found["commit"]
        return (done + last if intact else done), end, None

    def _name_damage(self, beside: Iterable[Write]) -> None:
        files = ", ".join(sorted({write.file for write in beside})) or "no other line is"
        logger.error("%s has a damaged line, in a batch of which there is: %s", self._path(self.number), files)

    # Writing --------------------------------------------------------------------------------------------

    def append(self, writes: Iterable[Write]) -> None:
        """Record these as a whole, durably. All that was there must have been read.

        Raises `StoreUnavailableError` (nothing was recorded) or `CommitUnknownError`.
        """
        lines = [
            seal(b'{"file":"%b","at":%d,"line":%b}' % (file.encode(), at, b"null" if line is None else line[:-1]))
            for file, at, line in writes
        ]
        commit = seal(b'{"commit":%d,"lines":%d}' % (self._batch + 1, len(lines)))
        self._write(b"".join([*lines, commit]))
        self._batch += 1

    def roll(self) -> None:
        """Go on in a new segment; who reads the old one is sent there."""
        following = self.number + 1
        descriptor = os.open(self._path(following), os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            disk.sync(descriptor)
            disk.sync_folder(self.folder)
            self._write(seal(b'{"next":%d}' % following))
        finally:
            os.close(descriptor)
        self._enter(following)

    def _write(self, data: bytes) -> None:
        try:
            disk.write(self._descriptor, data, self.position)
            disk.sync(self._descriptor)
        except OSError as error:
            words = disk.in_words(error, self.folder)
            try:
                os.ftruncate(self._descriptor, self.position)
            except OSError:
                raise CommitUnknownError(f"{words}, perhaps; it could not be taken back") from error
            raise StoreUnavailableError(words) from error
        self.position += len(data)

    def remove(self, last: int) -> None:
        """Remove the segments up to this one, the oldest first: what they say is in the files, durably."""
        for number in self.segments():
            if number <= last:
                with suppress(FileNotFoundError):
                    os.unlink(self._path(number))
                disk.sync_folder(self.folder)


def _read_from(descriptor: int, position: int) -> bytes:
    parts = []
    while part := os.pread(descriptor, 1 << 24, position):
        parts.append(part)
        position += len(part)
    return b"".join(parts)


def _read(line: bytes) -> Write | dict[str, int] | None:
    """What a line of the log says; None if it is damaged."""
    body = unseal(line)
    if body is None:
        return None
    if not body.startswith(b'{"file":"'):
        found: dict[str, int] = msgspec.json.decode(body)
        return found
    name = body.index(b'","at":', 9)
    place = body.index(b',"line":', name)
    text = body[place + 8 : -1]
    return Write(body[9:name].decode(), int(body[name + 7 : place]), None if text == b"null" else text + b"\n")
