"""The real servers of the tests, in one place to import from."""

from support.binaries import MissingServer
from support.postgres_server import PostgresServer
from support.rabbit_server import RabbitServer
from support.redis_server import RedisServer
from support.server import Server, ServerError

__all__ = ["MissingServer", "PostgresServer", "RabbitServer", "RedisServer", "Server", "ServerError"]
