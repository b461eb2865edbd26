"""Locks that a relay takes end with its transaction."""

from sqlalchemy import text

from support.producer import produce, sessions_for, unsent_is
from support.scene import RedisScene
from support.wait import eventually, stays


async def test_a_relay_at_rest_holds_no_lock(scene: RedisScene) -> None:
    async def locks() -> int:
        rows = await scene.sql(
            "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
            " WHERE l.locktype = 'advisory' AND a.datname = current_database()"
        )
        return int(rows[0][0])

    async def none() -> bool:
        return await locks() == 0

    async with sessions_for(scene.postgres_url) as sessions:
        # Given a relay that has sent something
        orders = await scene.orders(20)
        await produce(scene, sessions, orders)
        scene.worker("outbox_relay")
        await eventually(lambda: unsent_is(scene, 0), 30)
        # Then its connections are in the pool without a lock
        await eventually(none, 30)
        # The wrong form: a lock of the session, which the pool keeps
        async with sessions.begin() as session:
            await session.execute(text("SELECT pg_advisory_lock(1)"))
        await stays(locks, 0.5)
    # Until the connection is closed
    await eventually(none, 30)
