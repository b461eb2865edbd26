"""The API of jobs: accepted once, shown to their owners only, cancelled, and clear about what is wrong."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import Depends, FastAPI, Header, HTTPException, Request, Response

from app.api.job_accept import LONGEST_WAIT, OptionalKey, RequiredKey, accept
from app.api.jobs import jobs_router
from app.api.worker_answers import Problem, answer_problem
from app.core import job_store
from app.core.database import get_session
from app.core.job import submit
from support.job_scene import FAULTY_KIND, JobScene, Work, scene_at
from support.servers import PostgresServer
from support.wait import eventually

LEASE = timedelta(seconds=30)
ENDED_WELL = """state = 'succeeded', result = '{"order_id": 1}', progress = 1, finished_at = now()"""


def current_owner(x_user: Annotated[str, Header()] = "") -> str:
    """The project's own authentication."""
    if not x_user:
        raise HTTPException(401, "who are you?")
    return x_user


Owner = Annotated[str, Depends(current_owner)]


def make_app() -> FastAPI:
    """A project with jobs, below a prefix."""
    app = FastAPI()
    app.add_exception_handler(Problem, answer_problem)
    app.include_router(jobs_router(current_owner), prefix="/api")

    @app.post("/work", status_code=202)
    async def work(body: Work, owner: Owner, key: RequiredKey, request: Request) -> Response:
        return await accept(request, FAULTY_KIND, body, owner=owner, key=key)

    @app.post("/unkeyed", status_code=202)
    async def unkeyed(body: Work, owner: Owner, key: OptionalKey, request: Request) -> Response:
        async with get_session() as session:
            return await accept(request, FAULTY_KIND, body, owner=owner, key=key, session=session)

    return app


@pytest.fixture
async def api(jobs: JobScene) -> AsyncIterator[httpx2.AsyncClient]:
    async with client_of() as client:
        yield client


def client_of() -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(make_app(), raise_app_exceptions=False)
    return httpx2.AsyncClient(transport=transport, base_url="http://shop", headers={"X-User": "ada"})


async def post(
    api: httpx2.AsyncClient, key: str | None = "key", path: str = "/work", **body: Any
) -> httpx2.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    return await api.post(path, json={"order_id": 1, **body}, headers=headers)


def problem(response: httpx2.Response) -> tuple[int, str]:
    """Status and detail of a problem document."""
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == response.status_code
    assert body.keys() == {"type", "title", "status", "detail", "instance"}
    return response.status_code, body["detail"]


# -- submitting ------------------------------------------------------------------------------------------


async def test_accepted_and_followed(api: httpx2.AsyncClient) -> None:
    response = await post(api)
    assert response.status_code == 202
    location = response.headers["location"]
    assert location == response.json()["url"] == f"/api/jobs/{response.json()['id']}"
    assert int(response.headers["retry-after"]) >= 1
    shown = await api.get(location)
    assert (shown.status_code, shown.json()["state"]) == (200, "queued")
    assert shown.json()["status"] == "queued"
    assert int(shown.headers["retry-after"]) >= 1


async def test_a_client_that_prefers_to_wait_gets_what_ends_in_time(
    api: httpx2.AsyncClient, jobs: JobScene
) -> None:
    body = {"order_id": 1}

    async def end() -> None:
        async def there() -> bool:
            return bool(await jobs.sql(f"UPDATE job SET {ENDED_WELL} RETURNING 1"))

        await eventually(there, 30)

    # When the job ends while the client waits
    ending = asyncio.ensure_future(end())
    waits = {"Idempotency-Key": "a", "Prefer": "respond-async, wait=60"}
    response = await api.post("/work", json=body, headers=waits)
    await ending
    # Then it gets the result
    assert (response.status_code, response.json()["result"]) == (200, {"order_id": 1})
    assert response.headers["preference-applied"] == f"wait={LONGEST_WAIT}"
    assert response.headers["content-location"] == f"/api/jobs/{response.json()['id']}"
    # And else, or when a transaction of the route's keeps the job from being started, the usual answer
    waits = {"Idempotency-Key": "b", "Prefer": "wait=1"}
    response = await api.post("/work", json=body, headers=waits)
    assert (response.status_code, response.json().get("state")) == (202, None)
    response = await api.post("/unkeyed", json=body, headers={"Prefer": "wait=60"})
    assert response.status_code == 202


