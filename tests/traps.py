"""The traps of background work in FastAPI projects, and what shows that nobody falls into them here.

A proof is one of

- `tests/faults/test_outbox.py::test_name`: a test that fails on the wrong form;
- `OUT01`: a rule of check_workers.py, which finds the wrong form in somebody's code. Its wrong and its right
  programs are run by tests/check.

`left` says what cannot be shown here, and why.
"""

from dataclasses import dataclass

DIE = "tests/conformance/test_workers_die.py::test_"
IDLE = "tests/conformance/test_idle.py::test_"
POSTGRES = "tests/conformance/test_postgres_breaks.py::test_"
PROVIDERS = "tests/conformance/test_providers_break.py::test_"
INPUT = "tests/conformance/test_bad_input.py::test_"
REDIS = "tests/faults/test_redis_breaks.py::test_"
OUTBOX = "tests/faults/test_outbox.py::test_"
STREAM = "tests/faults/test_stream_housekeeping.py::test_"
PROCESS = "tests/faults/test_process.py::test_"
REQUEST = "tests/faults/test_api_to_worker.py::test_"
SESSIONS = "tests/faults/test_sessions.py::test_"
RESPONSE = "tests/faults/test_after_response.py::test_"
IN_API = "tests/core/test_inside_the_api.py::test_"
COMMIT = "tests/shop/test_shop_commit.py::test_"
RABBIT = "tests/faults/test_rabbit_breaks.py::test_"
QUEUES = "tests/faults/test_rabbit_queues.py::test_"
RABBIT_OUTBOX = "tests/faults/test_rabbit_outbox.py::test_"
GENERATIONS = "tests/faults/test_rabbit_generations.py::test_"
IN_ORDER = "tests/faults/test_in_order.py::test_"
CRON = "tests/core/test_cron.py::test_"
CRON_JOB = "tests/core/test_cron_job.py::test_"
CRON_PLAN = "tests/core/test_cron_plan.py::test_"
CRON_STORES = "tests/core/test_cron_stores.py::test_"
CRON_DIE = "tests/faults/test_cron_schedulers_die.py::test_"
CRON_FENCE = "tests/faults/test_cron_fence.py::test_"
CRON_POLICIES = "tests/faults/test_cron_policies.py::test_"
CRON_POSTGRES = "tests/faults/test_cron_postgres_breaks.py::test_"
CRON_MANAGE = "tests/faults/test_cron_manage.py::test_"
CELERY_BROKERS = "tests/faults/test_celery_brokers.py::test_"
CELERY_DELAYS = "tests/faults/test_celery_delays.py::test_"
CELERY_MESSAGES = "tests/faults/test_celery_messages.py::test_"
CELERY_POOLS = "tests/faults/test_celery_pools.py::test_"
CELERY_SENDING = "tests/faults/test_celery_sending.py::test_"
CELERY_WORKERS = "tests/faults/test_celery_workers.py::test_"
CELERY_LOOP = "tests/core/test_celery_loop.py::test_"
CELERY_PROCESS = "tests/core/test_celery_process.py::test_"
CELERY_SETTINGS = "tests/core/test_celery_settings.py::test_"
CELERY_TASK = "tests/core/test_celery_task.py::test_"
DEADLINE = "tests/core/test_deadline.py::test_"
ENVELOPE = "tests/core/test_envelope.py::test_"
FAILURES = "tests/core/test_failures.py::test_"
RETRY = "tests/core/test_retry.py::test_"
JOB = "tests/core/test_job.py::test_"
JOB_ROWS = "tests/jobs/test_job_rows.py::test_"
JOB_DISPATCHER = "tests/jobs/test_job_dispatcher.py::test_"
JOBS_API = "tests/jobs/test_jobs_api.py::test_"
JOBS_CELERY = "tests/jobs/test_jobs_celery.py::test_"
LLM_BATCH_FAULTS = "tests/jobs/test_llm_batch_faults.py::test_"
LLM_EVENTS = "tests/jobs/test_llm_events.py::test_"
LLM_FAULTS = "tests/jobs/test_llm_faults.py::test_"
LLM_HTTP = "tests/core/test_llm_http.py::test_"
LLM_LIMITS = "tests/jobs/test_llm_limits.py::test_"
LLM_WORKER = "tests/jobs/test_llm_worker.py::test_"
STREAMS_OPEN = "tests/jobs/test_open_streams.py::test_"
SIGN = "tests/core/test_webhook_sign.py::test_"
TARGET = "tests/core/test_webhook_target.py::test_"
WEBHOOKS = "tests/jobs/test_webhooks.py::test_"
WEBHOOK_IN = "tests/jobs/test_webhook_in.py::test_"
PROOFS = "tests/docs/test_proofs.py::test_"
LANDED = "tests/scripts/test_landed_tests.py::test_"
ADDED = "tests/scripts/test_added_files.py::test_"
DATABASES = "tests/harness/test_postgres_databases.py::test_"
THESE = "tests/docs/test_traps.py::test_"


