"""The page that sets a database up: every command on it is run, on servers of this test's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import DOCS, blocks, run_page
from tests.servers import MariaDbServer, PgBouncer, PostgresServer

SETUP = DOCS / "setup.md"


@pytest.mark.postgres
@pytest.mark.mysql
def test_setting_it_up_word_by_word(
    tmp_path: Path,
    postgres_server: PostgresServer,
    mariadb_server: MariaDbServer,
    transaction_pooler: PgBouncer,
    postgres_url: str,
) -> None:
    pooled = postgres_url.rsplit("/", 1)[1]
    instead = {
        "postgresql://ana@localhost/shop": postgres_server.url("shop"),
        "postgres.abc:s3cret@aws-0-eu.pooler.supabase.com:6543/postgres": (
            f"postgres@127.0.0.1:{transaction_pooler.port}/{pooled}"
        ),
        "mysql://ana@localhost/shop": mariadb_server.url("shop"),
    }
    try:
        run_page(SETUP, tmp_path, instead=instead)
    finally:
        postgres_server.drop_database(postgres_server.url("shop"))
        mariadb_server.execute("drop database if exists shop")


def test_the_page_has_no_block_that_nobody_runs() -> None:
    assert {block.language for block in blocks(SETUP.read_text())} == {"python", "console"}


def test_the_readme_leads_to_it() -> None:
    assert "(docs/setup.md)" in (DOCS.parent / "README.md").read_text()
