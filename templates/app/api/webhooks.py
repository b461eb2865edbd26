"""Routes for owners of webhook endpoints: add one, replace its key, switch it off and on, see what became of
its deliveries, send one again.

app.add_exception_handler(Problem, answer_problem)
app.include_router(webhooks_router(current_owner))
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, ConfigDict, SecretStr

from app.api.worker_answers import Problem, asked
from app.core import webhook_endpoints, webhook_log
from app.core.job_manage import State
from app.core.webhook_endpoints import Endpoint, TooManyEndpointsError
from app.core.webhook_log import GoingOnError
from app.core.webhook_target import RefusedTargetError

R = TypeVar("R")


class EndpointIn(BaseModel):
    """A new endpoint."""

    url: str


class EndpointOut(BaseModel):
    """An endpoint. It gets nothing while `disabled_at` is set; `last_error` says why it was disabled."""

    model_config = ConfigDict(from_attributes=True)

    id: uuid.UUID
    url: str
    created_at: datetime
    rotated_at: datetime | None
    failing_since: datetime | None
    disabled_at: datetime | None
    last_error: str | None


class EndpointWithSecretOut(EndpointOut):
    """An endpoint, and the secret that its receiver checks signatures with. It is shown this once."""

    secret: str


class TryOut(BaseModel):
    """One try: the receiver's status, or why there was none."""

    at: datetime
    status: int | None
    error: str | None
    seconds: float


class DeliveryOut(BaseModel):
    """A delivery. The receiver knows it by `message_id`, which is its `webhook-id`."""

    model_config = ConfigDict(from_attributes=True)

    id: uuid.UUID
    message_id: str
    type: str
    state: State
    error: str | None
    created_at: datetime
    finished_at: datetime | None
    next_try_at: datetime | None
    tries: list[TryOut]


class ReplayOut(BaseModel):
    """The delivery that sends another one again."""

    id: uuid.UUID


def webhooks_router(current_owner: Callable[..., Any]) -> APIRouter:
    """The routes; `current_owner` is what `jobs_router` takes. Raises TypeError without one."""
    if not callable(current_owner):
        raise TypeError(
            "webhooks_router needs the project's authentication, a FastAPI dependency: "
            "webhooks_router(current_owner)"
        )
    # Not Annotated: that is read in the module, where `current_owner` is not known.
    caller = Depends(current_owner)
    router = APIRouter(prefix="/webhook-endpoints", tags=["webhooks"])

    @router.post("", status_code=201)
    async def add_endpoint(body: EndpointIn, owner: Any = caller) -> EndpointWithSecretOut:
        """Have your events sent to a URL."""
        try:
            return with_secret(await asked(webhook_endpoints.add(str(owner), body.url)))
        except RefusedTargetError as error:
            raise Problem(422, f"url: {error}") from error
        except TooManyEndpointsError as error:
            raise Problem(409, str(error)) from error

    @router.get("")
    async def list_endpoints(owner: Any = caller) -> list[EndpointOut]:
        """List your endpoints, the oldest first."""
        found = await asked(webhook_endpoints.endpoints(str(owner)))
        return [EndpointOut.model_validate(endpoint) for endpoint in found]

    @router.delete("/{endpoint_id}", status_code=204)
    async def remove_endpoint(endpoint_id: uuid.UUID, owner: Any = caller) -> Response:
        """Forget an endpoint. What was not delivered fails."""
        there(await asked(webhook_endpoints.remove(endpoint_id, str(owner))))
        return Response(status_code=204)

    @router.post("/{endpoint_id}/rotate")
    async def rotate_secret(endpoint_id: uuid.UUID, owner: Any = caller) -> EndpointWithSecretOut:
        """Replace the secret. The present one signs, too, for a while (WEBHOOK_ROTATION_HOURS)."""
        return with_secret(there(await asked(webhook_endpoints.rotate(endpoint_id, str(owner)))))

    @router.post("/{endpoint_id}/disable")
    async def disable_endpoint(endpoint_id: uuid.UUID, owner: Any = caller) -> EndpointOut:
        """Send nothing more to an endpoint. What was not delivered fails, and can be replayed."""
        found = await asked(webhook_endpoints.disable(endpoint_id, str(owner)))
        return EndpointOut.model_validate(there(found))

    @router.post("/{endpoint_id}/enable")
    async def enable_endpoint(endpoint_id: uuid.UUID, owner: Any = caller) -> EndpointOut:
        """Send to an endpoint again what happens from now on."""
        found = await asked(webhook_endpoints.enable(endpoint_id, str(owner)))
        return EndpointOut.model_validate(there(found))

    add_delivery_routes(router, caller)
    return router


def add_delivery_routes(router: APIRouter, caller: Any) -> None:
    """The routes of what was sent to an endpoint."""

    @router.get("/{endpoint_id}/deliveries")
    async def list_deliveries(
        endpoint_id: uuid.UUID,
        state: State | None = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        owner: Any = caller,
    ) -> list[DeliveryOut]:
        """List the latest deliveries to an endpoint, the newest first."""
        find = webhook_log.deliveries(endpoint_id, str(owner), state=state, limit=limit)
        return [DeliveryOut.model_validate(delivery) for delivery in await asked(find)]

    @router.post("/{endpoint_id}/deliveries/{delivery_id}/replay", status_code=202)
    async def replay_delivery(
        endpoint_id: uuid.UUID, delivery_id: uuid.UUID, owner: Any = caller
    ) -> ReplayOut:
        """Send a delivery that has ended again, under its old `webhook-id`."""
        try:
            new = await asked(webhook_log.replay(delivery_id, endpoint_id, str(owner)))
        except GoingOnError as error:
            raise Problem(409, str(error)) from error
        return ReplayOut(id=there(new))


def there(found: R | None) -> R:
    """What was found. Raises Problem 404 without; somebody else's is nothing."""
    if found is None:
        raise Problem(404, "there is no such endpoint or delivery")
    return found


def with_secret(added: tuple[Endpoint, SecretStr]) -> EndpointWithSecretOut:
    """The answer with the secret in it."""
    endpoint, secret = added
    shown = EndpointOut.model_validate(endpoint).model_dump()
    return EndpointWithSecretOut(**shown, secret=secret.get_secret_value())
