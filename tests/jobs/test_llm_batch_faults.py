"""Workers die and freeze while their provider has a batch: nothing is asked twice, nothing is lost."""

import uuid
from typing import Any

from app.core.database import get_session
from app.core.job import submit
from app.llm.summarise_overnight import SummariseOvernight, summarise_overnight
from app.services.documents import DocumentService
from support.batch_scene import BatchScene
from support.job_scene import OWNER
from support.llm_scene import LlmScene
from support.wait import eventually, stays
from support.workers import WorkerProcess


async def worker(scene: BatchScene, **env: str) -> WorkerProcess:
    """A process with both workers, ready."""
    settings = {"LLM_WIRE": scene.wire, "LLM_BATCH_WAIT_SECONDS": "0", "LLM_BATCH_POLL_SECONDS": "0.2"}
    given = {**scene.model.environment, **settings, **env}
    return await scene.jobs.worker("llm_jobs llm_batches", **given).until_ready()


async def submit_many(scene: BatchScene, count: int) -> list[uuid.UUID]:
    """Submit a job about each of so many new documents, in one transaction."""
    ids = []
    async with get_session() as session:
        for _ in range(count):
            document = await DocumentService(session).create("A title", "A body.")
            data = SummariseOvernight(document_id=document.id)
            ids.append((await submit(session, summarise_overnight, data, owner=OWNER)).id)
            scene.jobs.accepted.append(document.id)
    return ids


async def ledger(scene: BatchScene, name: str) -> None:
    """The account of documents and their summaries."""
    llm: Any = scene.model  # has the text that is looked for
    (await LlmScene(scene.jobs, llm).ledger(name)).assert_clean()


async def test_workers_are_killed_when_the_provider_has_the_batch(scene: BatchScene) -> None:
    # Given a worker that is killed when its batch is accepted, and before it knows
    scene.model.hold()
    scene.model.hold_answers()
    ids = await submit_many(scene, 5)
    first = await worker(scene)
    await eventually(lambda: scene.model.batches, 60, "the batch is accepted")
    assert (await scene.batches())[0]["provider_id"] is None
    first.kill9()
    scene.model.release()
    scene.model.hold()
    # When the next one finds it, or what may be it, and is killed while it waits for its end
    second = await worker(scene)
    words = {"anthropic": "note LIKE '%may be the batch%'", "openai": "provider_id IS NOT NULL"}

    async def waits() -> bool:
        rows = await scene.jobs.sql(f"SELECT 1 FROM llm_batch WHERE {words[scene.wire]}")
        return bool(rows)

    await eventually(waits, 60)
    second.kill9()
    scene.model.release()
    # Then the third one has the answers of the one batch
    third = await worker(scene)
    await scene.jobs.until_state("succeeded", 5, 60)
    assert third.sigterm() == 0
    assert {scene.asked(id_) for id_ in ids} == {1}
    assert len(scene.model.batches) == 1
    (batch,) = await scene.batches()
    assert batch["provider_id"] == scene.model.batches[0].id
    await ledger(scene, f"llm batch: killed around its acceptance, {scene.wire}")


async def test_a_worker_that_freezes_in_the_middle_of_results_is_replaced(anthropic: BatchScene) -> None:
    # Given a worker that has read a part of the results
    anthropic.model.hold_results()
    ids = await submit_many(anthropic, 150)
    frozen = await worker(anthropic)
    await anthropic.jobs.until_state("succeeded", 50, 60)
    # When it freezes, and another one reads all of them
    frozen.pause()
    anthropic.model.release()
    other = await worker(anthropic)
    await anthropic.jobs.until_state("succeeded", 150, 90)

    async def ended() -> bool:
        return (await anthropic.batches())[0]["ended_at"] is not None

    await eventually(ended, 60)
    # Then what it does when it goes on changes nothing
    frozen.resume()
    await stays(lambda: frozen.running, 1)
    assert frozen.sigterm() == 0
    assert other.sigterm() == 0
    assert {anthropic.asked(id_) for id_ in ids} == {1}
    assert (await anthropic.batches())[0]["output_tokens"] == 4 * 150
    await ledger(anthropic, "llm batch: frozen in the middle of results")
