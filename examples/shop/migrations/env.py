"""Runs the migrations. Alembic imports this file for every command."""

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib import import_module
from logging.config import fileConfig
from pkgutil import iter_modules

from alembic import context
from alembic.operations.ops import MigrationScript
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

import app.models
from app.core.config import settings
from app.models.base import Base

config = context.config
if config.config_file_name is not None:
    fileConfig(config.config_file_name, disable_existing_loggers=False)

# Importing a module of app.models registers its tables, so a new module is found without a list here.
for module in iter_modules(app.models.__path__, "app.models."):
    import_module(module.name)


def name_by_time(
    _migration: MigrationContext,
    _revision: str | Iterable[str | None] | Iterable[str],
    directives: list[MigrationScript],
) -> None:
    """Make the time the id of a new revision, unless --rev-id was given."""
    if getattr(config.cmd_opts, "rev_id", None) is None:
        for directive in directives:
            directive.rev_id = f"{datetime.now(UTC):%Y%m%d_%H%M}"


def run(connection: Connection) -> None:
    """Run the migrations over an open connection."""
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        compare_server_default=True,
        process_revision_directives=name_by_time,
    )
    with context.begin_transaction():
        context.run_migrations()


async def run_online() -> None:
    """Connect to the database of the settings and run the migrations there."""
    engine = create_async_engine(settings.database_url.get_secret_value(), poolclass=NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(run)
    await engine.dispose()


def run_offline() -> None:
    """Print the SQL instead of running it (`alembic upgrade head --sql`)."""
    context.configure(
        dialect_name="postgresql",
        target_metadata=Base.metadata,
        literal_binds=True,
        process_revision_directives=name_by_time,
    )
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    run_offline()
else:
    asyncio.run(run_online())
