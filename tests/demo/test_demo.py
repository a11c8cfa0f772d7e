"""`make demo` keeps its promises, with a terminal and without one."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

COMMAND = [sys.executable, "-m", "perdure.demo"]


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
    )


def at_a_terminal(folder: Path, keys: bytes) -> tuple[int, str]:
    """Run the demo at a pseudo-terminal, press these keys at its first question, and give its end and its words."""
    controller, terminal = pty.openpty()
    child = subprocess.Popen(COMMAND, cwd=folder, stdin=terminal, stdout=terminal, stderr=terminal, close_fds=True)
    os.close(terminal)
    said = b""
    pressed = False
    try:
        while True:
            try:
                some = os.read(controller, 4096)
            except OSError:  # how Linux says that the other side is closed
                break
            if not some:
                break
            said += some
            if not pressed and b"Enter to leave it open?" in said:
                pressed = True
                os.write(controller, keys)
        return child.wait(30), said.decode()
    finally:
        os.close(controller)
        child.kill()
        child.wait()


def test_a_worker_is_killed_and_every_step_is_recorded_once(tmp_path: Path) -> None:
    done = run(tmp_path, "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"kill -9 \d+: \d+ of \d+ steps are done, \d+ are under way", done.stdout)
    assert "(SIGKILL)" in done.stdout
    entered = re.search(r"(\d+) steps entered (\d+) times; (\d+) outcomes were recorded, one for each", done.stdout)
    assert entered is not None
    steps, times, recorded = map(int, entered.groups())
    assert recorded == steps < times
    assert "No step entered again after its outcome was recorded." in done.stdout
    report = (tmp_path / "perdure-demo" / "report.md").read_text()
    assert report.startswith("# Licence audit")
    assert "| accept |" in report


def test_without_a_terminal_nobody_is_asked_and_all_is_left_open(tmp_path: Path) -> None:
    run(tmp_path)
    done = run(tmp_path)  # over what an earlier demo left
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nobody to ask" in done.stdout
    assert "| open |" in (tmp_path / "perdure-demo" / "report.md").read_text()


def test_at_a_terminal_the_person_decides(tmp_path: Path) -> None:
    status, said = at_a_terminal(tmp_path, b"r\n" + b"\n" * 50)
    assert status == 0, said
    report = (tmp_path / "perdure-demo" / "report.md").read_text()
    assert report.count("| reject |") == 1


def test_a_person_who_goes_away_leaves_the_execution_waiting(tmp_path: Path) -> None:
    status, said = at_a_terminal(tmp_path, b"\x04")
    assert status == 3, said
    assert "No answer now." in said
