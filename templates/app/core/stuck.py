"""Ends database sessions of workers that froze in the middle of a request, so that they hold no row."""

from __future__ import annotations

import logging

from sqlalchemy import text

from app.core.database import get_session

logger = logging.getLogger(__name__)

# A driver sends a request in parts. A worker that freezes between two of them leaves its session in state
# "active", where idle_in_transaction_session_timeout does not run and statement_timeout neither; only
# PostgreSQL 17 has a limit for it (transaction_timeout). A worker that lives sends the rest at once.
END = text(
    """
    SELECT count(pg_terminate_backend(activity.pid)) FROM pg_stat_activity AS activity
    WHERE activity.datname = current_database() AND activity.usename = current_user
      AND activity.state = 'active' AND activity.wait_event = 'ClientRead'
      AND activity.state_change < clock_timestamp() - interval '20 s'
      AND EXISTS (SELECT FROM pg_locks
                  WHERE pg_locks.pid = activity.pid AND pg_locks.relation = CAST(:table AS regclass))
    """
)


async def end_stuck_sessions(table: str) -> int:
    """End our role's sessions that hold `table` and wait for half a request since 20 s; how many."""
    async with get_session() as session:
        ended = int((await session.execute(END, {"table": table})).scalar_one())
    if ended:
        logger.warning("%d sessions of frozen workers that held %s were ended", ended, table)
    return ended
