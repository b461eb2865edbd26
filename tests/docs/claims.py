"""What proves which statement of the documents.

A statement is named by words of it, which must stand in the document. A proof is one of

- `faults/test_outbox.py::test_name`: a test, below tests/ (or `templates/tests/...`, those that land);
- `app/core/outbox.py: some code`: a place in the templates, for what the code says by itself;
- `version fastapi 0.121: ...`: a version of somebody else's work, and who says so.
"""

Claims = dict[str, tuple[str, ...]]

DIE = "conformance/test_workers_die.py::test_"
REDIS = "faults/test_redis_breaks.py::test_"
POSTGRES = "conformance/test_postgres_breaks.py::test_"
PROVIDERS = "conformance/test_providers_break.py::test_"
OUTBOX = "faults/test_outbox.py::test_"
STREAM = "faults/test_stream_housekeeping.py::test_"
INPUT = "conformance/test_bad_input.py::test_"
PROCESS = "faults/test_process.py::test_"
PUBLISHER = "faults/test_publisher.py::test_"
API = "faults/test_api_to_worker.py::test_"
FAILURES = "core/test_failures.py::test_"
PROOFS = "docs/test_proofs.py::test_"
RABBIT = "faults/test_rabbit_breaks.py::test_"
QUEUES = "faults/test_rabbit_queues.py::test_"
RABBIT_OUTBOX = "faults/test_rabbit_outbox.py::test_"
GENERATIONS = "faults/test_rabbit_generations.py::test_"
PATTERNS = "faults/test_rabbit_patterns.py::test_"
BATCH = "faults/test_batch.py::test_"
IN_ORDER = "faults/test_in_order.py::test_"
LETTERS = "faults/test_dead_letters.py::test_"
CRON_DIE = "faults/test_cron_schedulers_die.py::test_"
CRON_POLICIES = "faults/test_cron_policies.py::test_"
CRON_POSTGRES = "faults/test_cron_postgres_breaks.py::test_"
CRON_MANAGE = "faults/test_cron_manage.py::test_"
CELERY_BROKERS = "faults/test_celery_brokers.py::test_"
CELERY_MESSAGES = "faults/test_celery_messages.py::test_"
CELERY_POOLS = "faults/test_celery_pools.py::test_"
CELERY_WORKERS = "faults/test_celery_workers.py::test_"
CELERY_SENDING = "faults/test_celery_sending.py::test_"
CELERY_SETTINGS = "core/test_celery_settings.py::test_"
CELERY_LOOP = "core/test_celery_loop.py::test_"
JOB_ROWS = "jobs/test_job_rows.py::test_"
JOB_DISPATCHER = "jobs/test_job_dispatcher.py::test_"
JOBS_CELERY = "jobs/test_jobs_celery.py::test_"
JOBS_QUEUES = "jobs/test_jobs_queues.py::test_"
JOB_FAULTS = "jobs/test_job_faults.py::test_"
JOB_FLOW = "jobs/test_job_flow.py::test_"
JOBS_API = "jobs/test_jobs_api.py::test_"
LLM_FAULTS = "jobs/test_llm_faults.py::test_"
LLM_EVENTS = "jobs/test_llm_events.py::test_"
LLM_WORKER = "jobs/test_llm_worker.py::test_"
LLM_LIMITS = "jobs/test_llm_limits.py::test_"
LLM_HTTP = "core/test_llm_http.py::test_"
LLM_USAGE = "core/test_llm_usage.py::test_"
LLM_BATCHES = "jobs/test_llm_batches.py::test_"
LLM_BATCH_FAULTS = "jobs/test_llm_batch_faults.py::test_"
LLM_BATCH_HTTP = "core/test_llm_batch_http.py::test_"
WEBHOOKS = "jobs/test_webhooks.py::test_"
WEBHOOK_IN = "jobs/test_webhook_in.py::test_"
LLM_SCRIPT = "scripts/test_llm_jobs.py::test_"
TASK_SCRIPT = "scripts/test_celery_tasks.py::test_"
SHAPES = "scripts/test_shapes.py::test_"
EDITS = "scripts/test_edits.py::test_"
REFUSALS = "scripts/test_refusals.py::test_"
EVALS = "evals/test_grader.py::test_"