@dataclass(frozen=True)
class Trap:
    """A trap, and its proofs."""

    group: str
    trap: str
    proofs: tuple[str, ...]
    left: str = ""


TRAPS = (
    # -- cron --------------------------------------------------------------------------------------------
    Trap(
        "cron",
        "each process of an API has a scheduler, and each of them runs every job",
        (
            "CRON01",
            f"{CRON_DIE}any_number_of_schedulers_run_each_tick_once",
            f"{CRON_MANAGE}an_api_with_four_workers_and_a_scheduler_make_one_run_of_each_tick",
        ),
    ),
    Trap(
        "cron",
        "a run that is a second late, or meets the one before it, is skipped in silence",
        (
            "CRON02",
            f"{PROOFS}apscheduler_drops_what_is_a_second_late",
            f"{CRON_POLICIES}ticks_that_are_found_late_are_no_overlap",
            f"{CRON_POLICIES}overlap_skip",
            f"{CRON_POSTGRES}restarted_at_the_tick",
        ),
    ),
    Trap(
        "cron",
        "a crash in the middle of a run loses it, and nobody makes up what an outage has missed",
        (
            f"{CRON_DIE}what_a_killed_scheduler_ran_is_finished_by_another",
            f"{CRON_DIE}both_are_killed",
            f"{CRON_POLICIES}down_for_ten_minutes",
        ),
    ),
    Trap(
        "cron",
        "the scheduler's shutdown cancels the runs that it was told to wait for",
        (
            "CRON03",
            f"{CRON_STORES}shutdown_waits_for_nothing",
            f"{CRON_DIE}sigterm_lets_a_quick_run_finish",
            f"{CRON_DIE}sigterm_hands_over_what_takes_too_long",
        ),
    ),
    Trap(
        "cron",
        "a field of a schedule means another day, or every minute, than in crontab",
        (
            "CRON04",
            "CRON05",
            f"{CRON}apscheduler_counts_weekdays_from_monday",
            f"{CRON}examples",
        ),
    ),
    Trap(
        "cron",
        "a nightly job runs twice, late or in the host's zone when clocks change",
        (
            "CRON06",
            f"{CRON}apscheduler_runs_a_nightly_job_twice_in_autumn",
            f"{CRON}fixed_times_run_once_a_date",
            f"{CRON_PLAN}a_nightly_job_runs_once_in_both_nights",
        ),
    ),
    Trap(
        "cron",
        "a renamed function takes its schedule along",
        (
            f"{CRON_STORES}a_store_deletes_the_schedule_of_a_renamed_function",
            f"{CRON_POLICIES}a_job_that_was_renamed_while_it_ran",
            f"{CRON_JOB}all_modules_of_the_folder_are_jobs",
        ),
    ),
    Trap(
        "cron",
        "each start of the scheduler stores one more copy of a job, or fails",
        (
            "CRON08",
            f"{CRON_STORES}a_store_has_one_more_job_after_each_start",
            f"{CRON_DIE}starting_again_and_again_does_not_push_an_interval_back",
        ),
    ),
    Trap(
        "cron",
        "a job store speaks to the database synchronously, inside of the event loop",
        ("CRON09", f"{CRON_POSTGRES}silent"),
    ),
    # -- Celery ------------------------------------------------------------------------------------------
    Trap(
        "celery",
        "a task that is acknowledged before it runs is lost with its process",
        (
            "CEL01",
            f"{CELERY_SETTINGS}the_app_takes_json_only_and_acknowledges_late",
            f"{CELERY_WORKERS}children_workers_and_a_whole_machine_are_killed",
        ),
    ),
    Trap(
        "celery",
        "a task that kills its process is counted as failed at once, or comes back for ever",
        (
            "CEL02",
            "CEL03",
            f"{CELERY_WORKERS}poison_hangs_and_bugs_are_set_aside_and_the_worker_stays_well",
            f"{CELERY_WORKERS}memory_runs_out",
            f"{JOBS_CELERY}machines_die",
        ),
    ),
    Trap(
        "celery",
        "not acknowledging time limits is a loop without end, not acknowledging failures drops them",
        (
            "CEL04",
            f"{CELERY_WORKERS}poison_hangs_and_bugs_are_set_aside_and_the_worker_stays_well",
            f"{CELERY_TASK}a_task_that_comes_back_at_once_counts_its_starts_and_has_a_queue_that_exists",
        ),
    ),
    Trap(
        "celery",
        "Redis gives a task that still runs or waits to a second worker",
        (
            "CEL05",
            f"{CELERY_SETTINGS}a_setting_that_would_run_a_task_twice_is_refused",
            f"{CELERY_SETTINGS}a_long_pause_fits_into_the_visibility_timeout",
            f"{CELERY_TASK}a_pause_longer_than_the_broker_may_hold_it_is_kept_all_the_same",
            f"{CELERY_WORKERS}children_workers_and_a_whole_machine_are_killed",
        ),
    ),
    Trap(
        "celery",
        "RabbitMQ takes a message back from a worker that holds it for longer than half an hour",
        (
            f"{CELERY_SETTINGS}a_setting_that_would_run_a_task_twice_is_refused",
            f"{QUEUES}a_handler_longer_than_the_brokers_patience_is_refused",
        ),
        left="RabbitMQ 4.3 asks each queue for its own timeout: no server of that version to run",
    ),
    Trap(
        "celery",
        "SIGTERM waits for a task without bound; the soft shutdown is never begun",
        (
            "CEL06",
            f"{CELERY_POOLS}a_worker_that_would_do_harm_does_not_start",
            f"{CELERY_WORKERS}a_stop_finishes_quick_tasks_and_hands_back_the_rest",
            f"{CELERY_WORKERS}a_stop_that_hangs_ends",
        ),
    ),
    Trap(
        "celery",
        "sending to a frozen RabbitMQ succeeds, sending to a frozen Redis never ends",
        (
            "CEL07",
            "CEL08",
            f"{CELERY_SETTINGS}no_wait_for_the_broker_is_without_bound",
            f"{CELERY_BROKERS}sending_to_a_silent_broker_ends_soon_and_blocks_nobody",
        ),
    ),
    Trap(
        "celery",
        "sending from a coroutine stops the event loop for all requests",
        ("CEL09", f"{CELERY_BROKERS}sending_to_a_silent_broker_ends_soon_and_blocks_nobody"),
    ),
    Trap(
        "celery",
        "bugs are retried, retries have no end, all come at once, or one is swallowed",
        (
            "CEL10",
            "CEL11",
            "CEL12",
            "CEL13",
            "CEL17",
            f"{CELERY_WORKERS}poison_hangs_and_bugs_are_set_aside_and_the_worker_stays_well",
            f"{CELERY_MESSAGES}retries_wait_as_long_as_they_are_told_and_no_longer",
            f"{CELERY_MESSAGES}two_copies_at_once_are_done_once",
            f"{CELERY_TASK}only_a_failure_uses_up_an_attempt",
        ),
    ),
    Trap(
        "celery",
        "the result backend says PENDING of ids that nobody knows, and tasks that wait for tasks deadlock",
        (
            "CEL15",
            "CEL16",
            f"{JOBS_API}jobs_of_others_are_not_there",
            f"{JOBS_API}accepted_and_followed",
            f"{JOB_DISPATCHER}a_broker_that_is_away",
        ),
    ),
    Trap(
        "celery",
        "a task that is due later keeps a worker's place on a quorum queue",
        (
            f"{CELERY_DELAYS}what_is_due_in_an_hour_holds_up_nothing",
            f"{CELERY_SETTINGS}queues_on_rabbitmq_can_be_delayed_by_the_broker",
        ),
    ),
    Trap(
        "celery",
        "a worker throws away tasks and arguments of a newer version",
        (f"{CELERY_MESSAGES}what_nobody_understands_is_kept_and_can_be_sent_again",),
    ),
    Trap(
        "celery",
        "an argument cannot be sent, or arrives as something else",
        (
            "CEL19",
            f"{CELERY_PROCESS}celery_sends_no_such_argument",
            f"{CELERY_PROCESS}a_payload_arrives_as_it_was",
            f"{CELERY_TASK}other_arguments_are_none_of_ours",
            f"{JOB}json_that_can_be_stored",
        ),
    ),
    Trap(
        "celery",
        "a worker hoards short tasks behind its long one",
        ("CEL24", f"{CELERY_WORKERS}a_worker_holds_no_more_than_it_works_on"),
    ),
    Trap(
        "celery",
        "two beats send every tick twice, and a tick that could not be sent is forgotten",
        (
            "CEL20",
            f"{CELERY_SENDING}mail_by_outbox_by_two_beats_and_after_a_commit",
            f"{CRON_POLICIES}a_tick_that_enqueues_sends_once",
        ),
    ),
    Trap(
        "celery",
        "time limits hold in prefork only, and there are as many processes as the host has processors",
        (
            f"{CELERY_LOOP}without_signals_the_limit_holds_too",
            f"{CELERY_LOOP}a_blocked_loop_ends_the_process",
            f"{CELERY_PROCESS}the_number_of_processes_is_not_that_of_the_machines_processors",
        ),
    ),
    Trap(
        "celery",
        "two applications share the queues of one Redis, or it evicts them",
        (
            f"{CELERY_SENDING}applications_with_prefixes_of_their_own_may_share_a_redis",
            f"{JOBS_CELERY}a_lost_message",
            f"{CELERY_BROKERS}redis_is_restarted_paused_and_comes_back_empty",
        ),
    ),
    Trap(
        "celery",
        "the worker itself ends when Redis goes away with tasks in its hands",
        (
            f"{CELERY_BROKERS}redis_is_restarted_paused_and_comes_back_empty",
            f"{JOBS_CELERY}redis_comes_back_empty",
        ),
    ),
    # -- sessions in workers -----------------------------------------------------------------------------
    Trap(
        "sessions",
        "Celery calls an async def task and nobody awaits it",
        ("CEL14", f"{CELERY_POOLS}a_worker_that_would_do_harm_does_not_start"),
    ),
    Trap(
        "sessions",
        "one async engine is used from several event loops or processes",
        (
            "ASY01",
            f"{CELERY_POOLS}thousands_of_tasks_with_a_database",
            f"{CELERY_LOOP}a_child_gets_a_loop_of_its_own",
            f"{CELERY_LOOP}all_calls_share_one_loop_and_keep_the_context_of_their_caller",
        ),
    ),
    Trap(
        "sessions",
        "the soft time limit is never raised inside of a coroutine",
        (
            "CEL23",
            f"{CELERY_LOOP}a_soft_time_limit_cancels_the_coroutine_and_waits_for_its_clean_up",
        ),
    ),
    Trap(
        "sessions",
        "one session is used by several tasks at once",
        ("ASY05", "ASY08", f"{SESSIONS}each_message_has_a_session_of_its_own"),
    ),
    Trap(
        "sessions",
        "a connection is held during slow work outside of the database, until there is none left",
        (
            "LLM05",
            f"{LLM_WORKER}hundreds_are_asked_at_once_and_hold_no_connection",
            f"{CRON_POSTGRES}runs_that_use_up_the_pool_keep_their_leases",
            f"{OUTBOX}a_paused_relay_holds_nothing_for_good",
            f"{FAILURES}outcomes",
        ),
    ),
    Trap(
        "sessions",
        "what was loaded is gone after the commit, and the session is of no use after an error",
        (
            "ASY06",
            f"{SESSIONS}what_was_loaded_is_there_after_the_commit",
            f"{SESSIONS}a_repeat_leaves_the_transaction_usable",
        ),
    ),
    # -- RabbitMQ ----------------------------------------------------------------------------------------
    Trap(
        "rabbitmq",
        "process() throws a message away on an error, and on a cancellation",
        (
            "RMQ01",
            f"{DIE}sigterm_hands_back_what_takes_too_long",
            f"{INPUT}bad_messages_are_set_aside",
        ),
    ),
    Trap(
        "rabbitmq",
        "a message goes back to its queue at once, over and over, and nobody counts",
        (
            "RMQ02",
            f"{DIE}a_message_that_kills_its_worker_is_set_aside",
            f"{QUEUES}a_classic_queue_counts_too",
            f"{QUEUES}a_delivery_limit_never_without_dead_letters",
            f"{GENERATIONS}every_way_back_into_a_quorum_queue_counts",
            f"{GENERATIONS}without_a_limit_of_its_own_a_queue_of_4_drops_at_the_21st_return",
        ),
        left="RabbitMQ 4.3 counts no nack: no server of that version to run",
    ),
    Trap(
        "rabbitmq",
        "without prefetch the whole queue comes at once",
        ("RMQ03", f"{QUEUES}a_worker_holds_no_more_than_its_prefetch"),
    ),
    Trap(
        "rabbitmq",
        "an exception in the callback leaves the message unsettled, until no other comes",
        (
            "RMQ04",
            f"{DIE}retries_hold_up_nobody_and_survive_a_crash",
            f"{INPUT}bad_messages_are_set_aside",
        ),
    ),
    Trap(
        "rabbitmq",
        "a message that goes nowhere counts as published, and one that was is not on disk",
        (
            "RMQ06",
            "RMQ07",
            f"{PROOFS}aio_pika_takes_what_goes_nowhere_for_a_success",
            f"{RABBIT_OUTBOX}a_message_without_a_queue_waits_for_one",
            f"{RABBIT_OUTBOX}order_per_key_is_that_of_the_commits",
            f"{RABBIT_OUTBOX}published_directly",
        ),
    ),
    Trap(
        "rabbitmq",
        "a queue exists with other arguments, and the worker does not consume",
        (
            "RMQ10",
            "RMQ11",
            f"{QUEUES}another_queue_under_this_name_is_refused_in_one_line",
            f"{QUEUES}declaring_twice_changes_nothing",
        ),
    ),
    Trap(
        "rabbitmq",
        "an acknowledgement on a channel that is gone: the work is done again",
        (
            f"{RABBIT}restarted_again_and_again_under_load",
            f"{RABBIT}the_channel_is_closed_over_a_mistake",
            f"{RABBIT}connections_closed_by_an_operator",
        ),
    ),
    Trap(
        "rabbitmq",
        "a robust connection neither waits for the first connect nor says that its consumer is gone",
        (
            "RMQ08",
            f"{RABBIT}killed_in_the_middle_of_a_backlog",
            f"{RABBIT}the_queue_is_deleted_under_the_worker",
            f"{RABBIT}stopped_while_idle",
        ),
    ),
    # -- Redis Streams -----------------------------------------------------------------------------------
    Trap(
        "redis streams",
        "a blocking read waits for longer than its socket does",
        (
            "RST05",
            f"{PROCESS}why_block_needs_a_timeout_of_its_own",
            f"{IDLE}idle_workers_keep_their_connections",
            f"{PROOFS}defaults_of_redis_py_are_what_the_documents_say",
        ),
    ),
    Trap(
        "redis streams",
        "the client repeats a command by itself: two entries from one XADD, entries that nobody has read",
        ("RST06", f"{REDIS}one_xadd_is_one_entry", f"{REDIS}replies_are_lost"),
    ),
    Trap(
        "redis streams",
        "nobody takes over what a dead consumer has read, or it is deleted together with the consumer",
        (
            "RST02",
            "RST07",
            f"{DIE}twenty_kills_over_two_thousand_messages",
            "tests/faults/test_stream_leases.py::test_a_handler_at_work_keeps_its_entry",
            f"{STREAM}dead_consumers_go_when_they_hold_nothing",
        ),
    ),
    Trap(
        "redis streams",
        "a group skips what was there before it, and is not made again when it is gone",
        (
            "RST04",
            f"{STREAM}a_group_starts_with_what_is_there",
            f"{REDIS}restarted_empty_is_repaired",
            f"{REDIS}the_stream_is_deleted_under_the_worker",
        ),
    ),
    Trap(
        "redis streams",
        "trimming deletes what nobody has read; not trimming fills the memory",
        (
            "RST03",
            f"{STREAM}maxlen_would_have_lost_them",
            f"{STREAM}trimming_keeps_what_is_unread_or_unacknowledged",
            f"{STREAM}a_deleted_entry_leaves_the_pending_list",
        ),
    ),
    Trap(
        "redis streams",
        "an entry that kills its consumer is claimed for ever",
        (
            f"{DIE}a_message_that_kills_its_worker_is_set_aside",
            f"{STREAM}the_count_survives_parking",
        ),
    ),
    Trap(
        "redis streams",
        "answers have another shape by another protocol, and old servers lack new commands",
        (
            f"{PROCESS}the_urls_options_do_not_undo_ours",
            "tests/harness/test_matrix.py::test_each_brokers_tests_run_on_its_generations",
        ),
        left="commands of Redis 8.2 and later: nothing here uses them",
    ),
    # -- consumers ---------------------------------------------------------------------------------------
    Trap(
        "consumers",
        "acknowledged before the commit, or called outside under a new key each time",
        (
            "CON01",
            "CON06",
            f"{POSTGRES}connection_lost_between_execute_and_commit",
            f"{POSTGRES}commit_done_and_answer_lost",
            f"{PROVIDERS}503_is_retried_with_the_same_key",
        ),
    ),
    Trap(
        "consumers",
        "the look whether a message was done before is no constraint",
        (
            "CON05",
            "CON07",
            f"{DIE}the_same_message_twice_at_once",
            f"{PROVIDERS}one_message_delivered_twice_at_once_makes_one_call",
        ),
    ),
    Trap(
        "consumers",
        "hopeless errors are retried, passing ones given up, and retries have neither pause nor end",
        (
            "CON02",
            "CON03",
            "CON04",
            "CON08",
            f"{FAILURES}outcomes",
            f"{PROVIDERS}400_is_not_retried",
            f"{PROVIDERS}a_provider_that_stays_away_ends_in_a_dead_letter",
            f"{RETRY}the_pause_is_within_its_bound",
        ),
    ),
    Trap(
        "consumers",
        "a task that nothing holds is collected, or fails unheard",
        (
            "ASY04",
            f"{DEADLINE}a_loop_that_fails_ends_the_others_even_if_they_swallow_a_cancellation",
            f"{CELERY_SENDING}a_broker_that_is_away_harms_nobody",
        ),
    ),
    Trap(
        "consumers",
        "a cancellation is swallowed, or leaves the siblings of a failed task running",
        (
            "ASY07",
            f"{DEADLINE}work_that_swallows_its_cancellation_is_cancelled_again",
            f"{DEADLINE}a_loop_that_fails_ends_the_others_even_if_they_swallow_a_cancellation",
            f"{DEADLINE}a_watch_takes_its_cancellations_back",
        ),
    ),
    Trap(
        "consumers",
        "the loop is over and the process lives on",
        (
            f"{PROCESS}a_worker_that_ends_ends_the_process",
            f"{PROCESS}ending_early_is_an_error",
            f"{CRON_MANAGE}an_api_whose_scheduler_fails_ends",
        ),
    ),
    Trap(
        "consumers",
        "a lock in Redis ends before the work does, and both owners write",
        (
            "RST09",
            f"{DIE}a_paused_worker_changes_nothing_when_it_comes_back",
            f"{STREAM}a_late_owner_changes_nothing",
            f"{JOBS_CELERY}a_late_finisher_is_fenced",
            f"{CRON_FENCE}a_late_attempt_is_rolled_back",
            f"{IN_ORDER}a_frozen_worker_is_replaced_and_breaks_no_order",
        ),
    ),
    # -- outbox ------------------------------------------------------------------------------------------
    Trap(
        "outbox",
        "sent before the commit and rolled back, or committed and never sent",
        (
            "OUT01",
            "OUT06",
            f"{OUTBOX}commit_sends_and_rollback_does_not",
            f"{OUTBOX}relays_are_killed_while_they_send",
            f"{CELERY_SENDING}what_is_committed_is_sent_and_nothing_else",
        ),
    ),
    Trap(
        "outbox",
        "a relay that goes by the last id passes over a row that commits late",
        ("OUT02", f"{OUTBOX}a_late_commit_is_not_skipped"),
    ),
    Trap(
        "outbox",
        "two relays send the same rows, and a crash sends them again",
        (
            "OUT03",
            f"{OUTBOX}two_relays_send_each_row_once",
            f"{OUTBOX}a_relay_is_cut_off_between_sending_and_noting",
            f"{OUTBOX}order_per_key_is_that_of_the_commits",
        ),
    ),
    Trap(
        "outbox",
        "one bad row holds up the rest, sent rows pile up, a lost notification is waited for",
        (
            f"{OUTBOX}a_row_that_redis_refuses_holds_up_nobody",
            f"{OUTBOX}old_rows_go_and_unsent_ones_stay",
            f"{OUTBOX}a_lost_notification_costs_a_poll",
        ),
    ),
    Trap(
        "outbox",
        "an advisory lock of the session goes back to the pool with its connection",
        (
            "OUT04",
            "tests/faults/test_relay_locks.py::test_a_relay_at_rest_holds_no_lock",
            f"{OUTBOX}a_paused_relay_holds_nothing_for_good",
        ),
    ),
    Trap(
        "outbox",
        "two workers claim one row, and a repeated request does the work twice",
        (
            f"{JOB_ROWS}one_of_eight_claimers_gets_it",
            f"{JOB_ROWS}fifty_at_once_with_one_key",
            f"{JOBS_API}a_repeat_gets_the_first_answer",
            f"{JOBS_API}a_key_in_use",
        ),
    ),
    # -- language models ---------------------------------------------------------------------------------
    Trap(
        "llm",
        "each layer retries, so that one call becomes many paid ones, of ten minutes each",
        (
            "LLM01",
            "LLM02",
            f"{LLM_HTTP}errors_are_told_apart_and_nothing_is_tried_twice",
            f"{LLM_HTTP}a_provider_that_hangs_or_is_not_there",
            f"{JOB_ROWS}an_attempt_that_takes_too_long",
        ),
    ),
    Trap(
        "llm",
        "a wait that the provider asks for is slept in the worker's slot",
        (
            f"{LLM_WORKER}what_is_busy_costs_no_attempt_and_no_slot",
            f"{LLM_HTTP}errors_are_told_apart_and_nothing_is_tried_twice",
        ),
    ),
    Trap(
        "llm",
        "the SDKs are on httpx2: objects and exceptions of httpx do not fit, mocks of it see no call",
        (
            "LLM03",
            f"{LLM_HTTP}an_answer",
            f"{LLM_HTTP}a_provider_that_hangs_or_is_not_there",
        ),
    ),
    Trap(
        "llm",
        "arguments that the SDK no longer takes, and long answers that it will not give unstreamed",
        ("LLM04", f"{LLM_HTTP}an_answer"),
    ),
    Trap(
        "llm",
        "an answer that was paid for is not stored, and is paid for again",
        (
            f"{LLM_WORKER}an_answer_that_was_paid_for_is_not_paid_for_again",
            f"{LLM_FAULTS}the_database_is_restarted_in_mid_stream",
            f"{LLM_BATCH_FAULTS}workers_are_killed_when_the_provider_has_the_batch",
        ),
        left="a crash between the last byte and the record: no provider knows an attempt again by its key",
    ),
    Trap(
        "llm",
        "a job runs for ever, or a worker that was given up writes its result",
        (
            f"{LLM_FAULTS}workers_are_killed_frozen_and_stopped_in_the_middle_of_streams",
            f"{JOB_ROWS}a_lapsed_lease_is_taken_over_and_fenced",
            f"{LLM_WORKER}what_a_job_says_is_written_in_its_order_and_fenced",
            f"{JOB_ROWS}a_job_that_nobody_started_expires",
        ),
    ),
    Trap(
        "llm",
        "a status route shows the jobs of others, and a cancelled job goes on asking",
        (
            f"{JOBS_API}jobs_of_others_are_not_there",
            f"{JOBS_API}accepted_and_followed",
            f"{JOBS_API}what_has_not_changed_is_not_sent_again",
            f"{LLM_WORKER}cancelling_drops_the_call",
        ),
    ),
    Trap(
        "llm",
        "each process has a quota of its own, and prompts travel through the broker",
        (
            f"{LLM_LIMITS}workers_keep_a_quota_together_and_a_cap_holds_jobs",
            f"{LLM_LIMITS}tokens_are_booked_by_estimate_and_settled_with_what_was_used",
            f"{LLM_WORKER}owners_take_turns_and_limits_hold_for_all_workers",
            f"{CELERY_PROCESS}the_message_of_a_job_is_its_id",
        ),
    ),
    # -- webhooks ----------------------------------------------------------------------------------------
    Trap(
        "webhooks",
        "a signature is checked over JSON that was written again, or a body without a type is refused before",
        (
            "WHK01",
            "WHK02",
            f"{WEBHOOK_IN}what_is_signed_is_stored_once",
            f"{WEBHOOK_IN}what_is_not_signed_is_refused",
            f"{WEBHOOK_IN}the_body_is_bounded",
        ),
    ),
    Trap(
        "webhooks",
        "a webhook that comes again is done again, or worked on before it is answered",
        (
            f"{WEBHOOK_IN}what_is_signed_is_stored_once",
            f"{WEBHOOK_IN}what_was_not_stored_can_be_sent_again",
            f"{LANDED}those_of_a_receiver_of_webhooks_fail_when_it_stores_them_again",
        ),
    ),
    Trap(
        "webhooks",
        "a garbled signature is an error 500, and a time of another zone is signed wrongly",
        (
            "WHK04",
            f"{WEBHOOK_IN}whatever_the_headers_say_it_is_no_error_of_ours",
            f"{SIGN}whatever_a_header_says_it_is_no_other_error",
            f"{SIGN}the_time_is_that_of_its_zone",
            f"{SIGN}two_keys_while_one_replaces_the_other",
        ),
    ),
    Trap(
        "webhooks",
        "the receiver chooses an address inside, redirects to one, or is asked for ever",
        (
            "WHK03",
            f"{TARGET}addresses_that_are_not_public",
            f"{TARGET}the_connection_goes_to_the_address_that_was_checked",
            f"{TARGET}redirects_are_answers",
            f"{TARGET}what_a_receiver_answers_is_bounded",
            f"{WEBHOOKS}a_private_address_is_not_sent_to",
            f"{WEBHOOKS}an_endpoint_that_fails_for_long_is_disabled_with_a_notice",
            f"{WEBHOOKS}each_event_is_delivered_signed_and_under_one_id",
        ),
    ),
    # -- server-sent events ------------------------------------------------------------------------------
    Trap(
        "sse",
        "one open stream holds up the shutdown of its server for ever",
        (
            f"{STREAMS_OPEN}without_a_bound_one_reader_holds_up_a_shutdown",
            f"{LLM_EVENTS}many_readers_hold_no_connection_and_no_memory",
        ),
    ),
    Trap(
        "sse",
        "a stream keeps its database connection until it ends",
        ("API07", f"{LLM_EVENTS}many_readers_hold_no_connection_and_no_memory"),
    ),
    Trap(
        "sse",
        "text breaks the framing, and who comes back misses events or has some twice",
        (
            f"{STREAMS_OPEN}text_comes_as_it_was",
            f"{LLM_EVENTS}a_job_is_submitted_followed_and_its_usage_shown",
            f"{LLM_EVENTS}clients_go_on_when_an_api_and_a_worker_are_killed",
        ),
    ),
    # -- FastAPI -----------------------------------------------------------------------------------------
    Trap(
        "fastapi",
        "the code behind a dependency's yield commits when the response has been sent",
        (
            "API01",
            f"{COMMIT}commit_that_fails_is_never_answered_with_success",
            f"{COMMIT}default_scope_would_have_answered_with_success",
            f"{COMMIT}row_is_there_when_the_response_starts",
            f"{REQUEST}a_202_whose_commit_fails_is_never_sent",
        ),
    ),
    Trap(
        "fastapi",
        "background tasks are lost with their process, behind one that fails, and behind a yield",
        (
            "API02",
            "API03",
            "API06",
            f"{IN_API}plain_tasks_are_lost_behind_one_that_fails_and_behind_a_yield",
            f"{RESPONSE}after_the_commit_and_before_the_end",
            f"{RESPONSE}a_server_that_cannot_wait_says_what_it_loses",
            f"{REQUEST}broker_away_at_the_request",
        ),
    ),
    Trap(
        "fastapi",
        "plain background tasks and plain routes share forty threads",
        (f"{IN_API}plain_tasks_take_the_threads_of_plain_routes",),
    ),
    Trap(
        "fastapi",
        "start-up code beside a lifespan, or in a client that is not entered, never runs",
        ("API04", f"{IN_API}only_the_lifespan_is_run_and_only_when_it_is_entered"),
    ),
    Trap(
        "fastapi",
        "a consumer lives inside of the API's process, once in each, and dies unnoticed",
        (
            "API05",
            f"{CRON_MANAGE}an_api_with_four_workers_and_a_scheduler_make_one_run_of_each_tick",
            f"{CRON_MANAGE}an_api_that_is_stopped_lets_a_run_finish",
            f"{CRON_MANAGE}an_api_whose_scheduler_fails_ends",
        ),
    ),
    # -- processes ---------------------------------------------------------------------------------------
    Trap(
        "processes",
        "a shell in front of the worker keeps the SIGTERM",
        ("LIF02", f"{PROOFS}a_shell_in_front_keeps_the_signal"),
    ),
    Trap(
        "processes",
        "the times of a stop do not add up to less than the platform's",
        (
            "LIF01",
            f"{DIE}sigterm_lets_quick_work_finish",
            f"{DIE}sigterm_hands_back_what_takes_too_long",
            f"{PROCESS}a_second_signal_does_not_wait",
            f"{CELERY_WORKERS}rolling_restarts_under_load",
            f"{ADDED}what_platform_and_other_programs_have_to_know",
        ),
    ),
    Trap(
        "processes",
        "a probe is green while nothing is consumed, or restarts all workers in an outage",
        (
            "LIF04",
            "LIF05",
            "LIF06",
            f"{PROCESS}probes",
            f"{PROCESS}a_blocked_loop_is_not_alive",
            f"{PROCESS}late_leases_are_a_problem",
        ),
    ),
    Trap(
        "processes",
        "a worker that is started before its servers ends, and one in the background is watched by nobody",
        (
            "LIF07",
            f"{PROCESS}started_before_its_servers",
            f"{RABBIT}killed_in_the_middle_of_a_backlog",
        ),
    ),
    # -- observability -----------------------------------------------------------------------------------
    Trap(
        "observability",
        "telemetry that is started before the fork says nothing of the children",
        (f"{THESE}templates_start_no_telemetry",),
        left="the templates start none: it is the project's to choose",
    ),
    Trap(
        "observability",
        "an instrumentation does nothing with this version, or replaces the framework's own",
        (f"{THESE}templates_start_no_telemetry",),
        left="the templates instrument nothing: which package fits is a matter of the project's versions",
    ),
    Trap(
        "observability",
        "Celery throws away the project's log handlers, a trace ends at the broker, logs tell secrets",
        (
            "SEC03",
            "SEC04",
            f"{CELERY_PROCESS}the_projects_log_handlers_stay",
            f"{SESSIONS}a_trace_goes_on_from_the_request_to_the_last_message",
            f"{PROCESS}passwords_are_not_logged",
            f"{ENVELOPE}reasons_hold_no_values",
        ),
    ),
    Trap(
        "observability",
        "the alarms look at what is easy to count, not at what is late",
        (
            f"{PROCESS}probes",
            f"{PROOFS}the_outbox_can_be_looked_at_and_sent_again",
            f"{PROOFS}the_runs_of_cron_jobs_can_be_looked_at",
            f"{REDIS}half_open_connection",
        ),
    ),
    # -- security ----------------------------------------------------------------------------------------
    Trap(
        "security",
        "whoever may write to the broker runs code in the workers",
        (
            "SEC01",
            f"{CELERY_SETTINGS}the_app_takes_json_only_and_acknowledges_late",
            f"{CELERY_MESSAGES}what_nobody_understands_is_kept_and_can_be_sent_again",
        ),
    ),
    Trap(
        "security",
        "brokers and consoles are open to everybody",
        (
            "SEC02",
            "SEC06",
            f"{CRON_MANAGE}no_router_without_authorisation",
            f"{JOBS_API}no_routes_without_authentication",
        ),
        left="who reaches a server is a matter of the deployment",
    ),
    Trap(
        "security",
        "the worker does the work without asking for whom",
        (
            f"{JOBS_API}jobs_of_others_are_not_there",
            f"{LLM_WORKER}cancelling_drops_the_call",
            f"{INPUT}bad_messages_are_set_aside",
            f"{CRON_MANAGE}every_route_asks_for_authorisation",
        ),
        left="tenants: the handler is the project's, which knows what a tenant is",
    ),
    # -- testing -----------------------------------------------------------------------------------------
    Trap(
        "testing",
        "tasks that run where they are called prove nothing about delivery",
        ("CEL22", f"{LANDED}those_of_celery_tasks_fail_when_a_joint_is_broken"),
    ),
    Trap(
        "testing",
        "a test that is rolled back never sees in which order things commit",
        (
            f"{LANDED}they_fail_when_a_joint_is_broken",
            f"{DATABASES}what_one_test_leaves_behind_the_next_one_does_not_see",
        ),
    ),
    Trap(
        "testing",
        "workers in threads and fakes of servers hide forks, timeouts and the brokers' rules",
        (
            f"{LANDED}they_pass_with_servers_of_their_own",
            f"{LANDED}those_of_celery_tasks_pass_with_servers_of_their_own",
            "tests/harness/test_forked.py::test_it_is_what_a_fresh_interpreter_is",
        ),
    ),
    Trap(
        "testing",
        "the tests know the servers of one generation only",
        (
            "tests/harness/test_matrix.py::test_each_brokers_tests_run_on_its_generations",
            f"{GENERATIONS}the_server_is_of_the_generation_that_was_asked_for",
        ),
    ),
    Trap(
        "testing",
        "faults are played by sleeping",
        (
            f"{THESE}nothing_sleeps_where_it_could_wait_for_a_condition",
            "tests/harness/test_wait.py::test_a_passed_deadline_says_what_was_awaited_and_seen",
            "tests/harness/test_proxy_servers.py::test_commit_was_executed_but_the_answer_got_lost",
            "tests/harness/test_workers.py::test_kill9_takes_the_children_along",
        ),
    ),
)
