"""Migrations."""

import asyncio
from importlib import import_module
from pkgutil import iter_modules

import library.models
from alembic import context
from library.core.config import settings
from library.models.base import Base
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

for module in iter_modules(library.models.__path__, "library.models."):
    import_module(module.name)


def run(connection: Connection) -> None:
    """Run over an open connection."""
    context.configure(connection=connection, target_metadata=Base.metadata)
    with context.begin_transaction():
        context.run_migrations()


async def main() -> None:
    """Connect and run."""
    engine = create_async_engine(settings.database_url.get_secret_value(), poolclass=NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(run)
        await connection.commit()
    await engine.dispose()


asyncio.run(main())
