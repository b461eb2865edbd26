"""LLM jobs, as the tests see them, and as the process that plays their worker runs them."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import uuid
from typing import Any

from sqlalchemy import text

# They come back because of their leases.
LLM_SETTINGS = {"JOB_LEASE_SECONDS": "4", "JOB_POLL_SECONDS": "0.2", "JOB_FLUSH_SECONDS": "0.05"}
BATCH_SETTINGS = {**LLM_SETTINGS, "LLM_BATCH_WAIT_SECONDS": "0", "LLM_BATCH_POLL_SECONDS": "0.1"}
JOBS = "SELECT state, attempt, excused, runner FROM job WHERE id = CAST(:id AS uuid)"
BATCHES = """
    SELECT b.holder, b.provider_id FROM llm_batch AS b JOIN job ON job.runner = 'batch ' || b.id
    WHERE job.id = CAST(:id AS uuid)
"""
OWNER = "worker lab"
WORKERS = {"llm": "llm_jobs", "batch": "llm_jobs llm_batches"}
# The transaction of a job's attempt is known by a name that app.core.job_attempt gives it.
EFFECT = text(
    """
    INSERT INTO worker_lab_effect (message_id, process)
    SELECT split_part(name, ' ', 2), :process FROM current_setting('application_name') AS name
    WHERE starts_with(name, 'job ')
    RETURNING message_id
    """
)


def start(
    labs: Any, role: str, job: str, calls: str, prompt: str, *, payload: dict[str, Any] | None = None
) -> LlmLab:
    """The lab of an LLM job or, as the role says, of one that is asked in batches.

    It has a name, the service that gets the answer, the method that says what is asked, and a payload if none
    can be made up.
    """
    batch = role == "batch"
    model = labs.support("llm_batch_lab" if batch else "llm_lab").start(labs.support("http_lab").start)
    settings = {**(BATCH_SETTINGS if batch else LLM_SETTINGS), **model.environment, "LAB_ANSWER": model.text}
    lab = labs.lab("llm_kit", f"{role}_{job}", settings, role, job, calls, prompt)
    lab.on_release.append(model.release)
    lab.ending.callback(model.close)
    made = (BatchLab if batch else LlmLab)(lab, model, job)
    made.payload = made.payload if payload is None else payload
    return made


class LlmLab:
    """Workers that run one LLM job, and the `model` that they ask, in a lab."""

    def __init__(self, lab: Any, model: Any, job: str) -> None:
        self._lab, self.model, self.job = lab, model, job
        self.payload: dict[str, Any] = lab.desk.ask("describe_job", job)["payload"]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lab, name)

    def submit(self, ending: str = "commit") -> str:
        """Submit a job in a transaction that ends with commit or rollback; its id."""
        return str(self._lab.desk.ask("submit", self.job, ending, json.dumps(self.payload)))

    def cancel(self, job: str) -> None:
        """Cancel a job."""
        self._lab.desk.ask("cancel", job)

    def state(self, job: str) -> tuple[str, int, int]:
        """A job's state, how often it was begun, and how many of these do not count; nothing without it."""
        rows = self._lab.rows(JOBS, id=job)
        return (rows[0].state, rows[0].attempt, rows[0].excused) if rows else ("", 0, 0)

    def asking(self, job: str) -> Any:
        """The worker that has asked the model for `job`, once there is one."""
        self._lab.wait_for(lambda: self.model.calls_of(job), f"{job} asks the model")
        process = int(self._lab.rows(JOBS, id=job)[0].runner.split(":")[1])
        return next(replica for replica in self._lab.replicas if replica.process.pid == process)

    def wait_done(self, *jobs: str) -> None:
        """Wait until all jobs have succeeded."""
        states = {"succeeded"}
        self._lab.wait_for(lambda: {self.state(job)[0] for job in jobs} == states, "all have succeeded")


class BatchLab(LlmLab):
    """The same where the model is asked in batches."""

    def asking(self, job: str) -> Any:
        """The worker that has sent the batch of `job`, which the provider has, once there is one."""
        self._lab.wait_for(lambda: self.model.asked(job), f"{job} is in a batch")
        (batch,) = self.batches(job)
        process = int(batch.holder.split(":")[1])
        return next(replica for replica in self._lab.replicas if replica.process.pid == process)

    def waiting(self, job: str) -> None:
        """Return when it is on record that the provider has the batch of `job`."""
        self._lab.wait_for(lambda: any(batch.provider_id for batch in self.batches(job)), "it is on record")

    def batches(self, job: str) -> list[Any]:
        """The batch that a job is in, if it is in one."""
        return list(self._lab.rows(BATCHES, id=job))


# -- in the process ------------------------------------------------------------------------------------


def play(role: str, name: str, calls: str, prompt: str) -> int:
    """Run the worker of LLM jobs."""
    replica: Any = importlib.import_module("replica")
    replica.replace_service(calls, EFFECT, check)
    replace_prompt(calls, prompt)
    return int(replica.run(WORKERS[role]))


def check(call: inspect.BoundArguments) -> None:
    """The service is given what the model has answered. Raises RuntimeError when it is not."""
    if os.environ["LAB_ANSWER"] not in call.arguments.values():
        raise RuntimeError("the service was not given the model's answer")


def replace_prompt(calls: str, name: str) -> None:
    """Let the method that says what a model is asked need no data; the call must still fit its signature."""
    module_name, _, path = calls.partition(":")
    owner: Any = importlib.import_module(module_name)
    if "." in path:
        owner = getattr(owner, path.rpartition(".")[0])
    original = getattr(owner, name)

    async def prompt(*args: Any, **kwargs: Any) -> str:
        inspect.signature(original).bind(*args, **kwargs)
        return "A question"

    setattr(owner, name, prompt)


def describe_job(name: str) -> dict[str, Any]:
    """What the definition of a job says of its payload, and one that fits."""
    return dict(of("samples", "of")(of(f"app.llm.{name}", name).payload))


def of(module: str, name: str) -> Any:
    """Something of a module that only some projects have."""
    return getattr(importlib.import_module(module), name)


async def submit(name: str, ending: str, data: str) -> str:
    """Submit a job in a transaction that ends with commit or rollback; its id."""
    kind = of(f"app.llm.{name}", name)
    payload = kind.payload.model_validate_json(data)
    async with of("replica", "transaction")(ending) as session:
        job = await of("app.core.job", "submit")(session, kind, payload, owner=OWNER)
    return str(job.id)


async def cancel(job: str) -> None:
    """Cancel a job."""
    await of("app.core.job_manage", "cancel")(uuid.UUID(job), OWNER)
