"""TLS to MariaDB: what a URL asks for is what the connection has, all of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from perdure.errors import StoreUnavailableError
from perdure.stores.mysql import MysqlStore
from perdure.testing.checks.scene import Scene
from tests.servers import MariaDbServer

pytestmark = pytest.mark.mysql


@pytest.fixture
def url(mariadb_tls_server: MariaDbServer) -> Iterator[str]:
    """The URL of an empty database of a server that lets in nobody from afar but by TLS."""
    user = "create or replace user careful@'%' require ssl"
    mariadb_tls_server.execute(user)
    mariadb_tls_server.execute("grant all on *.* to careful@'%'")
    with mariadb_tls_server.database() as made:
        yield made.replace("root@", "careful@")


async def works(store: MysqlStore) -> None:
    await store.open()
    try:
        scene = await Scene.begin(store)  # a worker, whose heartbeat and commits have sessions of their own
        await scene.run("a")
        await store.heartbeat(scene.worker.id, scene.worker.epoch, 60.0)
        async with store._pool.session() as session:
            ((name, cipher),) = (await session.run("show session status like 'Ssl_cipher'"))[0].tuples
            assert (name, bool(cipher)) == ("Ssl_cipher", True)
    finally:
        await store.close()


@pytest.mark.parametrize("parameter", ["ssl=true", "ssl-mode=REQUIRED", "tls=true"])
async def test_a_url_that_asks_for_tls_gets_it(url: str, parameter: str) -> None:
    await works(MysqlStore(f"{url}?{parameter}"))


async def test_a_server_whose_certificate_is_to_be_trusted_is_worked_with(
    url: str, mariadb_tls_server: MariaDbServer
) -> None:
    assert mariadb_tls_server.certificates is not None
    await works(MysqlStore(f"{url}?ssl_ca={mariadb_tls_server.certificates.authority}"))


async def test_a_server_whose_certificate_another_authority_signed_is_refused(
    url: str, mariadb_tls_server: MariaDbServer
) -> None:
    assert mariadb_tls_server.certificates is not None
    wrong = mariadb_tls_server.certificates.server  # signed by the authority, and none itself
    with pytest.raises(StoreUnavailableError, match=r"(?i)certificate"):
        await MysqlStore(f"{url}?ssl_ca={wrong}").open()


async def test_without_tls_a_user_who_needs_it_is_not_let_in(url: str) -> None:
    with pytest.raises(StoreUnavailableError):
        await MysqlStore(f"{url}?ssl=false").open()
