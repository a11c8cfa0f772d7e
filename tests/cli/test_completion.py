"""`completion`: the script that is printed, and what a shell gets that asks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import Shell


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_a_script_for_each_shell(shell: Shell, name: str) -> None:
    said = shell("completion", name)
    assert said.code == 0, said.err
    assert f"_PERDURE_COMPLETE={name}_complete" in said.out
    assert said.err == ""
    assert shell("completion", name, "--json").json == {"shell": name, "script": said.out.removesuffix("\n")}


def test_another_shell_is_a_usage_error(shell: Shell) -> None:
    said = shell("completion", "csh")
    assert said.code == 2
    assert "bash" in said.err


def asked(shell: Shell, words: str, position: int) -> list[str]:
    said = shell(_PERDURE_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(position))
    assert said.code == 0, said.err
    return [line.partition(",")[2] for line in said.out.splitlines()]


def test_commands_and_options_are_completed(shell: Shell) -> None:
    assert {"run", "worker", "lint", "completion"} <= set(asked(shell, "perdure ", 1))
    assert asked(shell, "perdure wat", 1) == ["watch"]
    assert "--workflow" in asked(shell, "perdure list --wor", 2)
    assert asked(shell, "perdure completion z", 2) == ["zsh"]


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash here")
def test_bash_itself_completes_with_it(shell: Shell, tmp_path: Path) -> None:
    program = tmp_path / "bin" / "perdure"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m perdure "$@"\n')
    program.chmod(0o755)
    (tmp_path / "script").write_text(shell("completion", "bash").out)
    script = (
        'source "$1"; complete -p perdure >/dev/null || exit 9\n'
        "COMP_WORDS=(perdure resu); COMP_CWORD=1; _perdure_completion perdure resu perdure\n"
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", script, "bash", str(tmp_path / "script")],
        cwd=tmp_path,
        env=shell.environment(PATH=f"{program.parent}{os.pathsep}{os.environ['PATH']}"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout.split()) == (0, ["resume"]), done.stderr