SKILL: Claims = {
    # laws
    "A worker calls a service": ("app/consumers/order_paid.py: await OrderService(session).mark_paid(",),
    "are one transaction; acknowledge after its commit": (
        f"{POSTGRES}connection_lost_between_execute_and_commit",
        f"{POSTGRES}commit_done_and_answer_lost",
    ),
    "the same on each attempt; a fresh uuid pays twice": (f"{PROVIDERS}503_is_retried_with_the_same_key",),
    "`Retry-After` obeyed. An outage costs no attempt": (
        f"{PROVIDERS}429_is_obeyed",
        f"{POSTGRES}away_for_a_minute",
    ),
    "Deliveries are counted before the handler runs": (
        f"{DIE}a_message_that_kills_its_worker_is_set_aside",
        f"{INPUT}bad_messages_are_set_aside",
    ),
    "taken over when its worker is dead, never because it is slow": (
        f"{DIE}a_slow_handler_is_not_taken_over",
        f"{STREAM}a_late_owner_changes_nothing",
    ),
    "SIGTERM: stop taking, drain, hand back the rest, exit 0": (
        f"{DIE}sigterm_lets_quick_work_finish",
        f"{DIE}sigterm_hands_back_what_takes_too_long",
    ),
    "Readiness is red while nothing is consumed": (f"{PROCESS}probes", f"{REDIS}half_open_connection"),
    "an unknown version becomes a dead letter": (f"{INPUT}bad_messages_are_set_aside",),
    "Secrets are `SecretStr` and never logged": (f"{PROCESS}passwords_are_not_logged",),
    # gotchas
    "sent but rolled back, or committed but unsent": (
        f"{OUTBOX}commit_sends_and_rollback_does_not",
        "version celery 5.7: celery/app/base.py, send_task publishes before it returns",
    ),
    "gone at the next deploy, `running` for ever": (f"{EVALS}background_tasks_fail",),
    "every process runs it, a crash forgets it": (
        f"{CRON_DIE}any_number_of_schedulers_run_each_tick_once",
        f"{CRON_DIE}what_a_killed_scheduler_ran_is_finished_by_another",
        "version apscheduler 3.11: its FAQ on sharing a job store, _process_jobs in schedulers/base.py",
    ),
    "what is behind a bad message waits | raise, return `Retry`": (
        f"{DIE}retries_hold_up_nobody_and_survive_a_crash",
        f"{POSTGRES}a_lock_that_is_held_does_not_block_the_slots",
    ),
    "what kills its worker kills for ever, an outage fails good work": (
        f"{DIE}a_message_that_kills_its_worker_is_set_aside",
        f"{POSTGRES}away_for_a_minute",
    ),
    "a limit below the longest work | never done | `--timeout`, `WORKER_HANDLER_TIMEOUT_SECONDS`": (
        f"{DIE}a_hanging_handler_is_stopped",
    ),
    # the rest
    "Done when `alembic check` is clean": (
        "scripts/test_worker_migrations.py::test_tables_are_as_the_models_say_and_can_be_removed",
    ),
    "relays may repeat": (f"{OUTBOX}relays_are_killed_while_they_send",),
    "exit code 3 names what lacks": (f"{REFUSALS}project_without_a_base_of_the_models",),
}

QUEUE: Claims = {
    # the first table
    "rolled back: nothing is sent; crashed after the commit: it is sent later": (
        f"{OUTBOX}commit_sends_and_rollback_does_not",
        f"{OUTBOX}relays_are_killed_while_they_send",
    ),
    "sending follows the order of the commits": (f"{OUTBOX}order_per_key_is_that_of_the_commits",),
    "the inbox knows source and id": (
        f"{OUTBOX}one_event_enqueued_twice_is_done_once",
        f"{INPUT}two_producers_may_use_the_same_id",
    ),
    "repeat a failed call with the same `message_id`": (
        f"{PUBLISHER}an_uncertain_message_sent_again_is_done_once",
    ),
    "unknown versions are dead letters": (f"{INPUT}bad_messages_are_set_aside",),
    "no reply in time means nothing is known": (
        f"{PATTERNS}no_server_at_all",
        f"{PATTERNS}killed_between_commit_and_reply",
    ),
    # the second table
    "choose it for | several teams or services": (f"{PATTERNS}a_pattern_takes_what_it_says",),
    "confirmed means | on disk, in a queue": (
        f"{RABBIT}killed_in_the_middle_of_a_backlog",
        f"{OUTBOX}a_redis_that_lost_its_last_moments",
    ),
    'rows wait in the outbox (`refused`: "waiting")': (
        f"{RABBIT_OUTBOX}a_message_without_a_queue_waits_for_one",
    ),
    "comes back empty | the relay sends the kept rows again": (
        f"{RABBIT_OUTBOX}a_broker_that_comes_back_empty",
        f"{OUTBOX}redis_restarted_empty_loses_nothing",
    ),
    # enqueue
    "needs neither broker nor relay": (f"{API}broker_away_at_the_request",),
    "a failing commit follows a 202 that was already sent": (f"{API}a_202_whose_commit_fails_is_never_sent",),
    "that is a circular import": (f"{PROOFS}a_service_that_imports_its_consumer_is_a_circle",),
    # keys, order, types
    "PostgreSQL ends one with a deadlock (40P01)": (f"{PROOFS}two_keys_in_two_orders_are_a_deadlock",),
    "Order ends at the queue": (
        f"{IN_ORDER}the_plain_consumer_does_not_keep_order",
        f"{IN_ORDER}partitions_from_the_outbox_keep_the_order_of_each_key",
    ),
    "The type is `<name>.v<number>`": ("app/core/envelope.py: def topic_of(type_: str)",),
    "source and id together identify a message": (
        f"{INPUT}two_producers_may_use_the_same_id",
        f"{PROOFS}ids_are_known_by_their_source_too",
    ),
    # relay
    "a lane has one sender at a time; a dead relay holds nothing": (
        f"{OUTBOX}two_relays_send_each_row_once",
        f"{OUTBOX}a_paused_relay_holds_nothing_for_good",
    ),
    "costs one poll": (
        f"{OUTBOX}a_notification_wakes_the_relay",
        f"{OUTBOX}a_lost_notification_costs_a_poll",
    ),
    "A killed relay may send a batch twice": (f"{OUTBOX}relays_are_killed_while_they_send",),
    "RabbitMQ short of memory or disk, Redis full (`noeviction`)": (
        f"{RABBIT_OUTBOX}the_broker_is_away_and_short_of_memory",
        f"{OUTBOX}redis_out_of_memory_costs_no_row",
    ),
    "gets the reason in `refused` and holds up nobody": (
        f"{OUTBOX}a_row_that_redis_refuses_holds_up_nobody",
    ),
    # what there is in RabbitMQ
    "topic exchange: publishers send here": (f"{RABBIT_OUTBOX}order_per_key_is_that_of_the_commits",),
    "bound to its topic or a pattern": (f"{PATTERNS}a_pattern_takes_what_it_says",),
    "its dead letters, through the exchange `events.dead`": (
        f"{QUEUES}the_binding_of_the_dead_letters_fits",
    ),
    "retries wait here and go back to their queue": (
        f"{QUEUES}a_pause_brings_its_message_back",
        f"{DIE}retries_hold_up_nobody_and_survive_a_crash",
    ),
    "empty; when it is gone, RabbitMQ was emptied": (f"{RABBIT_OUTBOX}a_broker_that_comes_back_empty",),
    "When a queue exists with other arguments, the worker ends with 78": (
        f"{QUEUES}another_queue_under_this_name_is_refused_in_one_line",
        f"{PATTERNS}each_subscriber_gets_each_message",
    ),
    "are refused with exit code 78": (f"{INPUT}settings_that_make_no_sense_are_refused",),
    # problems
    "accepted and never sent": (f"{API}a_202_whose_commit_fails_is_never_sent",),
    "the outbox grows": (f"{OUTBOX}redis_away_costs_no_row",),
    "refused rows": (f"{PROOFS}the_outbox_can_be_looked_at_and_sent_again",),
    "a queue or stream was deleted": (f"{PROOFS}the_outbox_can_be_looked_at_and_sent_again",),
    # operate
    "a second relay is for availability": (f"{OUTBOX}relays_are_killed_while_they_send",),
    "SIGTERM finishes the batch and exits 0": (f"{OUTBOX}sigterm_ends_a_relay_in_order",),
    "`add_worker.py upgrade`: newer templates; commit `workers.lock`": (
        "scripts/test_upgrade.py::test_upgrade",
        "scripts/test_upgrade.py::test_without_git_each_difference_of_an_edited_copy_is_a_conflict",
    ),
    "RabbitMQ 3.10 or newer": (f"{GENERATIONS}the_server_is_of_the_generation_that_was_asked_for",),
    "no cluster mode (the client is a plain one)": (
        "app/core/redis_stream.py: Redis.from_pool(ConnectionPool(",
    ),
    "Watch: `oldest`, refused rows": (f"{PROOFS}the_outbox_can_be_looked_at_and_sent_again",),
    # changes
    "8: 5 s, which ends a longer `BLOCK` with TimeoutError": (
        f"{PROCESS}why_block_needs_a_timeout_of_its_own",
    ),
    "4: quorum queues drop after 20 without a dead-letter exchange": (
        f"{GENERATIONS}without_a_limit_of_its_own_a_queue_of_4_drops_at_the_21st_return",
        f"{GENERATIONS}a_quorum_queue_refuses_global_qos",
    ),
    "still a success, unless the channel has `on_return_raises=True`": (
        f"{PROOFS}aio_pika_takes_what_goes_nowhere_for_a_success",
    ),
    "repeats any command 10 times, one `xadd` makes two entries": (
        f"{PROOFS}defaults_of_redis_py_are_what_the_documents_say",
        f"{REDIS}one_xadd_is_one_entry",
    ),
    '`scope="function"` since 0.121': (
        f"{API}a_202_whose_commit_fails_is_never_sent",
        "version fastapi 0.121: release notes",
    ),
    "2.1: psycopg 3, so name the driver": ("version sqlalchemy 2.1: its migration guide",),
}

