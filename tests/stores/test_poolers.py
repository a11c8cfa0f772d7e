"""PostgreSQL behind a pooler, as hosts have it: a PgBouncer in transaction or in session mode, with TLS or without."""

from __future__ import annotations

import pytest

from perdure import Completed, Engine, Waiting, interrupt, step, workflow
from perdure.stores.postgres import PostgresStore
from tests.proxy import Proxy
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


async def test_a_pooler_of_which_nobody_spoke_is_found_by_the_first_session(
    transaction_pooler: PgBouncer, session_pooler: PgBouncer, postgres_server: PostgresServer, postgres_url: str
) -> None:
    direct, socket = postgres_url, postgres_server.socket_url(postgres_url.rsplit("/", 1)[1])
    async with Proxy(postgres_server.port) as proxy:  # it changes the client's port as a container's network does
        proxied = postgres_server.url(postgres_url.rsplit("/", 1)[1], port=proxy.port)
        for url, pooled in (
            (direct, False),
            (socket, False),
            (proxied, False),
            (transaction_pooler.url(postgres_url), True),
            (session_pooler.url(postgres_url), True),
            (f"{session_pooler.url(postgres_url)}?pgbouncer=false", False),
        ):
            store = PostgresStore(url)
            await store.open()
            assert store._address.pooled is pooled, url
            await store.close()


async def test_what_is_acknowledged_is_durable_behind_a_pooler_whatever_the_database_is_set_to(
    transaction_pooler: PgBouncer, postgres_server: PostgresServer
) -> None:
    with postgres_server.database() as url:
        postgres_server.execute(f"alter database {url.rsplit('/', 1)[1]} set synchronous_commit = off")
        store = PostgresStore(transaction_pooler.url(url))
        await store.open()
        async with store._pool.connection() as connection:
            assert await connection.fetchval("show synchronous_commit") == "on"
        await store.close()


async def test_workflows_run_behind_a_pooler_in_transaction_mode(
    transaction_pooler: PgBouncer, postgres_url: str
) -> None:
    await _run(transaction_pooler.url(postgres_url))


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
