"""Small projects in the shapes that FastAPI projects really have, to add workers to. Nothing of them is
copied from anywhere; they share a domain so small that what differs is the shape.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent

Files = Mapping[str, str]


@dataclass(frozen=True)
class Shape:
    """A project. `calls` is a service for messages, `daily` one for a schedule, with a parameter `day`.

    `home` is where workers land, `options` what has to be said for it, and `refusal` the exit code where
    workers cannot be added. `runs` says whether all that it imports is installed here.
    """

    name: str
    files: Files
    calls: str
    daily: str
    home: str
    options: tuple[str, ...] = ()
    refusal: int = 0
    runs: bool = True
    heads: int = 1
    facts: Mapping[str, object] = field(default_factory=dict)
    """What `inspect` has to find, by a path of keys."""

    def build(self, folder: Path) -> Path:
        """Write the project into a new folder."""
        for name, text in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(dedent(text).lstrip("\n"))
        return folder


RUFF = """
[tool.ruff]
line-length = 100
target-version = "py311"

[tool.ruff.lint]
select = ["E4", "E7", "E9", "F", "I", "B", "UP", "SIM", "C4"]
"""
PYPROJECT = f"""
[project]
name = "acme"
version = "1.0"
requires-python = ">=3.11"
dependencies = [
    "fastapi>=0.115",
    "sqlalchemy[asyncio]>=2.0",
    "asyncpg>=0.30",
    "pydantic-settings"
]

[dependency-groups]
dev = ["pytest>=8"]
{RUFF}"""
MYPY = """
[tool.mypy]
strict = true
mypy_path = "{path}"
"""
INI = """
[alembic]
script_location = {folder}
prepend_sys_path = .
"""
ENV = """
from alembic import context
{imports}

context.configure(dialect_name="postgresql", target_metadata={metadata})
with context.begin_transaction():
    context.run_migrations()
"""


def revision(id_: str, down: str | None) -> str:
    """A migration that does nothing."""
    shown = f'"{down}"' if down else "None"
    return (
        f'"""A step."""\n\nrevision = "{id_}"\ndown_revision = {shown}\n'
        "branch_labels = None\ndepends_on = None\n\n\n"
        "def upgrade() -> None:\n    pass\n\n\ndef downgrade() -> None:\n    pass\n"
    )


ASYNC_SERVICE = """
from datetime import date

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession


class OrderService:
    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def mark_paid(self, order_id: int, reference: str) -> None:
        await self.session.execute(text("SELECT 1"))
        {end}

    async def report(self, day: date) -> None:
        await self.session.execute(text("SELECT 2"))
"""
SYNC_SERVICE = """
from datetime import date

from sqlalchemy import text
{session}


def mark_paid({parameter}: Session, order_id: int, reference: str) -> None:
    session.execute(text("SELECT 1"))
    session.commit()


def report({parameter}: Session, day: date) -> None:
    session.execute(text("SELECT 2"))
"""
MAIN = """
from fastapi import FastAPI

from {package} import {name}