CONSUMERS: Claims = {
    # the first table
    "effect and inbox row commit, then acknowledged": (f"{POSTGRES}commit_done_and_answer_lost",),
    "parked with full jitter; dead letter after the last attempt": (
        f"{PROVIDERS}a_provider_that_stays_away_ends_in_a_dead_letter",
        f"{DIE}a_hanging_handler_is_stopped",
        "core/test_retry.py::test_the_pause_is_within_its_bound",
    ),
    "`Postpone(reason, after)`, no free database connection": (
        f"{FAILURES}outcomes",
        f"{POSTGRES}a_lock_that_is_held_does_not_block_the_slots",
    ),
    "consuming pauses, probes, goes on with one message first": (f"{POSTGRES}away_for_a_minute",),
    "rolled back, moved to the dead letters": (f"{INPUT}bad_messages_are_set_aside",),
    "delivered again: at once by RabbitMQ, in Redis when its lease is over": (
        f"{DIE}twenty_kills_over_two_thousand_messages",
    ),
    "finished, or handed back after the drain time": (f"{DIE}sigterm_hands_back_what_takes_too_long",),
    # the file
    "A new group starts at the oldest entry": (f"{STREAM}a_group_starts_with_what_is_there",),
    "Each consumer of a topic gets every message": (
        f"{PROOFS}a_consumer_buries_versions_that_it_does_not_route",
        f"{INPUT}types_that_are_none_of_its_business_are_skipped",
    ),
    "`on_without_transaction`: no database, no inbox": ("app/core/consumer.py: def on_without_transaction(",),
    # errors
    "never by text: HTTP": (f"{FAILURES}outcomes",),
    "consuming pauses and goes on by itself": (
        f"{POSTGRES}silent_for_forty_seconds",
        f"{REDIS}away_in_the_middle_and_at_the_start",
    ),
    "The deadline cancels the handler and counts": (f"{DIE}a_hanging_handler_is_stopped",),
    "raise your error `from` the client's": (f"{PROOFS}an_error_without_its_cause_carries_no_status",),
    "Senders that write no CloudEvents need a `translate`": (
        "core/test_foreign.py::test_the_template_says_what_an_entry_is",
        "conformance/test_foreign.py::test_foreign_messages_are_done_once_across_a_kill",
    ),
    # twice
    "The inbox row (consumer, source and id) makes database effects once": (
        f"{DIE}the_same_message_twice_at_once",
    ),
    "so pass `message.idempotency_key`": (f"{PROVIDERS}a_provider_that_drops_the_connection",),
    # both brokers
    "a retry is a copy in a pause queue": (
        f"{DIE}retries_hold_up_nobody_and_survive_a_crash",
        f"{QUEUES}pauses_are_at_most_twice_as_long",
        f"{QUEUES}a_handler_longer_than_the_brokers_patience_is_refused",
    ),
    "a lease is renewed while the handler runs, however long": (f"{DIE}a_slow_handler_is_not_taken_over",),
    "blocks the event loop stops the heartbeat": (f"{DIE}a_handler_that_blocks_the_loop_counts",),
    "it is dead, its neighbours are not": (f"{DIE}neighbours_of_a_poison_message_are_not_set_aside",),
    "A worker that comes back late changes nothing": (
        f"{DIE}a_paused_worker_changes_nothing_when_it_comes_back",
        f"{STREAM}an_old_count_is_fenced_too",
    ),
    "Consumers trim what every group has acknowledged": (
        f"{STREAM}trimming_keeps_what_is_unread_or_unacknowledged",
    ),
    # options
    "one transaction for up to `WORKER_CONCURRENCY` messages": (
        f"{BATCH}a_bad_message_does_not_spoil_its_batch",
        f"{BATCH}batches_with_eight_kills",
    ),
    "one at a time, in order of sending, one worker active": (
        f"{IN_ORDER}order_over_kills",
        f"{IN_ORDER}a_retry_waits_in_place",
    ),
    "a queue and handlers of its own for each urgency": (f"{PATTERNS}no_lane_waits_behind_another",),
    # dead letters
    "Mend the cause, then replay": (
        f"{LETTERS}replayed_after_the_cause_is_mended",
        f"{LETTERS}a_fresh_set_of_attempts_and_the_same_bytes",
    ),
    "Nothing is removed before its copy is confirmed": (f"{LETTERS}killed_in_the_middle_of_a_replay",),
    # settings
    "other schemes: exit code 78": (f"{PROCESS}an_address_that_is_none_is_refused",),
    "at least 2.5 heartbeats": (f"{INPUT}settings_that_make_no_sense_are_refused",),
    "1: one crash buries a message": (f"{PROOFS}one_crash_buries_a_message_that_has_one_delivery",),
    "taken: exit code 1 if set, else no probes": (
        f"{PROOFS}two_workers_need_two_ports",
        f"{PROOFS}a_default_port_that_is_taken_means_no_probes",
    ),
    # operate
    "red only when the event loop is stuck": (f"{PROCESS}a_blocked_loop_is_not_alive", f"{PROCESS}probes"),
    "a shell swallows SIGTERM": (f"{PROOFS}a_shell_in_front_keeps_the_signal",),
    "announced by an ERROR in the log only": (
        "app/core/consumer.py: logging.ERROR if isinstance(outcome, Dead)",
    ),
    "Exit codes: 0 stopped, 1 a loop failed": (f"{PROCESS}a_worker_that_ends_ends_the_process",),
    "One process may run several workers": ("app/workers/run.py: several in one process",),
    # problems
    "retried although hopeless": (f"{FAILURES}outcomes",),
    "done, yet half is missing": (f"{PROOFS}a_commit_in_the_handler_takes_the_inbox_row_along",),
    "after adding settings to `.env`": (
        f"{PROOFS}settings_in_a_dotenv_file_are_extra_inputs_to_a_strict_project",
    ),
    # adapting
    "Fitted: another layout, by three modules in `PACKAGE.background`": (
        f"{SHAPES}every_kind_fits",
        f"{SHAPES}all_kinds_live_in_one_project",
    ),
    "`def` services, and those that commit, run in the worker's transaction": (
        "scripts/test_shape_faults.py::test_faults_in_a_fitted_project",
    ),
    "Asked: exit code 3 lists several packages, settings, sessions or bases": (
        f"{EDITS}several_packages_are_listed",
        f"{EDITS}several_sessions_are_listed_and_one_can_be_chosen",
    ),
    "Several migration heads: exit code 6": (
        "scripts/test_worker_migrations.py::test_several_heads_need_a_choice",
    ),
    "Left to you: `TRANSIENT`; a tenant": (
        f"{EDITS}no_edit_says_what_to_do_instead",
        f"{SHAPES}inspect_tells_what_is_there",
    ),
}

