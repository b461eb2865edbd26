"""The sample shop with jobs, their events, webhooks, and a page. In a project app/main.py says this.

With examples/summaries, examples/shop and templates/ on PYTHONPATH, each in a process of its own:

    python -m uvicorn app.with_summaries:app --timeout-graceful-shutdown 5
    python -m app.workers.run llm_jobs

Then open /page. `tests/jobs/test_summaries_page.py` does so with a browser.
"""

from __future__ import annotations

from app.api import summaries
from app.api.job_events import job_events_router
from app.api.jobs import jobs_router
from app.api.summaries import current_user
from app.api.webhooks import webhooks_router
from app.api.worker_answers import Problem, answer_problem
from app.main import app

app.add_exception_handler(Problem, answer_problem)
app.include_router(summaries.router)
app.include_router(jobs_router(current_user))
app.include_router(job_events_router(current_user))
app.include_router(webhooks_router(current_user))