app = FastAPI()
used = {name}
"""
# Synchronous SQLModel below backend/app: models in one module, `crud.py`, settings in parts.
SQLMODEL = Shape(
    "sqlmodel-backend",
    {
        "backend/pyproject.toml": PYPROJECT.replace("sqlalchemy[asyncio]>=2.0", "sqlmodel>=0.0.21").replace(
            '    "asyncpg>=0.30",\n', '    "psycopg[binary]>=3.1",\n'
        ),
        "backend/app/__init__.py": "",
        "backend/app/main.py": MAIN.format(package="app", name="crud"),
        "backend/app/core/__init__.py": "",
        "backend/app/core/config.py": """
            from pydantic_settings import BaseSettings, SettingsConfigDict


            class Settings(BaseSettings):
                model_config = SettingsConfigDict(env_file="../.env", extra="ignore")

                POSTGRES_SERVER: str = "localhost"
                POSTGRES_DB: str = "app"

                @property
                def DATABASE_URI(self) -> str:
                    return f"postgresql+psycopg://{self.POSTGRES_SERVER}/{self.POSTGRES_DB}"


            settings = Settings()
            """,
        "backend/app/core/db.py": """
            from sqlmodel import create_engine

            from app.core.config import settings

            engine = create_engine(str(settings.DATABASE_URI))
            """,
        "backend/app/api/__init__.py": "",
        "backend/app/api/deps.py": """
            from collections.abc import Generator
            from typing import Annotated

            from fastapi import Depends
            from sqlmodel import Session

            from app.core.db import engine


            def get_db() -> Generator[Session, None, None]:
                with Session(engine) as session:
                    yield session


            SessionDep = Annotated[Session, Depends(get_db)]
            """,
        "backend/app/models.py": """
            from sqlmodel import Field, SQLModel


            class Order(SQLModel, table=True):
                id: int | None = Field(default=None, primary_key=True)
            """,
        "backend/app/crud.py": SYNC_SERVICE.format(
            session="from sqlmodel import Session", parameter="*, session"
        ),
        "backend/alembic.ini": INI.format(folder="app/alembic"),
        "backend/app/alembic/env.py": ENV.format(
            imports="from sqlmodel import SQLModel\n\nfrom app.models import Order  # noqa: F401",
            metadata="SQLModel.metadata",
        ),
        "backend/app/alembic/versions/aa_first.py": revision("aa", None),
        "backend/tests/test_api.py": "def test_api() -> None: ...\n",
        "compose.yml": "services:\n  db:\n    image: postgres\n  backend:\n    build: backend\n",
    },
    "app.crud:mark_paid",
    "app.crud:report",
    "app.background",
    runs=False,
    facts={
        "package": "app",
        "import_root": "backend",
        "tables.sqlmodel": True,
        "migrations.heads": ["aa"],
        "settings.database_variable": None,
        "processes": {"compose.yml": ["db", "backend"]},
    },
)
# Asynchronous, below src/acme: get_settings(), a dependency that commits, services that commit, Procfile.
BOILERPLATE = Shape(
    "async-src",
    {
        "pyproject.toml": PYPROJECT + MYPY.format(path="src"),
        "Procfile": "web: uvicorn acme.main:app\n",
        "src/acme/__init__.py": "",
        "src/acme/main.py": MAIN.format(package="acme.services", name="orders"),
        "src/acme/settings.py": """
            from functools import lru_cache

            from pydantic_settings import BaseSettings, SettingsConfigDict


            class AppSettings(BaseSettings):
                model_config = SettingsConfigDict(env_prefix="ACME_", env_file=".env", extra="ignore")

                database_url: str = "postgresql+asyncpg://localhost/acme"


            @lru_cache
            def get_settings() -> AppSettings:
                return AppSettings()
            """,
        "src/acme/db/__init__.py": "",
        "src/acme/db/base.py": """
            from datetime import datetime

            from sqlalchemy import func
            from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


            class Base(DeclarativeBase):
                id: Mapped[int] = mapped_column(primary_key=True)
                created_at: Mapped[datetime] = mapped_column(server_default=func.now())
            """,
        "src/acme/db/session.py": """
            from collections.abc import AsyncGenerator

            from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

            from acme.settings import get_settings

            engine = create_async_engine(get_settings().database_url)
            AsyncSessionLocal = async_sessionmaker(engine, expire_on_commit=False)


            async def get_db() -> AsyncGenerator[AsyncSession, None]:
                async with AsyncSessionLocal() as session:
                    yield session
                    await session.commit()
            """,
        "src/acme/errors.py": """
            class AcmeError(Exception):
                pass


            class ProviderUnavailable(AcmeError):
                pass


            class OrderNotFound(AcmeError):
                pass
            """,
        "src/acme/services/__init__.py": "",
        "src/acme/services/orders.py": ASYNC_SERVICE.format(end="await self.session.commit()"),
        "tests/unit/test_orders.py": "def test_orders() -> None: ...\n",
        "alembic.ini": INI.format(folder="migrations"),
        "migrations/env.py": ENV.format(
            imports="\nfrom acme.db.base import Base\nfrom acme.settings import get_settings\n\n"
            "get_settings()",
            metadata="Base.metadata",
        ),
        "migrations/versions/0001_first.py": revision("0001", None),
    },
    "acme.services.orders:OrderService.mark_paid",
    "acme.services.orders:OrderService.report",
    "acme.background",
    facts={
        "package": "acme",
        "import_root": "src",
        "settings.database_variable": "ACME_DATABASE_URL",
        "settings.accesses.0.form": "function",
        "processes": {"Procfile": ["web"]},
    },
)
# One module without a package, asynchronous, tables made at the start.
FLAT = Shape(
    "flat-module",
    {
        "requirements.txt": "fastapi\nsqlalchemy[asyncio]>=2.0\nasyncpg",
        "ruff.toml": RUFF.replace("tool.ruff.lint", "lint").replace("[tool.ruff]\n", ""),
        "main.py": """
            import os
            from collections.abc import AsyncIterator
            from contextlib import asynccontextmanager
            from datetime import date

            from fastapi import FastAPI
            from sqlalchemy import text
            from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
            from sqlalchemy.orm import DeclarativeBase

            engine = create_async_engine(os.getenv("PG_DSN", "postgresql+asyncpg://localhost/flat"))
            Session = async_sessionmaker(engine)


            class Base(DeclarativeBase):
                pass


            @asynccontextmanager
            async def lifespan(app: FastAPI) -> AsyncIterator[None]:
                async with engine.begin() as connection:
                    await connection.run_sync(Base.metadata.create_all)
                yield


            app = FastAPI(lifespan=lifespan)


            async def mark_paid(session: AsyncSession, order_id: int, reference: str) -> None:
                await session.execute(text("SELECT 1"))


            async def report(session: AsyncSession, day: date) -> None:
                await session.execute(text("SELECT 2"))
            """,
    },
    "main:mark_paid",
    "main:report",
    "background",
    facts={
        "package": None,
        "settings.database_variable": "PG_DSN",
        "migrations.kind": "create_all",
        "dependencies": ["requirements.txt"],
    },
)
# Sessions that belong to a tenant; the service sets it. Poetry.
TENANT = Shape(
    "tenant-sessions",
    {
        "pyproject.toml": f"""
