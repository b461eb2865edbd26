"""The Celery app without the tasks that run jobs: their time limits are long, these scenes are short."""

from app.core.celery_app import celery_app

celery_app.conf.include = ["app.core.celery_letters", "app.tasks.faulty", "app.tasks.invoice_email"]