async def test_the_place_in_the_queue_is_shown(api: httpx2.AsyncClient, jobs: JobScene) -> None:
    # Given jobs of which a later one is more urgent, one is not due yet, one is somebody else's
    ids = [await submit_one(priority) for priority in (0, 0, 5)]
    await submit_one(0, owner="bob")
    later = await submit_one(0, not_before=timedelta(hours=1))

    async def ahead(id_: uuid.UUID) -> int | None:
        found: int | None = (await api.get(f"/api/jobs/{id_}")).json()["ahead"]
        return found

    assert [await ahead(id_) for id_ in [*ids, later]] == [1, 2, 0, 3]
    await jobs.sql(f"UPDATE job SET {ENDED_WELL} WHERE id = $1", ids[2])
    assert [await ahead(id_) for id_ in [*ids, later]] == [0, 1, None, 2]


async def submit_one(priority: int, owner: str = "ada", **options: Any) -> uuid.UUID:
    async with get_session() as session:
        data = Work(order_id=1)
        return (await submit(session, FAULTY_KIND, data, owner=owner, priority=priority, **options)).id


async def test_a_repeat_gets_the_first_answer(api: httpx2.AsyncClient, jobs: JobScene) -> None:
    first = await post(api, '"a \\"key\\""')
    await jobs.sql("UPDATE job SET state = 'failed', error = 'x', finished_at = now()")
    again = await post(api, '"a \\"key\\""')
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers["location"] == first.headers["location"]
    other = await post(api, '"a \\"key\\""', order_id=2)
    assert problem(other)[0] == 422
    stranger = await api.post(
        "/work", json={"order_id": 1}, headers={"Idempotency-Key": '"a \\"key\\""', "X-User": "bob"}
    )
    assert stranger.json()["id"] != first.json()["id"]


async def test_a_missing_or_bad_key(api: httpx2.AsyncClient, jobs: JobScene) -> None:
    for key in (None, "", '""', "two words", '"open', "x" * 256, '"x', "ä"):
        headers: dict[bytes, bytes] = {} if key is None else {b"Idempotency-Key": key.encode()}
        response = await api.post("/work", json={"order_id": 1}, headers=headers)
        status, detail = problem(response)
        assert status == 400, key
        assert detail.startswith("Idempotency-Key: ")
    assert not await jobs.states()


async def test_a_key_in_use(api: httpx2.AsyncClient) -> None:
    async with get_session() as session:
        await submit(session, FAULTY_KIND, Work(order_id=1), owner="ada", idempotency_key="key")
        busy = await post(api)
        assert problem(busy)[0] == 409
        assert busy.headers["retry-after"] == "2"
    assert (await post(api)).status_code == 202


async def test_two_posts_at_once(api: httpx2.AsyncClient, jobs: JobScene) -> None:
    keyed = await asyncio.gather(*(post(api) for _ in range(10)))
    assert {response.status_code for response in keyed} <= {202, 409}
    assert len({response.json()["id"] for response in keyed if response.status_code == 202}) == 1
    unkeyed = await asyncio.gather(*(post(api, None, "/unkeyed") for _ in range(2)))
    assert len({response.json()["id"] for response in unkeyed}) == 2
    assert await jobs.states() == {"queued": 3}


async def test_what_is_wrong_with_the_body(api: httpx2.AsyncClient, jobs: JobScene) -> None:
    assert problem(await post(api, do="x" * 300_000))[0] == 413
    assert (await post(api, order_id="x")).status_code == 422
    assert (await post(api, do="a\x00b")).status_code == 422
    assert not await jobs.states()


async def test_a_database_that_is_away(own_postgres: PostgresServer, own_postgres_url: str) -> None:
    async with scene_at(own_postgres_url) as scene, client_of() as api:
        await scene.orders(1)
        first = await post(api)
        own_postgres.kill()
        for response in (await post(api, "other"), await api.get(first.headers["location"])):
            assert problem(response) == (503, "the database does not answer")
            assert int(response.headers["retry-after"]) >= 1
        own_postgres.start()
        assert (await api.get(first.headers["location"])).json()["state"] == "queued"
        assert await scene.states() == {"queued": 1}


# -- following -------------------------------------------------------------------------------------------


def test_the_routes_are_described() -> None:
    paths = make_app().openapi()["paths"]
    assert set(paths["/api/jobs/{job_id}"]) == {"get", "delete"}
    assert {"/api/jobs", "/api/jobs/{job_id}/cancel"} <= paths.keys()
    names = [parameter["name"] for parameter in paths["/work"]["post"]["parameters"]]
    assert "Idempotency-Key" in names


def test_no_routes_without_authentication() -> None:
    nobody: Any = None
    with pytest.raises(TypeError, match="jobs_router\\(current_owner\\)"):
        jobs_router(nobody)


