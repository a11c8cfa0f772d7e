"""One process's share in a folder: what is in it, in memory, and the way of everything new onto the disk.

    perdure.json          says that the folder is Perdure's, and which format it has
    executions/*.jsonl    an execution each: its row, its journal, its requests and messages, as they came
    workers.jsonl         schedules.jsonl
    log/*.jsonl           what makes a batch durable; see `files_log`
    locks/                the folder's lock, the lock of who runs executions, one lock a worker

Any process may write: it takes the folder's lock for a moment, reads what others have written since, does its verb in
memory, and appends what the verb touched to the log, with one flush. The files of the executions follow a little
later; what they lack after a crash is in the log. Once it has grown, the files are flushed and the log begins anew.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TypeVar

from perdure.clock import Clock
from perdure.errors import BadBatchError, DecodeError, PerdureError, StoreUnavailableError
from perdure.stores import files_disk as disk
from perdure.stores.files_crew import Crew
from perdure.stores.files_follow import Files
from perdure.stores.files_layout import create_layout, read_execution_files
from perdure.stores.files_lines import Line, read_line
from perdure.stores.files_log import Log, Write
from perdure.stores.files_names import SCHEDULES, WORKERS, file_of
from perdure.stores.files_rows import WatchedStore
from perdure.stores.patience import Busy
from perdure.stores.presence import process_token

Result = TypeVar("Result")

logger = logging.getLogger("perdure.stores.files")

LOG_SIZE = 8 << 20
"""Bytes of log after which it is folded into the files."""

BEHIND = 1 << 18
"""Bytes that the files may be behind the log before they are written in the middle of work."""

FEW = 256
"""Files that are flushed on leaving, so that the folder at rest has an empty log."""

_FOLDERS: dict[tuple[int, str], Folder] = {}
"""By process and path. The system's locks are a process's: two stores of one cannot tell each other by them."""

_FOLDERS_LOCK = threading.Lock()


def enter_folder(path: str, clock: Clock) -> Folder:
    """This process's share in a folder, opened if nobody here has it open. Raises `Busy`, `StoreUnavailableError`."""
    place = os.getpid(), os.path.realpath(path)
    with _FOLDERS_LOCK:
        folder = _FOLDERS.get(place)
        if folder is None:
            folder = Folder(path, clock)
            folder.is_new = folder.open()
            _FOLDERS[place] = folder
        folder.users += 1
        return folder


def leave_folder(folder: Folder) -> None:
    """One user less; the last one closes it."""
    with _FOLDERS_LOCK:
        folder.users -= 1
        if folder.users == 0:
            for place in [place for place, known in _FOLDERS.items() if known is folder]:
                del _FOLDERS[place]
            folder.close()


