"""PostgreSQL behind a pooler, as hosts have it: a PgBouncer in transaction or in session mode, with TLS or without."""

from __future__ import annotations

import pytest

from perdure import Completed, Engine, Waiting, interrupt, step, workflow
from perdure.stores.postgres import PostgresStore
from perdure.testing.check_store import check_store
from tests.servers import PgBouncer, PostgresServer

pytestmark = pytest.mark.postgres


@step
async def double(number: int) -> int:
    return number * 2


@workflow(name="pooled")
async def pooled(number: int) -> int:
    for _ in range(5):
        number = await double(number)
    return number + await interrupt("How many more?", schema=int)


async def _run(url: str) -> None:
    """Workflows with steps and questions, by an engine that runs them and one that only asks."""
    async with Engine(url, workflows=[pooled]) as engine, Engine(url, workflows=[pooled], worker=False) as asking:
        handles = [await asking.start(pooled, number) for number in range(20)]
        for handle in handles:
            outcome = await handle.outcome(timeout=60)
            assert isinstance(outcome, Waiting), outcome
            await asking.answer(outcome.requests[0].id, 7)
        for number, handle in enumerate(handles):
            assert await engine.get(handle.id).outcome(timeout=60) == Completed(number * 32 + 7)


async def test_a_store_keeps_all_promises_behind_a_pooler_in_transaction_mode(
    transaction_pooler: PgBouncer, postgres_url: str
) -> None:
    url = f"{transaction_pooler.url(postgres_url)}?pgbouncer=true"
    await check_store(lambda: PostgresStore(url))


async def test_workflows_run_behind_a_pooler_in_session_mode(session_pooler: PgBouncer, postgres_url: str) -> None:
    await _run(session_pooler.url(postgres_url))


async def test_workflows_run_behind_a_pooler_in_transaction_mode_with_tls_and_a_password(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    database = postgres_url.rsplit("/", 1)[1]
    postgres_server.execute("create role \"ana.ref\" login password 's3cr%t@/'")
    try:
        postgres_server.execute(f'alter database {database} owner to "ana.ref"')
        with PgBouncer(postgres_server, users={"ana.ref": "s3cr%t@/"}, tls=True) as pooler:
            assert pooler.certificates is not None
            url = pooler.url(postgres_url, user="ana.ref", password="s3cr%t@/")
            await _run(f"{url}?sslmode=verify-full&sslrootcert={pooler.certificates.authority}&pgbouncer=true")
            await _run(f"{url}?sslmode=require&pgbouncer=true")
    finally:
        postgres_server.execute(f"alter database {database} owner to postgres")
        postgres_server.drop_database(postgres_url)
        postgres_server.execute('drop role "ana.ref"')