@pytest.mark.parametrize("method", ["GET", "DELETE", "POST"])
async def test_jobs_of_others_are_not_there(api: httpx2.AsyncClient, method: str, jobs: JobScene) -> None:
    id_ = (await post(api)).json()["id"]
    end = "/cancel" if method == "POST" else ""
    answers = []
    for path in (id_, str(uuid.uuid4()), "17", "%00"):
        response = await api.request(method, f"/api/jobs/{path}{end}", headers={"X-User": "bob"})
        answers.append(problem(response))
    assert answers == [(404, "there is no such job")] * 4
    nobody = await api.request(method, f"/api/jobs/{id_}{end}", headers={"X-User": ""})
    assert nobody.status_code == 401
    assert await jobs.states() == {"queued": 1}


async def test_what_has_not_changed_is_not_sent_again(api: httpx2.AsyncClient, jobs: JobScene) -> None:
    location = (await post(api)).headers["location"]
    tag = (await api.get(location)).headers["etag"]
    for known in (tag, f'W/{tag}, "x"', "*"):
        response = await api.get(location, headers={"If-None-Match": known})
        assert (response.status_code, response.content) == (304, b"")
    await jobs.sql("UPDATE job SET progress = 0.5, note = 'half way'")
    changed = await api.get(location, headers={"If-None-Match": tag})
    assert (changed.status_code, changed.json()["progress"], changed.json()["note"]) == (200, 0.5, "half way")


async def test_the_result_and_no_retry_after(api: httpx2.AsyncClient, jobs: JobScene) -> None:
    location = (await post(api)).headers["location"]
    done = "state = 'succeeded', finished_at = now(), progress = 1"
    await jobs.sql(f"""UPDATE job SET {done}, result = '{{"reference": "r1"}}'""")
    response = await api.get(location)
    assert response.json()["result"] == {"reference": "r1"}
    assert "retry-after" not in response.headers
    assert "payload" not in response.json()


@pytest.mark.parametrize("by", ["DELETE", "POST"])
async def test_cancel(api: httpx2.AsyncClient, jobs: JobScene, by: str) -> None:
    waits, runs, done = [(await post(api, key)).headers["location"] for key in ("a", "b", "c")]
    assert await job_store.claim(uuid.UUID(runs[-36:]), "runner", LEASE) is not None
    await jobs.sql("UPDATE job SET state = 'succeeded', finished_at = now() WHERE idempotency_key = 'c'")

    async def cancel(location: str) -> httpx2.Response:
        return await api.request(by, location + ("/cancel" if by == "POST" else ""))

    for _ in range(2):  # a second time makes no difference
        response = await cancel(waits)
        assert (response.status_code, response.json()["state"]) == (200, "cancelled")
        response = await cancel(runs)
        assert (response.status_code, response.json()["state"]) == (202, "cancelling")
        assert problem(await cancel(done)) == (409, "the job has ended before: succeeded")
    assert (await api.get(runs)).json()["cancel_requested_at"] is not None


async def test_pages(api: httpx2.AsyncClient, jobs: JobScene) -> None:
    for n in range(5):
        await post(api, str(n))
    async with get_session() as session:  # one moment for all of them
        for _ in range(5):
            await submit(session, FAULTY_KIND, Work(order_id=1), owner="ada")
        await submit(session, FAULTY_KIND, Work(order_id=1), owner="bob")
    seen: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        query: dict[str, Any] = {"limit": 3} if cursor is None else {"limit": 3, "cursor": cursor}
        page = (await api.get("/api/jobs", params=query)).json()
        seen += page["jobs"]
        cursor = page["next"]
        if cursor is None:
            break
    assert len({job["id"] for job in seen}) == len(seen) == 10
    moments = [datetime.fromisoformat(job["created_at"]) for job in seen]
    assert moments == sorted(moments, reverse=True)
    await jobs.sql(
        "UPDATE job SET state = 'failed', finished_at = now() WHERE id = $1", uuid.UUID(seen[0]["id"])
    )
    failed = (await api.get("/api/jobs", params={"state": "failed"})).json()
    assert [job["id"] for job in failed["jobs"]] == [seen[0]["id"]]
    other = (await api.get("/api/jobs", params={"kind": "test.other.v1"})).json()
    assert other == {"jobs": [], "next": None}


async def test_a_cursor_of_somebodys_own_making(api: httpx2.AsyncClient) -> None:
    for cursor in ("x", "eA==", "ä", "MjAyNi0wMS0wMSB4", "MjAyNi0wMS0wMSAx"):
        assert problem(await api.get("/api/jobs", params={"cursor": cursor}))[0] == 422, cursor
