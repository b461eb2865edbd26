"""The router that takes webhooks, as the tests see it, and as the process that plays the API runs it."""

from __future__ import annotations

import asyncio
import importlib
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import text


def start(labs: Any) -> WebhookInLab:
    """The lab of the router that takes webhooks."""
    return WebhookInLab(labs.lab("webhook_in_kit", "webhook_in", {}))


class WebhookInLab:
    """The router, in the process of a lab's desk."""

    def __init__(self, lab: Any) -> None:
        self._lab = lab

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lab, name)

    def receive(self, *webhooks: tuple[str, str], ending: str = "commit") -> list[int]:
        """Send webhooks, all at once, each an id and whether its signature is `good`; their statuses."""
        return list(self._lab.desk.ask("receive", webhooks, ending))


# -- in the process ------------------------------------------------------------------------------------


async def receive(webhooks: list[list[str]], ending: str) -> list[int]:
    """Give the API's router signed webhooks, all at once, each an id and a signature that is good or bad;
    the status of each. What it stores leaves a trace, in a transaction that ends as `ending` says.
    """
    from fastapi import FastAPI

    answers: Any = importlib.import_module("app.api.worker_answers")
    sign: Any = importlib.import_module("app.core.webhook_sign")
    keys = [sign.new_secret(), sign.new_secret()]

    async def store(session: Any, webhook: Any) -> None:
        insert = text("INSERT INTO worker_lab_effect (message_id, process) VALUES (:id, 0)")
        await session.execute(insert, {"id": webhook.id})
        if ending == "rollback":
            raise RuntimeError("the test wants this to fail")

    api = FastAPI()
    api.add_exception_handler(answers.Problem, answers.answer_problem)
    api.include_router(of("app.api.webhook_in", "webhook_in_router")("lab", lambda: keys[:1], store))
    body = b'{ "n": 1}'

    async def give(id_: str, signature: str) -> int:
        key = keys[0] if signature == "good" else keys[1]
        headers = sign.signed(id_, body, [key], datetime.now(UTC))
        return await post(api, "/webhooks/lab", headers, body)

    return await asyncio.gather(*(give(id_, signature) for id_, signature in webhooks))


async def post(app: Any, path: str, headers: dict[str, str], body: bytes) -> int:
    """The status that an application answers a POST with."""
    asked = [{"type": "http.request", "body": body, "more_body": False}]
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        return asked.pop() if asked else await asyncio.Future()

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("lab", 80),
    }
    with suppress(RuntimeError):  # what the test wanted: it is answered, and raised for the server's log
        await app(scope, receive, send)
    return statuses[0]


def of(module: str, name: str) -> Any:
    """Something of a module that only some projects have."""
    return getattr(importlib.import_module(module), name)
