"""Programs of this folder as processes, each stopped and killed by its own pid."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0


def append(path: Path, **line: Any) -> None:
    """Append one JSON line by one `write`: the lines of several processes do not mix, and their order is the file's."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, json.dumps(line).encode() + b"\n")
    finally:
        os.close(descriptor)


def read(path: Path) -> list[dict[str, Any]]:
    """All whole lines."""
    if not path.exists():
        return []
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    return [json.loads(line) for line in whole.splitlines()]


class Program:
    """One process `python -m tests.proofs.MODULE ARGUMENTS`; it is killed at the end of its block."""

    def __init__(self, folder: Path, module: str, *arguments: object) -> None:
        self.told_in = folder / f"{module}-{len(list(folder.glob(f'{module}-*.err')))}.err"
        with self.told_in.open("wb") as told:
            self.process = subprocess.Popen(
                [sys.executable, "-m", f"tests.proofs.{module}", *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=told,
                stderr=told,
                cwd=ROOT,
            )

    def __enter__(self) -> Program:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            with suppress(ProcessLookupError):
                self.process.kill()
        self.process.wait(PATIENCE)

    @property
    def pid(self) -> int:
        return self.process.pid

    def stop(self) -> None:
        """Let it stand still; on return it does nothing any more, and holds all its locks."""
        os.kill(self.pid, signal.SIGSTOP)
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), f"it had ended: {self.told()}"

    def kill(self) -> None:
        self.process.kill()
        assert self.process.wait(PATIENCE) == -signal.SIGKILL, self.told()

    def ended(self) -> None:
        """Wait for its orderly end."""
        code = self.process.wait(PATIENCE)
        assert code == 0, f"ended with {code}: {self.told()}"

    def is_well(self) -> bool:
        """It runs still. Else fail with what it said."""
        assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.told()}"
        return True

    def told(self) -> str:
        return self.told_in.read_text()[-3000:]