[tool.poetry]
name = "ledger"
version = "1.0"

[tool.poetry.dependencies]
python = "^3.11"
fastapi = "^0.115"
sqlalchemy = "^2.0"

[tool.poetry.group.dev.dependencies]
pytest = "^8"
{RUFF}""",
        "ledger/__init__.py": "",
        "ledger/main.py": MAIN.format(package="ledger.services", name="invoices"),
        "ledger/config.py": """
            from pydantic import BaseModel
            from pydantic_settings import BaseSettings, SettingsConfigDict


            class Database(BaseModel):
                url: str = "postgresql+asyncpg://localhost/ledger"


            class Settings(BaseSettings):
                model_config = SettingsConfigDict(env_nested_delimiter="__", extra="ignore")

                db: Database = Database()


            config = Settings()
            """,
        "ledger/database.py": """
            from collections.abc import AsyncIterator
            from contextlib import asynccontextmanager

            from sqlalchemy import text
            from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
            from sqlalchemy.orm import declarative_base

            from ledger.config import config

            engine = create_async_engine(config.db.url)
            make_session = async_sessionmaker(engine, expire_on_commit=False)
            Model = declarative_base()
            SET_TENANT = text("SELECT set_config('app.tenant', :tenant, true)")


            @asynccontextmanager
            async def tenant_session(tenant_id: int) -> AsyncIterator[AsyncSession]:
                async with make_session.begin() as session:
                    await session.execute(SET_TENANT, {"tenant": str(tenant_id)})
                    yield session
            """,
        "ledger/services/__init__.py": "",
        "ledger/services/invoices.py": """
            from datetime import date

            from sqlalchemy.ext.asyncio import AsyncSession

            from ledger.database import SET_TENANT


            async def enter(session: AsyncSession, tenant_id: int) -> None:
                await session.execute(SET_TENANT, {"tenant": str(tenant_id)})


            async def mark_paid(session: AsyncSession, tenant_id: int, invoice_id: int) -> None:
                await enter(session, tenant_id)


            async def report(session: AsyncSession, day: date) -> None:
                await enter(session, 1)
            """,
    },
    "ledger.services.invoices:mark_paid",
    "ledger.services.invoices:report",
    "ledger.background",
    facts={
        "package": "ledger",
        "settings.database_variable": "DB__URL",
        "sessions.helpers.1.needs": ["tenant_id"],
        "dependencies": ["pyproject.toml (Poetry)"],
    },
)
# Alembic with two heads; otherwise as the templates expect.
TWO_HEADS = Shape(
    "two-heads",
    {
        "pyproject.toml": PYPROJECT,
        "api/__init__.py": "",
        "api/main.py": MAIN.format(package="api.services", name="orders"),
        "api/core/config.py": """
            from pydantic_settings import BaseSettings


            class Settings(BaseSettings):
                database_url: str = "postgresql+asyncpg://localhost/api"


            settings = Settings()
            """,
        "api/core/database.py": """
            from collections.abc import AsyncIterator
            from contextlib import asynccontextmanager

            from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

            from api.core.config import settings

            engine = create_async_engine(settings.database_url)
            factory = async_sessionmaker(engine, expire_on_commit=False)


            @asynccontextmanager
            async def get_session() -> AsyncIterator[AsyncSession]:
                async with factory.begin() as session:
                    yield session
            """,
        "api/models/base.py": """
            from sqlalchemy.orm import DeclarativeBase


            class Base(DeclarativeBase):
                pass
            """,
        "api/services/orders.py": ASYNC_SERVICE.format(end="await self.session.flush()"),
        "alembic.ini": INI.format(folder="alembic_files"),
        "alembic_files/env.py": ENV.format(
            imports="\nfrom api.models.base import Base", metadata="Base.metadata"
        ),
        "alembic_files/versions/one.py": revision("one", None),
        "alembic_files/versions/left.py": revision("left", "one"),
        "alembic_files/versions/right.py": revision("right", "one"),
    },
    "api.services.orders:OrderService.mark_paid",
    "api.services.orders:OrderService.report",
    "api",
    options=("--head", "left"),
    heads=2,
    facts={"package": "api", "workers_land_in": "api", "migrations.heads": ["left", "right"]},
)
# No database at all.
NO_DATABASE = Shape(
    "no-database",
    {
        "requirements.txt": "fastapi\nhttpx\n",
        "app/__init__.py": "",
        "app/main.py": "from fastapi import FastAPI\n\napp = FastAPI()\n",
        "app/services.py": "async def mark_paid(order_id: int) -> None: ...\n",
    },
    "app.services:mark_paid",
    "app.services:mark_paid",
    "app.background",
    refusal=3,
    facts={"package": "app", "sessions.helpers": [], "migrations.kind": "none"},
)
# Celery is there already, in `celery_app.py` and `tasks.py`; synchronous SQLAlchemy; compiled requirements.
CELERY = Shape(
    "celery-sync",
    {
        "requirements.in": "fastapi\nsqlalchemy\npsycopg2-binary\ncelery\n",
        "requirements.txt": "# autogenerated by pip-compile\nfastapi==0.115\n",
        "ruff.toml": RUFF.replace("tool.ruff.lint", "lint").replace("[tool.ruff]\n", ""),
        "app/__init__.py": "",
        "app/main.py": MAIN.format(package="app.services", name="orders"),
        "app/celery_app.py": 'from celery import Celery\n\ncelery_app = Celery("app")\n',
        "app/tasks.py": """
            from app.celery_app import celery_app


            @celery_app.task
            def ping() -> str:
                return "pong"
            """,
        "app/config.py": """
            from pydantic_settings import BaseSettings


            class Settings(BaseSettings):
                SQLALCHEMY_URL: str = "postgresql+asyncpg://localhost/app"


            settings = Settings()
            """,
        "app/database.py": """
            from collections.abc import Iterator

            from sqlalchemy import create_engine
            from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker

            from app.config import settings

            engine = create_engine(settings.SQLALCHEMY_URL)
            SessionLocal = sessionmaker(bind=engine, autoflush=False)


            class Base(DeclarativeBase):
                pass


            def get_db() -> Iterator[Session]:
                db = SessionLocal()
                try:
                    yield db
                finally:
                    db.close()
            """,
        "app/services/__init__.py": "",
        "app/services/orders.py": SYNC_SERVICE.format(
            session="from sqlalchemy.orm import Session", parameter="session"
        ),
        "app/models.py": "from app.database import Base\n\nmetadata = Base.metadata\n",
    },
    "app.services.orders:mark_paid",
    "app.services.orders:report",
    "app.background",
    facts={
        "workers.Celery": ["app/celery_app.py"],
        "settings.database_variable": "SQLALCHEMY_URL",
        "settings.classes.app.config:Settings.names": "UPPER_CASE",
    },
)
# `create_all` in a script; a base whose models are dataclasses; a helper that loses errors.
CREATE_ALL = Shape(
    "create-all",
    {
        "pyproject.toml": PYPROJECT + MYPY.format(path="server"),
        "uv.lock": "",
        "server/app/__init__.py": "",
        "server/app/main.py": MAIN.format(package="app", name="orders"),
        "server/app/db.py": """
            from collections.abc import AsyncIterator
            from contextlib import asynccontextmanager
            from os import environ

            from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
            from sqlalchemy.orm import DeclarativeBase, MappedAsDataclass

            engine = create_async_engine(environ.get("DB", "postgresql+asyncpg://localhost/x"))
            sessions = async_sessionmaker(engine, expire_on_commit=False)


            class Base(MappedAsDataclass, DeclarativeBase):
                pass


            @asynccontextmanager
            async def session_scope() -> AsyncIterator[AsyncSession]:
                session = sessions()
                try:
                    yield session
                    await session.commit()
                except Exception:
                    await session.rollback()
                finally:
                    await session.close()
            """,
        "server/app/init_db.py": """
            import asyncio

            from app.db import Base, engine


            async def init() -> None:
                async with engine.begin() as connection:
                    await connection.run_sync(Base.metadata.create_all)


            if __name__ == "__main__":
                asyncio.run(init())
            """,
        "server/app/orders.py": ASYNC_SERVICE.format(end="await self.session.flush()"),
    },
    "app.orders:OrderService.mark_paid",
    "app.orders:OrderService.report",
    "app.background",
    facts={
        "import_root": "server",
        "tables.create_all": ["server/app/init_db.py:8"],
        "sessions.helpers.1.swallows_errors": True,
    },
)
# The package is called `src`; settings for each part; one module for each domain.
DOMAINS = Shape(
    "domains-in-src",
    {
        "requirements/base.txt": "fastapi\nsqlalchemy[asyncio]\nasyncpg\n",
        "requirements/dev.txt": "-r base.txt\npytest\n",
        "ruff.toml": RUFF.replace("tool.ruff.lint", "lint").replace("[tool.ruff]\n", ""),
        "src/main.py": MAIN.format(package="src.orders", name="service"),
        "src/config.py": """
            from pydantic_settings import BaseSettings


            class Config(BaseSettings):
                DATABASE_URL: str = "postgresql+asyncpg://localhost/x"


            settings = Config()
            """,
        "src/auth/config.py": """
            from pydantic_settings import BaseSettings


            class AuthConfig(BaseSettings):
                JWT_EXPIRES: int = 5


            auth_settings = AuthConfig()
            """,
        "src/database.py": """
            from collections.abc import AsyncIterator

            from sqlalchemy import MetaData
            from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
            from sqlalchemy.orm import DeclarativeBase

            from src.config import settings

            DATABASE_URL = str(settings.DATABASE_URL)
            engine = create_async_engine(DATABASE_URL)
            reading = async_sessionmaker(engine)
            writing = async_sessionmaker(engine, expire_on_commit=False)


            class Base(DeclarativeBase):
                metadata = MetaData(naming_convention={"pk": "%(table_name)s_pkey"})


            async def get_db_session() -> AsyncIterator[AsyncSession]:
                async with writing() as session:
                    yield session
            """,
        "src/orders/service.py": ASYNC_SERVICE.format(end="await self.session.flush()"),
    },
    "src.orders.service:OrderService.mark_paid",
    "src.orders.service:OrderService.report",
    "src.background",
    facts={"package": "src", "settings.database_variable": "DATABASE_URL", "unclear": []},
)
SHAPES = {
    shape.name: shape
    for shape in (SQLMODEL, BOILERPLATE, FLAT, TENANT, TWO_HEADS, NO_DATABASE, CELERY, CREATE_ALL, DOMAINS)
}
