"""The three small modules through which workers reach a project that is built otherwise than the templates
expect: its settings, its sessions, and the metadata of its tables.
"""

from __future__ import annotations

from workerkit.look_sessions import Engine, Helper
from workerkit.look_settings import Access
from workerkit.look_tables import Base

ONE_TRANSACTION = (
    '"""Yield a session in one transaction: committed when the block succeeds, rolled back when it raises."""'
)
# How the module `core.config` begins, which tells a package of workers from one of the project.
SETTINGS_HEADS = (
    '"""The project\'s settings, as the workers read them."""',
    '"""The workers\' settings come from the environment',
)
NO_SETTINGS = '''"""The workers' settings come from the environment and `.env`: the project has none."""

from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Where `worker_settings()` looks."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore")


settings = Settings()
'''
CONTEXT = "from collections.abc import AsyncIterator\nfrom contextlib import asynccontextmanager\n"


def settings_shim(access: Access | None) -> str:
    """The module `core.config`."""
    if access is None:
        return NO_SETTINGS
    head = f"{SETTINGS_HEADS[0]}\n"
    name = access.place.name
    if access.form == "object":
        return f"{head}\n{imported(access.place.module, name, 'settings')}\n\n{exported('settings')}"
    return f"{head}\n{imported(access.place.module, name)}\n\nsettings = {name}()\n"


def session_shim(helper: Helper) -> str:
    """The module `core.database`, for a project with asynchronous sessions."""
    module, _, path = helper.place.target.partition(":")
    top = path.partition(".")[0]
    if helper.form in ("context manager", "method") and helper.commits:
        head = '"""The workers\' sessions: the project\'s."""\n'
        if "." not in path:
            return f"{head}\n{imported(module, path, 'get_session')}\n\n{exported('get_session')}"
        return f"{head}\n{imported(module, top)}\n\nget_session = {path}\n"
    head = '"""The workers\' sessions: the project\'s, each in one transaction."""\n'
    if helper.form == "generator" and helper.commits:
        return (
            f"{head}\nfrom contextlib import asynccontextmanager\n\n{imported(module, top)}\n\n"
            f"get_session = asynccontextmanager({path})\n"
        )
    return (
        f"{head}\n{CONTEXT}\nfrom sqlalchemy.ext.asyncio import AsyncSession\n\n{imported(module, top)}\n"
        f"{manager(block_of(helper, path))}"
    )


def block_of(helper: Helper, path: str) -> list[str]:
    """The body of `get_session`, for sessions that nobody commits yet."""
    if helper.form == "factory":
        return [f"async with {path}() as session, session.begin():", "    yield session"]
    entered = f"{path}()" if helper.form != "generator" else f"asynccontextmanager({path})()"
    return [f"async with {entered} as session:", "    yield session", "    await session.commit()"]


def sync_shim(engine: Engine, *, sqlmodel: bool) -> str:
    """The module `core.database`, for a project with a synchronous engine: one beside it, to the same
    database. Services get sessions of the project's own class, in the worker's transaction.
    """
    orm = "from sqlmodel import Session\n" if sqlmodel else "from sqlalchemy.orm import Session\n"
    imports = "from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine\n"
    return (
        '"""The workers\' sessions: asynchronous, to the database of the project\'s synchronous engine."""\n'
        f"\n{CONTEXT}\n{imports}{orm}\n"
        f"{imported(engine.place.module, engine.place.name, 'project_engine')}\n\n"
        "engine = create_async_engine(\n"
        '    project_engine.url.set(drivername="postgresql+asyncpg"),\n'
        "    pool_pre_ping=True,\n"
        "    hide_parameters=True,\n"
        ")\n"
        "# `call_sync` gives services a synchronous session of this class.\n"
        "session_factory = async_sessionmaker(engine, sync_session_class=Session, expire_on_commit=False)\n"
        + manager(["async with session_factory() as session, session.begin():", "    yield session"])
    )


def manager(body: list[str]) -> str:
    """The definition of `get_session`."""
    lines = [
        "@asynccontextmanager",
        "async def get_session() -> AsyncIterator[AsyncSession]:",
        f"    {ONE_TRANSACTION}",
        *(f"    {line}" for line in body),
    ]
    return "\n\n" + "\n".join(lines) + "\n"


def base_shim(base: Base | None, *, sqlmodel: bool) -> str:
    """The module `models.base`: the project's metadata, without what its own models inherit."""
    if sqlmodel or base is None:
        source, name = ("from sqlmodel import SQLModel\n", "SQLModel") if sqlmodel else ("", "")
    else:
        source, name = f"\n{imported(base.place.module, base.place.name, 'ProjectBase')}\n", "ProjectBase"
    metadata = f"\n    metadata = {name}.metadata\n" if name else ""
    what = (
        "in the project's metadata, without what its own models inherit"
        if name
        else "in a metadata of their own"
    )
    return (
        f'"""The base of the workers\' tables: {what}."""\n\n'
        f"from sqlalchemy.orm import DeclarativeBase\n{source}\n\n"
        f'class Base(DeclarativeBase):\n    """Base of the workers\' models."""\n{metadata}'
    )


def tables_shim(package: str) -> str:
    """The module `tables`: who imports it knows all tables of the workers, those of later ones, too."""
    return (
        '"""All tables of the workers: the metadata knows them once this module is imported."""\n\n'
        "from importlib import import_module\nfrom pkgutil import iter_modules\n\n"
        f"from {package} import models\n\n"
        'for module in iter_modules(models.__path__, f"{models.__name__}."):\n'
        "    import_module(module.name)\n"
    )


def imported(module: str, name: str, as_: str = "") -> str:
    """An import of the project's own."""
    return f"from {module} import {name}" + (f" as {as_}" if as_ not in ("", name) else "")


def exported(name: str) -> str:
    """What a module hands on, so that type checkers take it for meant."""
    return f'__all__ = ["{name}"]\n'