CRON: Claims = {
    # the first table
    "one run: the tick is a row, unique by job and due time": (
        f"{CRON_DIE}any_number_of_schedulers_run_each_tick_once",
        f"{CRON_MANAGE}an_api_with_four_workers_and_a_scheduler_make_one_run_of_each_tick",
    ),
    "another begins it again when the lease is over; the late one commits nothing": (
        f"{CRON_DIE}each_in_turn_is_killed_over_two_hundred_ticks",
        f"{CRON_DIE}a_paused_scheduler_changes_nothing_when_it_comes_back",
        f"{CRON_DIE}a_late_finisher_is_fenced",
    ),
    "finished, or handed over at once; costs no attempt": (
        f"{CRON_DIE}sigterm_lets_a_quick_run_finish",
        f"{CRON_DIE}sigterm_hands_over_what_takes_too_long",
    ),
    "PostgreSQL away or restarted | waited for; costs no attempt": (
        f"{CRON_POSTGRES}restarted_at_the_tick",
        f"{CRON_POSTGRES}down_over_three_ticks",
    ),
    "rolled back, again with backoff, until `attempts` or `deadline`": (
        f"{CRON_POLICIES}a_provider_that_fails_at_first",
        f"{CRON_POLICIES}attempts_are_bounded",
        f"{CRON_POLICIES}retries_end_at_the_deadline",
    ),
    "`failed`, with the reason, until somebody asks for it": (
        f"{CRON_POLICIES}what_fails_for_good_says_why",
        f"{CRON_MANAGE}a_tick_that_failed_is_run_again",
    ),
    '"skip" notes it as skipped, "wait" runs it afterwards': (
        f"{CRON_POLICIES}overlap_skip",
        f"{CRON_POLICIES}overlap_wait",
    ),
    "as far back as `within`; the rest is noted as skipped": (
        f"{CRON_POLICIES}down_for_ten_minutes",
        f"{CRON_POLICIES}down_for_three_days",
        f"{CRON_POLICIES}only_the_newest_of_many_is_made_up",
    ),
    "due times come from the clock, not from the start": (
        f"{CRON_DIE}starting_again_and_again_does_not_push_an_interval_back",
    ),
    # add one
    "each further one is a file and its test": (
        "scripts/test_cron_jobs.py::test_second_job_is_one_file_and_its_test",
    ),
    "in the job's zone and the same on each attempt": ("faults/test_cron_jobs.py::test_sales_report",),
    "a service that commits loses that": (
        "faults/test_cron_fence.py::test_a_commit_in_the_job_is_not_fenced",
    ),
    "A call outside takes `tick.idempotency_key`": (
        f"{CRON_POLICIES}a_provider_that_fails_at_first",
        "core/test_cron_job.py::test_the_key_of_a_tick_is_that_of_its_due_time",
    ),
    "A renamed job is a new one, and a new one has no past": (
        f"{CRON_POLICIES}a_job_that_was_renamed_while_it_ran",
        f"{CRON_POLICIES}a_new_job_has_no_past",
    ),
    "One that makes no sense stops the scheduler with exit code 78": (
        f"{CRON_MANAGE}a_scheduler_refuses_to_start",
        "core/test_cron_job.py::test_all_modules_of_the_folder_are_jobs",
    ),
    # schedules
    "0 and 7 are Sunday; when both days are restricted, either matches": (
        "core/test_cron.py::test_examples",
    ),
    "`Every(interval)`: multiples since an anchor": (
        "core/test_interval.py::test_due_times_are_multiples_since_the_anchor",
    ),
    "runs at the moment after the gap. Fold: it runs the first time only": (
        "core/test_cron.py::test_fixed_times_run_once_a_date",
        "core/test_cron_plan.py::test_a_nightly_job_runs_once_in_both_nights",
    ),
    "they leave out the gap and run in both passes of the fold": (
        "core/test_cron.py::test_stars_follow_elapsed_time",
    ),
    # long work
    "a beat that neither forgets nor repeats a tick": (f"{CRON_POLICIES}a_tick_that_enqueues_sends_once",),
    # options
    "it refuses to be made without your authorisation": (
        f"{CRON_MANAGE}no_router_without_authorisation",
        f"{CRON_MANAGE}every_route_asks_for_authorisation",
    ),
    "a scheduler that fails ends the process": (f"{CRON_MANAGE}an_api_whose_scheduler_fails_ends",),
    "may come twice or not at all": ("version kubernetes 1.34: its page on CronJob, limitations",),
    # operate
    "ticks of the pause are not made up": (
        f"{CRON_MANAGE}pause_and_resume",
        f"{CRON_MANAGE}ticks_of_a_pause_without_schedulers_are_not_made_up",
    ),
    "Who asks while a run waits or goes on gets that run": (
        f"{CRON_MANAGE}many_ask_at_once",
        f"{CRON_MANAGE}run_now_during_the_scheduled_run",
        f"{CRON_MANAGE}a_tick_that_failed_is_run_again",
    ),
    "The clock is the database's": (f"{CRON_POLICIES}a_clock_that_was_ahead_for_days",),
    "run the ticks of both schedules; what both have runs once": (
        f"{CRON_POLICIES}two_versions_with_different_schedules",
    ),
    "Watch: `failed` and `skipped`": (f"{PROOFS}the_runs_of_cron_jobs_can_be_looked_at",),
    # problems
    "it ran twice before, per process or per replica": (
        f"{CRON_MANAGE}an_api_with_four_workers_and_a_scheduler_make_one_run_of_each_tick",
    ),
    "it never runs": (f"{CRON_MANAGE}list_and_history",),
    "skipped.** Symptoms": (f"{CRON_POLICIES}overlap_skip",),
    "failed at its deadline": (f"{CRON_POLICIES}a_run_is_stopped_at_its_deadline",),
    # changes
    "3.11.3 runs a daily 02:30 twice in the autumn night": (
        "core/test_cron.py::test_apscheduler_runs_a_nightly_job_twice_in_autumn",
        "core/test_cron.py::test_apscheduler_counts_weekdays_from_monday",
    ),
    "still drops what is 1 s late": (f"{PROOFS}apscheduler_drops_what_is_a_second_late",),
    "5.7 has no lock: two beats run all twice": (
        "version celery 5.7: celery/beat.py, PersistentScheduler and apply_async",
    ),
}

