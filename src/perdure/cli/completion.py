"""`completion`: what makes a shell complete commands, options and files."""

from __future__ import annotations

import click
from click.shell_completion import ShellComplete, get_completion_class

from perdure.cli.session import DONE, Session, shared, with_session

HOW = {
    "bash": 'eval "$(perdure completion bash)"      # in ~/.bashrc',
    "zsh": 'eval "$(perdure completion zsh)"       # in ~/.zshrc',
    "fish": "perdure completion fish | source       # in ~/.config/fish/config.fish",
}


@click.command(epilog="\b\n" + "\n".join(HOW.values()))
@click.argument("shell", type=click.Choice(list(HOW)))
@shared
@with_session
@click.pass_context
def completion(context: click.Context, session: Session, shell: str) -> int:
    """Print what makes a shell complete `perdure`."""
    made = get_completion_class(shell)
    assert made is not None, shell
    # bash's own `source()` runs bash to ask for its version: the script may be meant for another machine.
    script = ShellComplete.source(made(context.find_root().command, {}, "perdure", "_PERDURE_COMPLETE"))
    session.document({"shell": shell, "script": script})
    session.say(script)
    return DONE
