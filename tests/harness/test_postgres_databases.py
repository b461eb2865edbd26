"""Databases for tests: quick copies of a schema, apart from each other."""

import asyncpg
import pytest

from support import schema
from support.servers import PostgresServer


async def _tables(url: str) -> set[str]:
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        return {row["tablename"] for row in rows}
    finally:
        await connection.close()


async def test_a_test_database_has_the_tables_of_shop_and_workers(postgres_url: str) -> None:
    assert {"customer_order", "order_event", "inbox_message", "outbox_message"} <= await _tables(postgres_url)


@pytest.mark.parametrize("turn", [1, 2])
async def test_what_one_test_leaves_behind_the_next_one_does_not_see(postgres_url: str, turn: int) -> None:
    connection = await asyncpg.connect(postgres_url.replace("+asyncpg", ""))
    await connection.execute("CREATE TABLE left_behind ()")
    assert turn
    await connection.close()


async def test_an_own_server_starts_with_the_tables_and_falls_back_to_them(
    own_postgres: PostgresServer, own_postgres_url: str
) -> None:
    before = await _tables(own_postgres_url)
    own_postgres.execute_sync("CREATE TABLE more ()", "shop")
    own_postgres.restart_empty()
    assert await _tables(own_postgres_url) == before


def test_a_failed_migration_says_why(free_port: int) -> None:
    with pytest.raises(schema.SchemaError, match=r"ConnectionRefusedError: .*Connect call failed"):
        schema.build(f"postgresql+asyncpg://postgres@127.0.0.1:{free_port}/shop")


@pytest.mark.services
def test_fsync_can_be_had() -> None:
    with PostgresServer(fsync=True) as server:
        assert server.execute_sync("SHOW fsync")[0]["fsync"] == "on"
        assert server.execute_sync("SHOW max_connections")[0]["max_connections"] == "200"
