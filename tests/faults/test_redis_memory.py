"""A Redis that deletes messages when its memory is full is refused by all that would trust it."""

import pytest
import redis

from app.core.outcomes import RefusedToStartError
from app.core.redis_memory import check_memory
from support.celery_scene import CeleryScene
from support.job_scene import JobScene
from support.scene import RedisScene
from support.servers import RedisServer

LINE = "Redis: maxmemory-policy allkeys-lru deletes messages when memory is full: noeviction is needed"


@pytest.mark.parametrize(
    ("limit", "policy"), [(0, "allkeys-lru"), (1000, "noeviction"), (1000, "volatile-ttl"), (1000, None)]
)
def test_no_other_is_refused(limit: int, policy: str | None) -> None:
    check_memory({"maxmemory": limit, "maxmemory_policy": policy})
    check_memory({})


@pytest.mark.parametrize("policy", ["allkeys-random", "allkeys-lfu", "allkeys-lrm"])
def test_whatever_the_order_in_which_it_deletes(policy: str) -> None:
    with pytest.raises(RefusedToStartError, match=policy):
        check_memory({"maxmemory": 1, "maxmemory_policy": policy})


async def test_nothing_starts_that_would_lose_messages(postgres_url: str, own_redis: RedisServer) -> None:
    with redis.Redis.from_url(own_redis.url) as client:
        client.config_set("maxmemory", "100mb")
        client.config_set("maxmemory-policy", "allkeys-lru")
        with (
            CeleryScene(postgres_url, own_redis.url) as tasks,
            RedisScene(postgres_url, own_redis.url) as streams,
            JobScene(postgres_url, own_redis.url) as jobs,
        ):
            # Given workers and senders of each kind
            processes = [
                tasks.celery(),
                tasks.worker("celery_relay"),
                jobs.worker("job_dispatcher"),
                streams.worker(),
                streams.worker("outbox_relay"),
            ]
            # Then none starts, each says why in a line, and a supervisor need not try again
            for process in processes:
                assert process.wait(60) == 78, process.log_tail()
                assert [line.endswith(LINE) for line in process.log_text().splitlines()].count(True) == 1
                assert "Traceback" not in process.log_text()
            # When only keys that expire may be deleted
            client.config_set("maxmemory-policy", "volatile-lru")
            # Then messages are done as ever
            (order,) = streams.send(await streams.orders(1))
            streams.worker()
            await streams.until_processed([order])
            # And a Redis that may not tell is taken
            client.config_set("maxmemory-policy", "allkeys-lru")
            client.execute_command("ACL", "SETUSER", "default", "-info")
            await streams.worker().until_ready(60)
            (await streams.ledger("Redis: a policy that deletes messages is refused")).assert_clean()
