"""Where is measured: databases that really write to the disk, each server started when it is first asked for."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import ExitStack
from functools import cached_property
from itertools import count
from pathlib import Path
from types import TracebackType

from tests.servers import MariaDbServer, PostgresServer


class Places:
    """Gives fresh databases. Raises `NoServerError` where a server's programs are not installed."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._names = count(1)

    def __enter__(self) -> Places:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @cached_property
    def folder(self) -> Path:
        """For files; in `BENCH_DIR`, if it is set."""
        folder = Path(tempfile.mkdtemp(prefix="perdure-bench-", dir=os.environ.get("BENCH_DIR")))
        self._stack.callback(shutil.rmtree, folder, ignore_errors=True)
        return folder

    @cached_property
    def _postgres(self) -> PostgresServer:
        return self._stack.enter_context(PostgresServer(durable=True))

    @cached_property
    def _mariadb(self) -> MariaDbServer:
        return self._stack.enter_context(MariaDbServer(durable=True))

    def sqlite(self) -> str:
        """The URL of a SQLite file that is not there yet."""
        return f"sqlite:///{self.folder}/bench{next(self._names)}.db"

    def postgres(self) -> str:
        """The URL of an empty PostgreSQL database."""
        return self._postgres.create_database()

    def mariadb(self) -> str:
        """The URL of an empty MariaDB database."""
        return self._stack.enter_context(self._mariadb.database())
