"""What a worker has in hand is its own for as long as it lives, however long its handler takes."""

from support.scene import RedisScene
from support.wait import eventually


async def test_a_handler_at_work_keeps_its_entry(scene: RedisScene) -> None:
    # Given a handler that waits, and a lease that nobody needs to take over in this test
    scene.settings |= {"WORKER_LEASE_SECONDS": "60", "WORKER_HANDLER_TIMEOUT_SECONDS": "120"}
    (order,) = scene.send(await scene.orders(1), do="wait")
    scene.worker()
    await eventually(lambda: len(scene.starts()) == 1, 30)
    (before,) = scene.pending()
    longest = 0

    def renewed() -> bool:
        nonlocal longest
        (entry,) = scene.pending()
        longest = max(longest, entry["time_since_delivered"])
        assert (entry["consumer"], entry["times_delivered"]) == (before["consumer"], 1)
        return bool(entry["time_since_delivered"] < longest)

    # Then its worker renews the lease, over and over, and no delivery is counted for that
    for _ in range(2):
        longest = 0
        await eventually(renewed, 60)
    scene.release()
    await scene.until_processed([order])
    (await scene.ledger("a lease that is renewed")).assert_clean()
