"""What is said when something was delivered: who goes on with it, if anybody."""

from __future__ import annotations

from perdure.cli.session import Session
from perdure.crew import live_workers, nobody_runs
from perdure.engine import Engine


async def tell_delivered(
    session: Session, engine: Engine, execution_id: str, document: dict[str, object], words: str
) -> None:
    """Say what was delivered, and the command to go on with."""
    row = await engine.get(execution_id).row()
    why_not = nobody_runs(await live_workers(engine.insight), row)
    session.document({**document, "nobody_runs_it": why_not})
    session.say(words)
    if why_not:
        session.hint(f"It is kept, but {why_not}. Start one:\n  {session.worker(row.queue)}")
    else:
        session.hint(f"Follow it:\n  {session.command('watch', execution_id)}")
