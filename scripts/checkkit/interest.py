"""Which modules, and which groups of rules, are worth the second reading: most hold no worker.

Plain searches: a pattern with as many alternatives takes ten times as long.
"""

from __future__ import annotations

import re

from checkkit.facts import ModuleFact
from checkkit.syntax import Module

# Names whose calls a rule looks at.
CALLED = frozenset(
    {
        "apply_async", "delay", "crontab", "on_event", "create_task", "create_task_group", "ensure_future",
        "gather", "from_url", "Redis", "TaskGroup", "xautoclaim", "xclaim",
        "xpending_range", "xread", "xreadgroup", "xadd", "xgroup_create", "xgroup_delconsumer", "blpop",
        "brpop", "bzpopmin", "bzpopmax", "lock", "ack", "xack", "basic_ack", "begin", "add_task",
        "add_event_handler", "send_task", "StreamingResponse", "EventSourceResponse",
    }
)  # fmt: skip
LOGS = frozenset({"debug", "info", "warning", "error", "exception", "critical", "log"})
# Words without which the other rules find nothing.
WORDS = (
    "celery", "shared_task", ".task", "apscheduler", "asynccontextmanager", "sessionmaker", "pika",
    "tenacity", "backoff", "dempot", "nx=True", "utbox", "advisory", "openai", "anthropic", "hmac", "ebhook",
    "asyncio.run", "uvloop", "guest:guest", "BaseSettings", "verify=False", "SoftTimeLimit",
    "IntegrityError", "Inbox", "Processed", "to_thread", "run_in_executor", "call_next", "event-stream",
    "ServerSentEvent", "aiolimiter", "opentelemetry", "logging.config", "basicConfig", "structlog",
    "retry_after", "retry-after", "Retry-After", "Job(", "Task(", "Job,", "Task,", "Outbox(",
    "dead_letter", "dlq", "DLQ", "bury",
)  # fmt: skip
SEEN = ("seen", "Seen", "processed", "handled", "dedup", "Dedup")
MESSAGES = frozenset({"message", "msg", "event", "delivery", "envelope"})
BROAD = ("BaseException", "except:", "CancelledError")
# And these, in lower case, where something is logged.
SECRETS = (
    "password", "passwd", "secret", "apikey", "api_key", "access_token", "refresh_token", "private_key",
    "dsn", "database_url", "broker_url", "redis_url", "rabbitmq_url", "amqp_url",
)  # fmt: skip
PROBE = re.compile(r"health|read[yi]|live", re.IGNORECASE)
# Without one of these the rules of a group have nothing to look at.
NEEDS = {
    ("pika",): {"rabbit", "publish", "topology", "routing"},
    ("xautoclaim", "xclaim", "xpending"): {"claims"},
    ("openai", "anthropic", "aiolimiter"): {"llm"},
    ("ebhook",): {"callbacks"},
    ("hmac", "ebhook", "verify", "construct_event"): {"webhooks"},
    (".task", "shared_task"): {"celery_retries"},
    ("scheduler", "crontab", "eta=", "lifespan", "asynccontextmanager", "on_event", "Trigger"): {"cron"},
    ("redis", "xread", "xadd", "xgroup"): {"streams", "redis"},
}


def is_interesting(module: Module, known: ModuleFact) -> bool:
    """Whether a rule about modules may find something in it."""
    called, text = module.by_name.keys(), module.text
    if not CALLED.isdisjoint(called) or any(word in text for word in WORDS):
        return True
    if not LOGS.isdisjoint(called):
        lower = text.lower()
        if "extra=" in text or any(word in lower for word in SECRETS):
            return True
    if any(one.is_route and PROBE.search(one.name) for one in known.functions):
        return True
    return is_interesting_text(text, called) or takes_messages(module)


def is_interesting_text(text: str, called: object) -> bool:
    """The rest, by words that are common and so need a second one."""
    assert hasattr(called, "__contains__")
    if "await " in text and ("process" in called or any(word in text for word in BROAD)):
        return True
    if ("keys" in called and text.count(".keys(") > text.count(".keys()")) or "in str(" in text:
        return True
    if ("loads" in called or "load" in called) and ("pickle" in text or "dill" in text):
        return True
    return (
        "in repr(" in text
        or ("yield" in text and "ession" in text)
        or ("worker:" in text and "ignore" in text)
    )


def takes_messages(module: Module) -> bool:
    """Whether a function gets a message, where something is remembered."""
    if not any(word in module.text for word in SEEN):
        return False
    return any(scope.is_function and not MESSAGES.isdisjoint(scope.parameters) for scope in module.scopes)


def idle_in(module: Module) -> set[str]:
    """The groups of rules that have nothing to look at in a module."""
    text = module.text
    idle = (groups for words, groups in NEEDS.items() if not any(word in text for word in words))
    return {f"checkkit.rules_{group}" for groups in idle for group in groups}
