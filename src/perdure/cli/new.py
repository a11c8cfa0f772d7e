"""`new`: a small project that runs, written from the files in templates/new."""

from __future__ import annotations

import keyword
import os
import re
import shlex
import sys
from importlib import resources
from pathlib import Path

import click

import perdure
from perdure.cli.session import DONE, Session, shared, with_session
from perdure.settings import NAMES

TEMPLATES = "templates/new"
FILES = {
    "pyproject.toml.template": "pyproject.toml",
    "README.md.template": "README.md",
    "project.py.template": "{{package}}.py",
    "test_project.py.template": "test_{{package}}.py",
    "env": ".env",
    "gitignore": ".gitignore",
}
"""The templates, and what becomes of each. Those that tools would take for their own here have other names."""

TAKEN = frozenset(("asyncpg", "click", "msgspec", "perdure", "pytest"))
"""Modules that the project's own module would hide."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_.][A-Za-z0-9]+)*")


@click.command()
@click.argument("name")
@click.option("--folder", metavar="DIR", type=click.Path(path_type=Path), help="Where to put it; by default here.")
@shared
@with_session
def new(session: Session, name: str, folder: Path | None) -> int:
    """Write a small project that runs: a workflow and its test.

    It goes into a new folder NAME. Nothing is overwritten.
    """
    package = package_name(name)
    project = (folder or Path()) / name
    texts = project_files(name, package)
    if os.path.isdir(project) and any(project.iterdir()):
        raise click.ClickException(f"{project} is there already, and is not empty: nothing was written")
    try:
        project.mkdir(parents=True, exist_ok=True)
        for file, text in texts.items():
            with open(project / file, "x", encoding="utf-8") as stream:
                stream.write(text)
    except OSError as error:
        raise click.ClickException(f"{project} cannot be written: {error.strerror or error}") from error
    run = session.command("run", f"{package}:fulfil", '["a lamp", 1999]', "--id", "order-1")
    answer = session.command("answer", "order-1", "Main Street 1")
    commands = [shlex.join(["cd", str(project)]), run, answer, run]
    session.document({"folder": str(project), "package": package, "files": sorted(texts), "next": commands})
    session.say(f"{project} is written: {', '.join(sorted(texts))}")
    session.hint("\nGo on with:\n" + "\n".join(f"  {command}" for command in commands))
    for variable in NAMES:
        if os.environ.get(variable):
            session.hint(f"{variable} is set in the environment, and goes before what .env names.")
    return DONE


def package_name(name: str) -> str:
    """The module's name for a project's name. Raises `click.UsageError` where there is none."""
    if not _NAME.fullmatch(name) or len(name) > 100:
        raise click.UsageError(
            f"{name!r} is no name for a project: a letter, then letters and digits, with single - _ . between"
        )
    package = re.sub(r"[-.]", "_", name).lower()
    if keyword.iskeyword(package) or keyword.issoftkeyword(package):
        raise click.UsageError(f"{package} is a word of Python's own: take another name")
    if package in sys.stdlib_module_names or package in TAKEN:
        raise click.UsageError(f"there is a module {package} already, which this one would hide: take another name")
    return package


def project_files(name: str, package: str) -> dict[str, str]:
    """The files of a new project, by name."""
    words = {"{{name}}": name, "{{package}}": package, "{{version}}": perdure.__version__}

    def filled(text: str) -> str:
        return re.sub(r"{{\w+}}", lambda match: words[match[0]], text)

    folder = resources.files("perdure.cli").joinpath(*TEMPLATES.split("/"))
    return {filled(file): filled(folder.joinpath(template).read_text("utf-8")) for template, file in FILES.items()}
