"""A stand-in for the world outside: mail, payments, a language model and a webhook receiver.

Start it in examples/ with `python -m uvicorn world.stub:app`. It must be one process, since it remembers
in memory, and it must be uvicorn, since dropping a connection needs its transport.
"""

import json
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from world.ledger import KeyReusedError, Ledger
from world.schemas import Behaviour, Call, Count, Effect, Script, Target

app = FastAPI(title="World")
ledger = Ledger()

Work = Callable[[int, dict[str, Any]], dict[str, Any]]


class DroppedConnection(Response):
    """Closes the connection and answers nothing."""

    async def __call__(self, _scope: Scope, receive: Receive, _send: Send) -> None:
        """Abort the transport. ASGI has no message for this, so it reaches for uvicorn's own object."""
        cycle = getattr(receive, "__self__", None)
        if cycle is None or not hasattr(cycle, "transport"):
            raise RuntimeError("only uvicorn can drop a connection")
        cycle.transport.abort()
        # uvicorn would report a missing answer if it had not noticed the disconnect by now.
        while (await receive())["type"] != "http.disconnect":
            pass


@app.post("/mail/messages")
async def send_mail(request: Request) -> Response:
    """Accept a message."""
    return await _serve(request, "mail", 202, lambda number, _body: {"id": f"mail-{number}"})


@app.post("/payments/captures")
async def capture_payment(request: Request) -> Response:
    """Take money."""
    return await _serve(
        request,
        "payments",
        201,
        lambda number, body: {"reference": f"pay-{number}", "amount_cents": body.get("amount_cents")},
    )


@app.post("/llm/complete")
async def complete(request: Request) -> Response:
    """Write a text: the first words of the last paragraph of the prompt."""
    return await _serve(request, "llm", 200, _completion)


@app.post("/webhooks/{name}")
async def receive_webhook(request: Request, name: str) -> Response:
    """Take in a webhook, JSON or not."""
    return await _serve(request, f"webhooks/{name}", 200, lambda number, _body: {"received": number})


@app.post("/script", status_code=204)
async def set_script(script: Script) -> None:
    """Say how the next calls of a target go."""
    ledger.script(script.target, script.behaviour)


@app.get("/calls")
async def list_calls(target: Target | None = None) -> list[Call]:
    """List all calls, or those of one target, oldest first."""
    return [call for call in ledger.calls if target in (None, call.target)]


@app.delete("/calls", status_code=204)
async def clear() -> None:
    """Forget calls, effects, keys and scripts, and let the waiting calls go on."""
    ledger.clear()


@app.get("/effects")
async def list_effects(target: Target | None = None) -> list[Effect]:
    """List all work that was done, or that of one target, oldest first."""
    return [effect for effect in ledger.effects if target in (None, effect.target)]


@app.get("/counts")
async def count() -> dict[str, Count]:
    """Count calls and effects by target."""
    return ledger.counts()


@app.get("/health")
async def health() -> dict[str, str]:
    """Answer that the stub runs."""
    return {"status": "ok"}


async def _serve(request: Request, target: str, status: int, work: Work) -> Response:
    raw = await request.body()
    headers = dict(request.headers)
    # Standard Webhooks names the key of a delivery Webhook-Id.
    key = headers.get("idempotency-key") or headers.get("webhook-id")
    call = ledger.record(target, key, headers, raw, _parsed(raw))
    response = await _outcome(call, ledger.next_behaviour(target), status, work)
    call.status = None if isinstance(response, DroppedConnection) else response.status_code
    return response


async def _outcome(call: Call, behaviour: Behaviour, status: int, work: Work) -> Response:
    if not isinstance(call.body, dict) and not call.target.startswith("webhooks/"):
        return JSONResponse({"error": "the body must be a JSON object"}, 400)
    try:
        effect = _work(call, behaviour, status, work) if behaviour.works else None
    except KeyReusedError:
        return JSONResponse({"error": "this idempotency key came with another body before"}, 422)
    await ledger.wait(behaviour.seconds)
    if behaviour.kind == "drop":
        return DroppedConnection()
    if behaviour.kind == "fail" or effect is None:
        return _failure(behaviour)
    headers = None if call.effect else {"Idempotent-Replayed": "true"}
    return JSONResponse(effect.answer, effect.status, headers)


def _work(call: Call, behaviour: Behaviour, status: int, work: Work) -> Effect:
    scripted = behaviour.answer
    return ledger.work(call, status, lambda number: work(number, call.body) if scripted is None else scripted)


def _failure(behaviour: Behaviour) -> Response:
    headers = None if behaviour.retry_after is None else {"Retry-After": f"{behaviour.retry_after}"}
    return JSONResponse({"error": "as the script says"}, behaviour.status, headers)


def _completion(number: int, body: dict[str, Any]) -> dict[str, Any]:
    prompt = str(body.get("prompt", ""))
    text = " ".join(prompt.rsplit("\n\n", 1)[-1].split()[:12])
    usage = {"input_tokens": len(prompt.split()), "output_tokens": len(text.split())}
    return {"id": f"llm-{number}", "text": text, "usage": usage}


def _parsed(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return None
