"""The Celery app's settings: what they make of the app, and which of them are refused."""

from collections.abc import Callable

import pytest
from pydantic import SecretStr, ValidationError

from app.core import celery_app
from app.core import celery_settings as module
from app.core.celery_app import COUNTED, build
from app.core.celery_settings import CelerySettings
from app.core.job_settings import job_settings
from app.core.llm_settings import llm_settings
from app.core.outcomes import RefusedToStartError
from app.core.webhook_settings import webhook_settings
from app.core.worker_settings import WorkerSettings
from app.tasks import jobs

REDIS, RABBIT = "redis://127.0.0.1/1", "amqp://127.0.0.1//"


def settings(url: str = REDIS, **values: float | str) -> CelerySettings:
    return CelerySettings(celery_broker_url=SecretStr(url), **values)  # type: ignore[arg-type]


@pytest.mark.parametrize("url", [REDIS, RABBIT])
def test_the_defaults_fit_together(url: str) -> None:
    assert settings(url).contradictions(WorkerSettings()) == []


@pytest.mark.parametrize(
    ("url", "values", "limit", "line"),
    [
        (REDIS, {"celery_soft_time_limit_seconds": 60}, 0, "CELERY_SOFT_TIME_LIMIT_SECONDS=60"),
        (REDIS, {"celery_time_limit_seconds": 75}, 0, "CELERY_TIME_LIMIT_SECONDS=75"),
        (REDIS, {"celery_visibility_timeout_seconds": 90}, 0, "CELERY_VISIBILITY_TIMEOUT_SECONDS=90"),
        (REDIS, {}, 3600, "CELERY_VISIBILITY_TIMEOUT_SECONDS=300"),
        (RABBIT, {}, 1800, "RABBITMQ_CONSUMER_TIMEOUT_SECONDS=1800"),
    ],
)
def test_a_setting_that_would_run_a_task_twice_is_refused(
    url: str, values: dict[str, float], limit: float, line: str
) -> None:
    (found,) = settings(url, **values).contradictions(WorkerSettings(), limit)
    assert found.startswith(line)
    assert "\n" not in found


def test_a_long_pause_fits_into_the_visibility_timeout() -> None:
    chosen = settings()
    hard = chosen.celery_time_limit_seconds
    assert chosen.longest_countdown + 2 * hard <= chosen.celery_visibility_timeout_seconds
    assert chosen.longest_countdown <= chosen.celery_visibility_timeout_seconds / 2


@pytest.mark.parametrize("url", ["sqs://", "memory://", "filesystem://"])
def test_other_brokers_are_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="is needed"):
        settings(url)


def test_a_misspelt_setting_is_refused_and_celerys_own_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERY_VISIBILITY_TIMEOUT", "60")
    monkeypatch.setenv("CELERY_LOG_LEVEL", "20")
    (line,) = module.refusals()
    assert "did you mean CELERY_VISIBILITY_TIMEOUT_SECONDS?" in line


@pytest.mark.parametrize(
    ("read", "name", "meant", "others"),
    [
        (job_settings.__wrapped__, "JOB_LEASE", "JOB_LEASE_SECONDS", "JOB_COMPLETION_INDEX"),
        (llm_settings.__wrapped__, "LLM_API_KEYS", "LLM_API_KEY", "LLM_TEMPERATURE"),
        (webhook_settings.__wrapped__, "WEBHOOK_TIMEOUT_SECOND", "WEBHOOK_TIMEOUT_SECONDS", "WEBHOOK_SECRET"),
    ],
)
def test_misspelt_settings_of_further_workers_are_refused(
    read: Callable[[], object], name: str, meant: str, others: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(others, "1")
    read()
    monkeypatch.setenv(name, "7")
    with pytest.raises(RefusedToStartError) as refused:
        read()
    head, line = str(refused.value).splitlines()
    assert (head, line.partition("=")[0]) == ("settings refused:", name)
    assert line.endswith(f"unknown setting, did you mean {meant}?")


@pytest.mark.parametrize("url", [REDIS, RABBIT])
def test_the_app_takes_json_only_and_acknowledges_late(url: str) -> None:
    conf = build(settings(url)).conf
    assert conf.accept_content == ["json"]
    assert conf.task_acks_late
    assert conf.task_reject_on_worker_lost
    assert conf.task_retry_on_worker_lost
    assert conf.worker_prefetch_multiplier == 1
    assert conf.task_ignore_result
    # A task that comes back at once has to count its starts, or it would come back for ever.
    assert COUNTED["retry_on_worker_lost"] is False


def test_no_wait_for_the_broker_is_without_bound() -> None:
    chosen = settings(celery_publish_timeout_seconds=3)
    redis, rabbit = build(chosen).conf, build(settings(RABBIT, celery_publish_timeout_seconds=3)).conf
    assert redis.broker_transport_options["socket_timeout"] == 3
    assert redis.broker_transport_options["socket_connect_timeout"] == 3
    assert rabbit.broker_transport_options["confirm_publish"] is True
    assert rabbit.broker_transport_options["read_timeout"] == 3
    assert redis.broker_pool_acquire_timeout == 3
    assert redis.task_publish_retry_policy["max_retries"] == 1


def test_queues_on_rabbitmq_can_be_delayed_by_the_broker() -> None:
    app = build(settings(RABBIT, celery_queues="quick,slow"))
    assert app.conf.task_default_queue == "quick"
    for queue in app.amqp.queues.values():
        assert queue.exchange.type == "topic"
        arguments = queue.queue_arguments or {}
        assert arguments["x-queue-type"] == "quorum"
        assert arguments["x-delivery-limit"] > 1000
    assert set(app.amqp.queues) == {"quick", "slow"}


def test_jobs_may_take_longer_than_a_message_stays_hidden(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given jobs of ten minutes, a Redis, and nothing set; a message that comes again starts no job twice
    monkeypatch.setenv("REMAP_SIGTERM", "SIGQUIT")
    monkeypatch.setattr(jobs, "longest", lambda: 600.0)
    celery_app.check_worker()
    # When it is the limit of a task that a second message would start again
    monkeypatch.setattr(jobs.JobTask, "starts_once", False)
    with pytest.raises(SystemExit):
        celery_app.check_worker()
    assert "CELERY_VISIBILITY_TIMEOUT_SECONDS=300: at least 1222 is needed" in capsys.readouterr().err
