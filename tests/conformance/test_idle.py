"""Workers that have nothing to do."""

from support.proxy import FaultProxy
from support.scene import Scene
from support.servers import RabbitServer, RedisServer
from support.wait import stays


async def test_idle_workers_keep_their_connections(
    scenes: list[Scene], redis_server: RedisServer, rabbit: RabbitServer
) -> None:
    # Given an idle worker of each broker
    redis, rabbitmq = scenes
    with FaultProxy(redis_server.port) as to_redis, FaultProxy(rabbit.port) as to_rabbitmq:
        workers = [
            redis.worker(REDIS_URL=to_redis.url(redis_server.url)),
            rabbitmq.worker(RABBITMQ_URL=to_rabbitmq.url(rabbit.url)),
        ]
        for worker in workers:
            await worker.until_ready()
        before = to_redis.accepted, to_rabbitmq.accepted
        # Then for 30 s, longer than any default timeout, they stay ready, log no error and do not reconnect
        await stays(lambda: all(worker.ready() for worker in workers), 30)
        assert to_redis.accepted - before[0] <= 1  # one that was not needed earlier
        assert to_rabbitmq.accepted == before[1]
        assert "Redis" not in workers[0].log_text()
        for worker in workers:
            assert "WARNING" not in worker.log_text()
