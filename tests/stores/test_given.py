"""What users have already: a pool, SQLAlchemy's engine, Django's settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine

from perdure import Engine, step, workflow
from perdure.errors import PerdureError
from perdure.stores.django import django_url
from perdure.stores.given import AlchemyPool, url_of_pool
from perdure.stores.postgres import PostgresStore

POSTGRES = "django.db.backends.postgresql"
MYSQL = "django.db.backends.mysql"


@step
async def weigh(item: str) -> int:
    return len(item)


@workflow(name="given_weigh")
async def weighed(item: str) -> int:
    return await weigh(item)


async def works(engine: Engine) -> None:
    async with engine:
        assert await engine.run(weighed.options(execution_id="lamp"), "a lamp") == 6
        assert await engine.count() == {"completed": 1}


@pytest.mark.postgres
async def test_a_pool_alone_is_enough(postgres_url: str) -> None:
    async with asyncpg.create_pool(postgres_url, min_size=0, max_size=2) as pool:
        await works(Engine(PostgresStore(pool=pool), workflows=[weighed]))
        assert await pool.fetchval("select status from workflow_executions") == "completed"
        assert pool.get_size() > 0, "it was used"


@pytest.mark.postgres
async def test_an_engine_of_sqlalchemy_alone_is_enough(postgres_url: str) -> None:
    alchemy = create_async_engine(postgres_url.replace("postgresql://", "postgresql+asyncpg://"))
    try:
        await works(Engine(PostgresStore(sqlalchemy=alchemy), workflows=[weighed]))
        async with alchemy.connect() as connection:
            assert (await connection.execute(text("select status from workflow_executions"))).scalar() == "completed"
        assert alchemy.pool.checkedout() == 0, "all was given back"  # type: ignore[attr-defined]
    finally:
        await alchemy.dispose()


@pytest.mark.postgres
async def test_an_engine_of_sqlalchemy_is_a_pool_beside_a_url(postgres_url: str) -> None:
    alchemy = create_async_engine(postgres_url.replace("postgresql://", "postgresql+asyncpg://"))
    try:
        await works(Engine(postgres_url, pool=alchemy, workflows=[weighed]))
    finally:
        await alchemy.dispose()


@pytest.mark.postgres
async def test_a_connection_of_sqlalchemy_that_broke_is_not_used_again(postgres_url: str) -> None:
    alchemy = create_async_engine(postgres_url.replace("postgresql://", "postgresql+asyncpg://"))
    pool = AlchemyPool(alchemy)
    try:
        broken = await pool.acquire()
        broken.terminate()
        await pool.release(broken)
        again = await pool.acquire()
        assert again is not broken
        assert await again.fetchval("select 1") == 1
        await pool.release(again)
    finally:
        await alchemy.dispose()


def test_an_engine_over_another_driver_is_refused_in_words() -> None:
    with pytest.raises(PerdureError, match="this one's driver is pysqlite"):
        PostgresStore(sqlalchemy=create_engine("sqlite://"))


def test_a_pool_that_does_not_tell_its_url_is_refused_in_words() -> None:
    with pytest.raises(PerdureError, match=r"Give it too: PostgresStore\(url, pool=pool\)"):
        url_of_pool(object())
    with pytest.raises(PerdureError, match="neither a URL nor a pool"):
        PostgresStore()


@pytest.mark.postgres
async def test_django_s_settings_are_an_engine_s_url(postgres_url: str) -> None:
    parts = urlsplit(postgres_url)
    settings = {
        "ENGINE": POSTGRES,
        "NAME": parts.path[1:],
        "USER": parts.username,
        "HOST": parts.hostname,
        "PORT": parts.port,
        "CONN_MAX_AGE": 60,
        "OPTIONS": {"sslmode": "disable", "isolation_level": 1},
    }
    await works(Engine(settings, workflows=[weighed]))
    connection = await asyncpg.connect(postgres_url)
    assert await connection.fetchval("select status from workflow_executions") == "completed"
    await connection.close()


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        ({"ENGINE": "django.db.backends.sqlite3", "NAME": "/srv/shop.db"}, "sqlite:////srv/shop.db"),
        ({"ENGINE": POSTGRES, "NAME": "shop"}, "postgresql:///shop"),
        ({"ENGINE": POSTGRES, "NAME": "shop", "USER": "ana", "PORT": ""}, "postgresql://ana@/shop"),
        (
            {"ENGINE": POSTGRES, "NAME": "a/b", "USER": "a@b", "PASSWORD": "p@s:/?", "HOST": "db", "PORT": "5433"},
            "postgresql://a%40b:p%40s%3A%2F%3F@db:5433/a%2Fb",
        ),
        (
            {"ENGINE": POSTGRES, "NAME": "shop", "HOST": "/run/pg", "PORT": 5433, "OPTIONS": {"sslmode": "require"}},
            "postgresql:///shop?sslmode=require&host=%2Frun%2Fpg&port=5433",
        ),
        ({"ENGINE": MYSQL, "NAME": "shop", "HOST": "db", "USER": "ana"}, "mysql://ana@db/shop"),
        (
            {"ENGINE": MYSQL, "NAME": "shop", "HOST": "/run/my.sock", "USER": "ana"},
            "mysql://ana@/shop?unix_socket=%2Frun%2Fmy.sock",
        ),
        (
            {"ENGINE": MYSQL, "NAME": "shop", "HOST": "db", "OPTIONS": {"ssl": {"ca": "/ca.pem"}, "charset": "utf8"}},
            "mysql://db/shop?ssl_ca=%2Fca.pem",
        ),
    ],
)
def test_django_s_settings_become_a_url(settings: Mapping[str, Any], url: str) -> None:
    assert django_url(settings) == url


def test_a_database_of_django_s_without_a_store_is_refused_in_words() -> None:
    with pytest.raises(PerdureError, match=r"'django\.db\.backends\.oracle', for which there is no store"):
        django_url({"ENGINE": "django.db.backends.oracle", "NAME": "shop"})
