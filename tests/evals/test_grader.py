"""The grader, proven: what add_worker.py makes of a ticket passes, what is usually written does not."""

from http import HTTPStatus
from pathlib import Path

import pytest

from evals.grade import Grading, grade
from evals.scenarios.asking import followed, state_at, unknown
from evals.solutions import edit, solve
from evals.stage import staged
from evals.tasks import EXPORTS, SUMMARIES, TASKS

MAIL = 3
JOBS = {6: "succeeded", 9: "done"}
# Faults pass sooner so; what is right does not depend on it.
QUICK = "WORKER_LEASE_SECONDS=4\nWORKER_HEARTBEAT_SECONDS=1\nWORKER_RETRY_BASE_SECONDS=0.5\n"


def found(grading: Grading) -> dict[str, bool]:
    return {finding.text: finding.passed for finding in grading.findings}


@pytest.mark.services
async def test_a_solution_by_the_script_passes(tmp_path: Path) -> None:
    project = solve(MAIL, tmp_path / "bookings")
    (project / ".env").write_text(QUICK)

    grading = await grade(TASKS[MAIL], project, rabbit=False, pace=0.1)

    assert grading.passed, "\n".join([*grading.lines(), grading.logs])
    assert len(grading.ledgers) == 3
    assert all("lost=0 duplicated=0" in ledger for ledger in grading.ledgers)


@pytest.mark.services
@pytest.mark.parametrize("number", JOBS)
async def test_a_solution_shows_the_status_that_the_ticket_asks_for(number: int, tmp_path: Path) -> None:
    project = solve(number, tmp_path / "library")
    work = {6: SUMMARIES, 9: EXPORTS}[number]

    async with staged(project) as stage, stage.client() as client:
        answer = await work.submit(client, 1)
        place = answer.headers["Location"]

        assert answer.status_code == HTTPStatus.ACCEPTED
        assert await followed(stage, client, [place]) == [JOBS[number]], stage.deployment.logs()
        assert await state_at(client, unknown(place)) == "HTTP 404"


@pytest.mark.services
async def test_background_tasks_fail(tmp_path: Path) -> None:
    # Given the route as it is most often mended
    project = TASKS[MAIL].lay_out(tmp_path / "bookings")
    edit(
        project / "app" / "api" / "bookings.py",
        ("import APIRouter, Depends", "import APIRouter, BackgroundTasks, Depends"),
        (
            "async def confirm(booking_id: int, session: Session)",
            "async def confirm(booking_id: int, session: Session, later: BackgroundTasks)",
        ),
        ("    await service.send_confirmation(booking_id)", "    later.add_task(send_later, booking_id)"),
        (
            "from app.core.database import db\n",
            "from app.core.database import db, get_session\n",
        ),
        (
            '@router.post("/{booking_id}/confirm")\n',
            (
                "async def send_later(booking_id: int) -> None:\n"
                "    async with get_session() as session:\n"
                "        await BookingService(session).send_confirmation(booking_id)\n\n\n"
                '@router.post("/{booking_id}/confirm")\n'
            ),
        ),
    )

    grading = await grade(TASKS[MAIL], project, patience=5, rabbit=False, pace=0.1)

    # Then it is found to be quick, and to lose mail when it dies; whether it has mail in hand when a server
    # goes away is a matter of luck
    told = found(grading)
    assert set(told) == set(TASKS[MAIL].expectations)
    sure = {text: told[text] for text in TASKS[MAIL].expectations[:4]}
    assert sure == {
        "the request does not wait for the provider": True,
        "nothing that was accepted is lost": False,
        "nothing is done twice": True,
        "workers end with exit code 0 within 30 s of SIGTERM": False,
    }, "\n".join([*grading.lines(), grading.logs])


async def test_a_project_that_does_not_run_meets_no_expectation(tmp_path: Path) -> None:
    # Given a Procfile that is none
    project = TASKS[1].lay_out(tmp_path / "bookings")
    (project / "Procfile").write_text("run the thing\n")

    grading = await grade(TASKS[1], project)

    assert set(found(grading)) == set(TASKS[1].expectations)
    assert not any(found(grading).values())
    assert "Procfile, line 1" in grading.findings[0].evidence