CELERY: Claims = {
    # the first table
    "nothing is sent | there is no job": (
        f"{OUTBOX}commit_sends_and_rollback_does_not",
        f"{JOB_ROWS}nothing_is_left_of_a_transaction_that_fails",
    ),
    "the broker is away | it waits in the outbox | it waits in its row": (
        f"{CELERY_BROKERS}redis_is_restarted_paused_and_comes_back_empty",
        f"{JOB_DISPATCHER}a_broker_that_is_away",
    ),
    "or fails over without its last moments | what was sent is sent again": (
        f"{CELERY_BROKERS}redis_is_restarted_paused_and_comes_back_empty",
        f"{CELERY_BROKERS}rabbitmq_is_restarted_and_emptied",
        f"{JOBS_CELERY}redis_comes_back_empty",
        f"{JOBS_QUEUES}a_replica_that_lacks_the_last_messages_takes_over",
    ),
    "one effect, by the inbox | one start, by the row": (
        f"{CELERY_MESSAGES}two_copies_at_once_are_done_once",
        f"{JOB_ROWS}one_of_eight_claimers_gets_it",
    ),
    "child, worker or machine killed": (
        f"{CELERY_WORKERS}children_workers_and_a_whole_machine_are_killed",
        f"{CELERY_WORKERS}rolling_restarts_under_load",
        f"{JOBS_CELERY}machines_die",
    ),
    "a frozen worker goes on later | nothing is done twice | it changes 0 rows": (
        f"{CELERY_WORKERS}children_workers_and_a_whole_machine_are_killed",
        f"{JOBS_CELERY}a_late_finisher_is_fenced",
    ),
    "kills its worker each time": (
        f"{CELERY_WORKERS}poison_hangs_and_bugs_are_set_aside_and_the_worker_stays_well",
        f"{JOBS_CELERY}machines_die",
    ),
    "cancelled, or its process killed; counts": (
        f"{CELERY_WORKERS}memory_runs_out",
        f"{CELERY_WORKERS}poison_hangs_and_bugs_are_set_aside_and_the_worker_stays_well",
        f"{CELERY_LOOP}a_soft_time_limit_cancels_the_coroutine_and_waits_for_its_clean_up",
        f"{JOB_ROWS}an_attempt_that_takes_too_long",
        f"{JOBS_CELERY}a_hang",
    ),
    "PostgreSQL away | waited for, costs no attempt": (
        f"{CELERY_BROKERS}the_database_is_away_and_no_task_pays_for_it",
        f"{JOB_FAULTS}the_database_goes_away",
    ),
    "a copy after a pause with jitter | waits in its row": (
        f"{CELERY_MESSAGES}retries_wait_as_long_as_they_are_told_and_no_longer",
        f"{JOBS_CELERY}retries_wait_in_the_table",
    ),
    "dead letter | `failed`, and a dead letter": (
        f"{CELERY_WORKERS}poison_hangs_and_bugs_are_set_aside_and_the_worker_stays_well",
        f"{JOB_ROWS}the_text_of_a_bug_is_not_for_the_owner",
        f"{JOB_ROWS}transient_errors_end_at_the_last_attempt",
    ),
    "quick tasks finish, the rest goes back": (
        f"{CELERY_WORKERS}a_stop_finishes_quick_tasks_and_hands_back_the_rest",
        f"{CELERY_WORKERS}rolling_restarts_under_load",
        f"{JOBS_CELERY}cancel_and_hand_back",
    ),
    "`/live` is red; an outage reddens only `/ready`": (
        "faults/test_celery_health.py::test_an_outage_makes_it_unready_and_a_stuck_loop_dead",
        "faults/test_celery_health.py::test_a_long_task_is_no_stuck_loop",
    ),
    "kept as it came | an unknown kind waits": (
        f"{CELERY_MESSAGES}what_nobody_understands_is_kept_and_can_be_sent_again",
        f"{JOB_ROWS}kinds_and_payloads_of_other_versions",
    ),
    # plain or tracked
    "status, result, progress, cancel, deadline, idempotency key": (
        f"{JOBS_API}accepted_and_followed",
        f"{JOBS_API}cancel",
    ),
    "one outbox has one relay": (f"{TASK_SCRIPT}one_outbox_has_one_relay",),
    "What it returns, a Pydantic model or mapping, is the job's result": (
        f"{JOB_ROWS}effect_and_result_commit_together",
    ),
    "shows progress": ("core/test_job.py::test_what_a_function_sees",),
    "All tasks of a process share one event loop": (
        f"{CELERY_LOOP}all_calls_share_one_loop_and_keep_the_context_of_their_caller",
        f"{CELERY_POOLS}thousands_of_tasks_with_a_database",
    ),
    "Its row is committed with the effect": (
        f"{JOB_ROWS}effect_and_result_commit_together",
        f"{PROOFS}a_commit_in_the_handler_takes_the_inbox_row_along",
    ),
    "Higher `priority` is sent first": (
        f"{JOBS_QUEUES}queues_of_their_own_and_priorities",
        f"{JOB_DISPATCHER}priority_pauses_and_other_transports",
    ),
    # from FastAPI
    "missing 400, in use 409, used for another body 422": (
        f"{JOBS_API}a_missing_or_bad_key",
        f"{JOBS_API}a_key_in_use",
        f"{JOBS_API}a_repeat_gets_the_first_answer",
        f"{JOBS_API}two_posts_at_once",
    ),
    "503, nothing left behind. Broker away: accepted, done later": (
        f"{JOBS_API}a_database_that_is_away",
        f"{JOBS_API}accepted_and_followed",
        f"{JOB_DISPATCHER}a_broker_that_is_away",
    ),
    "`GET /jobs/{id}` tells `status`, `progress`, `result`, `error`": (f"{JOBS_API}accepted_and_followed",),
    "refuses to be made without your authentication": (
        f"{JOBS_API}no_routes_without_authentication",
        f"{JOBS_API}jobs_of_others_are_not_there",
    ),
    "blocks the event loop and sends what may be rolled back": (
        f"{CELERY_BROKERS}sending_to_a_silent_broker_ends_soon_and_blocks_nobody",
        "version celery 5.7: celery/app/base.py, send_task publishes before it returns",
    ),
    "For work that may get lost": (
        f"{CELERY_SENDING}what_is_committed_is_sent_and_nothing_else",
        f"{CELERY_SENDING}a_broker_that_is_away_harms_nobody",
        f"{CELERY_SENDING}mail_by_outbox_by_two_beats_and_after_a_commit",
    ),
    # workflows
    "submits the next one with its own session: both commit, or neither": (
        f"{JOB_FLOW}a_link_of_a_chain_commits_with_its_successor",
    ),
    "several submitted in one transaction": (f"{JOB_FLOW}the_whole_waits_for_its_parts",),
    "one more job whose payload is their ids": (f"{JOB_FLOW}the_whole_waits_for_its_parts",),
    "when a part fails the waiting job fails with its reason": (
        f"{JOB_FLOW}nothing_goes_on_when_a_part_fails",
        f"{JOB_FLOW}parts_that_will_not_come",
    ),
    # on a schedule
    "One beat: it has no lock, two send all twice": (
        f"{CELERY_SENDING}mail_by_outbox_by_two_beats_and_after_a_commit",
    ),
    "Ticks are lost while beat or the broker is away": (
        "version celery 5.7: celery/beat.py, apply_async advances the entry before it sends",
    ),
    # settings
    "neither Redis nor RabbitMQ, or it evicts: exit code 78": (
        f"{CELERY_SETTINGS}other_brokers_are_refused",
        "faults/test_redis_memory.py::test_nothing_starts_that_would_lose_messages",
    ),
    "below two time limits: exit code 78": (
        f"{CELERY_SETTINGS}a_setting_that_would_run_a_task_twice_is_refused",
        f"{CELERY_POOLS}a_worker_that_would_do_harm_does_not_start",
    ),
    "under 3 polls: exit code 78": (f"{JOBS_CELERY}settings_that_would_give_work_away",),
    # operate
    "Celery's worker ends when Redis goes away with tasks in its hands": (
        f"{CELERY_BROKERS}redis_is_restarted_paused_and_comes_back_empty",
    ),
    "hung stops end at +10": (f"{CELERY_WORKERS}a_stop_that_hangs_ends",),
    "Without `REMAP_SIGTERM` the worker refuses to start": (
        f"{CELERY_POOLS}a_worker_that_would_do_harm_does_not_start",
    ),
    "settings, misspelt ones too": (
        f"{CELERY_SETTINGS}a_misspelt_setting_is_refused_and_celerys_own_are_not",
        f"{CELERY_SETTINGS}misspelt_settings_of_further_workers_are_refused",
        f"{CELERY_POOLS}a_task_that_refuses_is_one_line",
    ),
    "takes one of `CELERY_QUEUES`": (f"{JOBS_QUEUES}queues_of_their_own_and_priorities",),
    "holds no more than it works on": (f"{CELERY_WORKERS}a_worker_holds_no_more_than_it_works_on",),
    "`celery` for what was no task": (
        "jobs/test_dead_letters_command.py::test_letters_of_tasks_jobs_and_neither",
    ),
    "Any number of relays and dispatchers": (
        f"{OUTBOX}relays_are_killed_while_they_send",
        f"{JOB_DISPATCHER}two_dispatchers_send_each_job_once_and_at_once",
    ),
    # problems
    "done twice before, or after an hour": (
        f"{CELERY_SETTINGS}a_setting_that_would_run_a_task_twice_is_refused",
    ),
    "a job stays `queued`": (
        f"{JOB_DISPATCHER}where_nothing_is_started_some_are_sent_again",
        f"{JOB_DISPATCHER}a_queue_that_is_missing_holds_up_no_other_job",
    ),
    # changes
    "comes back for ever: count its starts": (
        f"{CELERY_WORKERS}poison_hangs_and_bugs_are_set_aside_and_the_worker_stays_well",
        "version celery 5.7: celery/worker/request.py, on_failure requeues what lost its worker",
    ),
    "waits without bound; `REMAP_SIGTERM=SIGQUIT`": (
        f"{CELERY_WORKERS}a_stop_finishes_quick_tasks_and_hands_back_the_rest",
        "version celery 5.7: its workers guide, REMAP_SIGTERM and soft shutdown",
    ),
    "unconfirmed without `confirm_publish`": (
        f"{CELERY_SETTINGS}no_wait_for_the_broker_is_without_bound",
        f"{CELERY_BROKERS}sending_to_a_silent_broker_ends_soon_and_blocks_nobody",
    ),
}

