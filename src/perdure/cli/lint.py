"""`lint`: what in workflow code would not replay, found by reading it. Nothing is imported, nothing runs."""

from __future__ import annotations

import io
import os
import sys
import tokenize
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from importlib.machinery import PathFinder
from pathlib import Path

import click

from perdure.cli.session import DONE, FAILED, Session, shared, with_session
from perdure.linting import Finding, Report, Severity, lint, unreadable

SKIPPED = frozenset(("__pycache__", "node_modules", "site-packages"))


@click.command("lint")
@click.argument("targets", metavar="[TARGET]...", nargs=-1, type=click.Path())
@shared
@with_session
def lint_command(session: Session, targets: tuple[str, ...]) -> int:
    """Find what in workflow code would not replay.

    TARGET is a file, a folder or a module; by default the files of this folder. They are read, not
    imported. Exit code 1: something was found. A comment in a line silences it there:

    \b
      started = time.time()  # perdure: ignore[P001]
    """
    files = [path for target in targets for path in _files(target)] if targets else sorted(Path().glob("*.py"))
    if not files:
        raise click.UsageError("there are no Python files here: name a file, a folder or a module")
    reports = [read(path) for path in dict.fromkeys(files)]
    findings = [finding for report in reports for finding in report.findings]
    workflows = sum(len(report.workflows) for report in reports)
    session.document(
        {
            "findings": [{**asdict(finding), "severity": str(finding.severity)} for finding in findings],
            "files": len(reports),
            "workflows": workflows,
            **{f"{severity}s": count for severity, count in _count(findings).items()},
        }
    )
    for finding in findings:
        place = f"{finding.file}:{finding.line}:{finding.column}"
        session.say(f"{place}: {finding.severity} {finding.code} {finding.message}")
    session.hint(_summary(findings, len(reports), workflows))
    return FAILED if any(finding.severity is not Severity.INFO for finding in findings) else DONE


def read(path: Path) -> Report:
    """The report on a file."""
    try:
        content = path.read_bytes()
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
        source = io.TextIOWrapper(io.BytesIO(content), encoding).read()
    except (OSError, SyntaxError, UnicodeDecodeError, LookupError) as error:
        return unreadable(str(path), f"this cannot be read: {error}")
    return lint(source, str(path))


def _count(findings: Sequence[Finding]) -> dict[Severity, int]:
    return {severity: sum(finding.severity is severity for finding in findings) for severity in Severity}


def _summary(findings: Sequence[Finding], files: int, workflows: int) -> str:
    read_here = f"{_some(workflows, 'workflow')} in {_some(files, 'file')}"
    found = [_some(count, str(severity)) for severity, count in _count(findings).items() if count]
    if found:
        return f"{', '.join(found)} in {read_here}."
    return f"Nothing to say about {read_here}."


def _some(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 or what == "info" else f"{count} {what}s"


# Which files ----------------------------------------------------------------------------------------------


def _files(target: str) -> list[Path]:
    path = Path(target)
    if target and os.path.isdir(target):
        found = sorted(_below(path))
        if not found:
            raise click.UsageError(f"there are no Python files in {target}")
        return found
    if os.path.isfile(path):
        return [path]
    name = target.partition(":")[0]
    if name.endswith(".py") or "/" in name:
        if name != target and os.path.isfile(name):
            return [Path(name)]
        raise click.UsageError(f"there is no file {name}")
    return _module_files(name)


def _below(folder: Path) -> Iterator[Path]:
    """The Python files of a folder and its subfolders; neither hidden ones nor virtual environments."""
    for path in folder.iterdir():
        if path.is_dir():
            if not path.name.startswith(".") and path.name not in SKIPPED and not (path / "pyvenv.cfg").exists():
                yield from _below(path)
        elif path.suffix == ".py":
            yield path


def _module_files(name: str) -> list[Path]:
    """The files of a module, found as an import would find it, from the current folder first."""
    if not all(part.isidentifier() for part in name.split(".")):
        raise click.UsageError(f"{name!r} is neither a file, nor a folder, nor a module's name")
    where: Iterable[str] | None = [str(Path.cwd()), *sys.path]
    known = ""
    for part in name.split("."):
        known = f"{known}.{part}" if known else part
        # importlib.util.find_spec would import the packages above.
        spec = None if where is None else PathFinder.find_spec(known, list(where))
        if spec is None:
            raise click.UsageError(f"there is no module {known!r} in {Path.cwd()}, nor is it installed")
        where = spec.submodule_search_locations
    if where is not None:
        return sorted(_shown(path) for folder in where for path in _below(Path(folder)))
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        raise click.UsageError(f"{name} is no Python file")
    return [_shown(Path(spec.origin))]


def _shown(path: Path) -> Path:
    """The path from here, where the file lies below."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
