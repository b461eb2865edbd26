"""The Celery app without the tasks that run jobs: their time limits are long, these scenes are short."""

from app.core.celery_app import celery_app

TASKS = ("faulty", "invoice_email", "daily_digest")
celery_app.conf.include = ["app.core.celery_letters", *(f"app.tasks.{name}" for name in TASKS)]
