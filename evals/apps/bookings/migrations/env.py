"""Migrations."""

import asyncio
from importlib import import_module
from pkgutil import iter_modules

from alembic import context
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

import app.models
from app.core.config import settings
from app.models.base import Base

for module in iter_modules(app.models.__path__, "app.models."):
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