LLM: Claims = {
    # the first table
    "the transaction is rolled back | there is no job": (
        f"{JOB_ROWS}nothing_is_left_of_a_transaction_that_fails",
    ),
    "one job, one call": (
        f"{JOB_ROWS}fifty_at_once_with_one_key",
        f"{LLM_EVENTS}a_job_is_submitted_followed_and_its_usage_shown",
    ),
    "another asks again when the lease is over": (
        f"{LLM_FAULTS}workers_are_killed_frozen_and_stopped_in_the_middle_of_streams",
    ),
    "its events are not heard": (
        f"{LLM_FAULTS}workers_are_killed_frozen_and_stopped_in_the_middle_of_streams",
        f"{LLM_WORKER}what_a_job_says_is_written_in_its_order_and_fenced",
    ),
    "answers that fit in the drain time end": (
        f"{LLM_FAULTS}sigterm_in_the_middle_of_calls_uses_up_no_attempt",
        f"{LLM_WORKER}shutdown_hands_back_what_is_not_done",
    ),
    "tried again with the answer that is there": (
        f"{LLM_WORKER}an_answer_that_was_paid_for_is_not_paid_for_again",
    ),
    "429, 529 | waits in its row": (
        f"{LLM_WORKER}what_is_busy_costs_no_attempt_and_no_slot",
        f"{LLM_FAULTS}a_storm_of_refusals_over_500_jobs",
    ),
    "an error inside of a 200 | a pause": (
        f"{LLM_HTTP}errors_are_told_apart_and_nothing_is_tried_twice",
        f"{LLM_FAULTS}a_storm_of_refusals_over_500_jobs",
    ),
    "other 4xx | `failed`, and a dead letter": (
        f"{LLM_HTTP}errors_are_told_apart_and_nothing_is_tried_twice",
    ),
    "the answer is kept until it is back": (f"{LLM_FAULTS}the_database_is_restarted_in_mid_stream",),
    "the connection is dropped, what was paid is on record": (
        f"{LLM_WORKER}cancelling_drops_the_call",
        f"{LLM_EVENTS}a_cancelled_job_ends_its_streams",
    ),
    "without a gap or a repeat": (f"{LLM_EVENTS}clients_go_on_when_an_api_and_a_worker_are_killed",),
    "it runs beside no other suspect": (
        f"{LLM_WORKER}a_suspect_runs_beside_no_other_and_holds_up_nobody",
        f"{LLM_WORKER}one_that_kills_its_workers_costs_its_neighbours_little",
        f"{JOB_ROWS}lapsed_leases_are_counted_until_an_attempt_ends",
    ),
    # batches
    "in the provider's list, not asked again": (
        f"{LLM_BATCH_FAULTS}workers_are_killed_when_the_provider_has_the_batch",
        f"{LLM_BATCH_HTTP}a_batch_is_found_among_others_of_its_size",
    ),
    "what may pass goes into another batch": (f"{LLM_BATCHES}each_row_ends_as_its_result_says",),
    "smaller ones show who is to blame": (
        f"{LLM_BATCHES}one_that_is_refused_with_its_batch_takes_nobody_along",
    ),
    "wait, at no attempt's cost": (
        f"{LLM_BATCHES}a_storm_of_refusals_costs_no_attempt",
        f"{LLM_BATCHES}a_wrong_key_costs_no_job",
    ),
    "until it ends; no effect, cost on record": (f"{LLM_BATCHES}cancelled_while_it_is_in_the_batch",),
    "Anthropic's list does not name batches": (
        f"{LLM_BATCH_HTTP}as_long_as_it_goes_on_only_openai_says_whose_it_is",
        "version anthropic 2.12: MessageBatch has neither metadata nor custom ids",
    ),
    "it cancels the late batch": (f"{LLM_BATCHES}who_comes_too_late_with_a_batch_cancels_it",),
    # webhooks
    "tried for days under one id; 410 disables the endpoint": (
        f"{WEBHOOKS}each_event_is_delivered_signed_and_under_one_id",
        f"{WEBHOOKS}an_endpoint_that_is_gone_is_not_asked_again",
    ),
    "checked on the connection made; no redirects": (
        "core/test_webhook_target.py::test_the_connection_goes_to_the_address_that_was_checked",
        "core/test_webhook_target.py::test_redirects_are_answers",
        f"{WEBHOOKS}a_private_address_is_not_sent_to",
    ),
    "gets each webhook once; let workers refuse": (f"{WEBHOOK_IN}what_is_signed_is_stored_once",),
    # Celery or not
    "made for | work of seconds": ("app/core/job.py: No transaction is open",),
    "in flight at once": (
        f"{LLM_WORKER}hundreds_are_asked_at_once_and_hold_no_connection",
        "version celery 5.7: a prefork worker has one task in each process",
    ),
    "first come, first served | owners take turns": (
        f"{LLM_WORKER}owners_take_turns_and_limits_hold_for_all_workers",
    ),
    # wiring
    "the last one is `end`, later visits get 204": (
        f"{LLM_EVENTS}a_job_is_submitted_followed_and_its_usage_shown",
    ),
    "200 with the result if the job ends in time": (
        f"{JOBS_API}a_client_that_prefers_to_wait_gets_what_ends_in_time",
    ),
    "drop what an earlier attempt has sent": (
        f"{LLM_EVENTS}clients_go_on_when_an_api_and_a_worker_are_killed",
    ),
    "one open stream holds up a shutdown for ever": (
        f"{LLM_EVENTS}many_readers_hold_no_connection_and_no_memory",
        "version uvicorn 0.54: without timeout_graceful_shutdown it waits for all responses",
    ),
    "`exact` is false where a part is estimated": (
        f"{LLM_USAGE}calls_of_a_job_are_added_up_whatever_became_of_them",
    ),
    # rules
    "One layer retries: the job": (f"{LLM_HTTP}errors_are_told_apart_and_nothing_is_tried_twice",),
    "raise `BusyError(reason, seconds)`": (f"{LLM_WORKER}what_is_busy_costs_no_attempt_and_no_slot",),
    "give each a `name`": ("app/core/llm_call.py: data->>'call' = :call",),
    "a crash between answer and record is paid twice": (
        f"{LLM_FAULTS}workers_are_killed_frozen_and_stopped_in_the_middle_of_streams",
        "version anthropic 2.12: _idempotency_header is None; openai 3.54 as well",
    ),
    # limits
    "| is not claimed": (f"{LLM_WORKER}owners_take_turns_and_limits_hold_for_all_workers",),
    "waits in its row for its turn": (
        f"{LLM_LIMITS}calls_of_a_minute_are_granted_once_and_the_rest_is_told_times_apart",
        f"{LLM_LIMITS}tokens_are_booked_by_estimate_and_settled_with_what_was_used",
        f"{LLM_LIMITS}workers_keep_a_quota_together_and_a_cap_holds_jobs",
    ),
    "fails when its deadline is sooner": (
        f"{LLM_LIMITS}a_cap_counts_calls_under_way_and_holds_until_the_next_day",
    ),
    # operate
    "since one claims at a time": (f"{LLM_WORKER}owners_take_turns_and_limits_hold_for_all_workers",),
    "is red when no jobs are looked for": ("app/core/job_worker.py: has not looked for jobs for",),
    "shows what was given up, `replay` asks again": (
        "jobs/test_dead_letters_command.py::test_letters_of_tasks_jobs_and_neither",
        f"{LLM_SCRIPT}report",
    ),
    # problems
    "jobs wait although workers are idle": (f"{LLM_WORKER}what_is_busy_costs_no_attempt_and_no_slot",),
    # changes
    "the SDKs run on httpx2": ("version anthropic 1.0: its migration guide; openai 3.0: its changelog",),
}

CLAIMS = {
    "SKILL.md": SKILL,
    "references/python-message-queue.md": QUEUE,
    "references/python-consumers.md": CONSUMERS,
    "references/python-cron-jobs.md": CRON,
    "references/python-celery.md": CELERY,
    "references/python-llm-async.md": LLM,
}