class Folder:
    """All its methods may be called from any thread."""

    def __init__(self, path: str, clock: Clock) -> None:
        self.path = path
        self.clock = clock
        self.users = 0
        self.is_new = False
        self.news = 0
        """Goes up when something came from another process."""
        self.mutex = threading.RLock()
        self.memory = WatchedStore(clock=clock)
        self.log = Log(os.path.join(path, "log"))
        self.files = Files(path)
        self.damaged: dict[str, str] = {}
        self.crew: Crew | None = None
        self._lock = -1
        self._stale = True
        self._failing = False
        self._writes = False  # this process has written: it keeps the files up with the log
        self._folding: threading.Thread | None = None
        self._closed = False

    # Coming and going -----------------------------------------------------------------------------------

    def open(self) -> bool:
        """Create what is missing, and read what is there. True if the folder was made now."""
        try:
            with disk.told(self.path):
                made = create_layout(self.path, self._locked_for_opening)
                self.crew = Crew(self.path)
                self.crew.abandoned = self.read(_of_this_process)
        except BaseException:
            self._close_descriptors()
            raise
        return made

    def _locked_for_opening(self, work: Callable[[], None]) -> None:
        self._lock = disk.open_lock(os.path.join(self.path, "locks", "write"))
        self._take_lock()
        try:
            work()
        finally:
            disk.unlock(self._lock)

    def close(self) -> None:
        """Leave the files as they should be, if that is quick, and give everything back."""
        with self.mutex:
            if self._writes and not self._stale:
                with suppress(PerdureError, OSError):
                    self._locked(self._leave_tidy)
            self._close_descriptors()
        if self._folding is not None:
            self._folding.join()

    def _close_descriptors(self) -> None:
        self._closed = True
        self.log.close()
        if self.crew is not None:
            self.crew.close()
            self.crew = None
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _leave_tidy(self) -> None:
        if self.files.bring_up() and self.files.unsynced and len(self.files.unsynced) <= FEW and self._folding is None:
            last, files = self._begin_fold()
            if self.files.sync(files, self._is_closed):
                self.log.remove(last)

    # Verbs ----------------------------------------------------------------------------------------------

    def read(self, work: Callable[[WatchedStore], Result]) -> Result:
        """Look at what is committed now. Raises `Busy` at once where another process holds the lock."""
        with self.mutex, disk.told(self.path):
            if self._stale or self.log.has_grown():
                self._locked(lambda: None)
            return work(self.memory)

    def write(self, work: Callable[[WatchedStore], Result]) -> Result:
        """Do this under the folder's lock; what it touched is durable when this returns.

        Raises `Busy` at once where another process holds the lock, `StoreUnavailableError` (nothing was recorded),
        `CommitUnknownError`, `BadBatchError`.
        """
        with self.mutex, disk.told(self.path):
            return self._locked(lambda: self._do(work))

    def _locked(self, work: Callable[[], Result]) -> Result:
        self._take_lock()
        try:
            self._catch_up()
            return work()
        finally:
            disk.unlock(self._lock)

    def _take_lock(self) -> None:
        if self._closed:
            raise StoreUnavailableError(f"{self.path} is closed")
        if not disk.try_lock(self._lock):
            raise Busy(f"{self.path} is locked by another process; nothing was done")

    def _do(self, work: Callable[[WatchedStore], Result]) -> Result:
        if self._failing:
            self._try_disk()
        touched = self.memory.touched
        try:
            result = work(self.memory)
            if touched:
                self._record(self._placed(touched.lines()))
        except BaseException:
            # The memory may hold what the disk does not: it is read again before anybody looks.
            self._stale = self._stale or bool(touched)
            raise
        touched.clear()
        try:
            if self.files.size > BEHIND:
                self.files.bring_up()
            if self.log.position > LOG_SIZE and self._folding is None:
                self._fold()
        except (OSError, PerdureError, RuntimeError) as error:  # what was done is recorded all the same
            logger.warning("%s: the log is not folded into the files for now: %s", self.path, error)
        return result

    def _try_disk(self) -> None:
        """The last write failed: see whether there is room again, before the memory is changed in vain."""
        path = os.path.join(self.path, "locks", "room")
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            disk.write(descriptor, bytes(1 << 16), 0)
            disk.sync(descriptor)
        finally:
            os.close(descriptor)
            os.unlink(path)
        self._failing = False

    def _placed(self, lines: Iterable[tuple[str, bytes | None]]) -> list[Write]:
        ends: dict[str, int] = {}
        placed = []
        try:
            for file, line in lines:
                at = ends.get(file, self.files.lengths.get(file, 0)) if line is not None else 0
                placed.append(Write(file, at, line))
                ends[file] = at + len(line or b"")
        except (ValueError, OverflowError) as error:
            raise BadBatchError(f"{self.path} cannot take this value: {error}") from error
        return placed

    def _record(self, writes: list[Write]) -> None:
        self._writes = True
        try:
            self.log.append(writes)
        except BaseException:
            self._failing = True
            raise
        self.files.note(writes)

    # What others wrote ----------------------------------------------------------------------------------

    def _catch_up(self) -> None:
        if not self._stale:
            if not self.log.has_grown():
                return
            try:
                self._follow(self.log.read())
            except FileNotFoundError:
                self._stale = True
            self.news += 1
            if self.files.size > BEHIND:
                self.files.bring_up()
        if self._stale:
            self._load()

    def _follow(self, writes: Iterable[Write]) -> None:
        fresh = []
        for write in writes:
            if write.line is None or write.at != self.files.lengths.get(write.file, 0):
                self._stale = True  # a file was removed, or a line is missing: the files tell
                return
            line = read_line(write.line[:-1])
            try:
                assert line is not None
                self.memory.take_over(line)
            except (AssertionError, KeyError, TypeError, ValueError):
                self._stale = True
                return
            fresh.append(write)
            self.files.lengths[write.file] = write.at + len(write.line)
        self.files.note(fresh)

    # Reading all ----------------------------------------------------------------------------------------

    def _load(self) -> None:
        """Read everything: the files, and over them what the log says."""
        memory = WatchedStore(clock=self.clock)
        memory._signal = self.memory._signal
        self.damaged = {}
        self.files.begin()
        self.log.rewind()
        logged: defaultdict[str, list[Write]] = defaultdict(list)
        for write in self.log.read():
            logged[write.file].append(write)
        for file, found in read_execution_files(self.path, logged):
            if not found.there:
                continue
            self.files.lengths[file] = found.end
            if found.ragged:
                self.files.ragged.add(file)
            self._read_lines(memory, file, found.lines, found.damage)
        for writes in logged.values():
            self.files.note(writes)
        memory.place_unreadable_workers()
        memory.keep_leases(self.memory)
        memory.touched.clear()
        self.memory, self._stale = memory, False

    def _read_lines(self, memory: WatchedStore, file: str, lines: list[Line], damage: list[int]) -> None:
        id = next((_owner(line) for line in lines), None) or os.path.basename(file).removesuffix(".jsonl")
        if file not in (WORKERS, SCHEDULES) and lines and file_of(id) != file:
            logger.warning(
                "%s/%s holds the execution %r, whose file has another name: it is left alone", self.path, file, id
            )
            return
        wrong = 0
        for line in lines:
            try:
                memory.take_over(line)
            except (KeyError, TypeError, ValueError):
                wrong += 1
        if not damage and not wrong:
            return
        where = f"line {damage[0]}" if damage else "a line"
        words = f"{self.path}/{file}: {where} is damaged; the file is left as it is, other executions go on"
        logger.error("%s", words)
        if file not in (WORKERS, SCHEDULES):
            self.damaged[id] = words
            if id not in memory._executions:
                memory.place_unreadable(id, words)

    def check(self, execution_id: str) -> None:
        """Raises `DecodeError` if this execution's file is damaged."""
        if execution_id in self.damaged:
            raise DecodeError(self.damaged[execution_id], execution_id=execution_id)

    # The files follow -----------------------------------------------------------------------------------

    def keep_up(self) -> None:
        """Write into the files what is in the log, if this process writes at all and the lock is free."""
        with self.mutex:
            if self.files.behind and self._writes and not self._stale and not self._closed:
                with suppress(StoreUnavailableError), disk.told(self.path):
                    self._locked(self.files.bring_up)

    def _fold(self) -> None:
        """Begin the log anew. The flushes of the files, which may be many, happen beside the work."""
        if not self.files.bring_up():
            return
        last, files = self._begin_fold()

        def finish() -> None:
            try:
                done = self.files.sync(files, self._is_closed)
                with self.mutex:
                    if done and not self._closed and disk.try_lock(self._lock):
                        try:
                            self.log.remove(last)
                        finally:
                            disk.unlock(self._lock)
                        files.clear()
            except OSError as error:
                logger.warning("%s: the log is not folded into the files for now: %s", self.path, error)
                with self.mutex:
                    self._stale = True  # what a failed flush did not write, the next does not: begin with the log
            finally:
                with self.mutex:
                    self.files.unsynced |= files  # of a fold that did not come to its end
                    self._folding = None

        self._folding = threading.Thread(target=finish, name="perdure-fold", daemon=True)
        self._folding.start()

    def _is_closed(self) -> bool:
        return self._closed

    def _begin_fold(self) -> tuple[int, set[str]]:
        last = self.log.number
        self.log.roll()
        files, self.files.unsynced = self.files.unsynced, set()
        return last, files


def _of_this_process(memory: WatchedStore) -> set[int]:
    """Workers that this process had when it left the folder before."""
    return {row.id for row in memory._workers.values() if row.process == process_token()}


def _owner(line: Line) -> str | None:
    found = line.row.get("id") if line.kind == "execution" else line.row.get("execution_id")
    return found if isinstance(found, str) else None
