"""The database that tests start from: the shop's migrations, then the tables that the templates add."""

import asyncio
import importlib
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

from support.workers import IMPORT_PATH, ROOT

SHOP = ROOT / "examples" / "shop"


class SchemaError(RuntimeError):
    """A migration or the creation of the tables failed."""


def build(url: str) -> None:
    """Bring the empty database at `url` to the newest schema.

    In processes of their own, since the settings of the shop and its engine are made at import.
    """
    _run(url, [sys.executable, "-m", "alembic", "upgrade", "head"], cwd=SHOP, path=[SHOP])
    _run(url, [sys.executable, "-m", "support.schema"], cwd=ROOT, path=IMPORT_PATH)


def _run(url: str, command: list[str], *, cwd: Path, path: "list[Path] | tuple[Path, ...]") -> None:
    env = {**os.environ, "DATABASE_URL": url, "PYTHONPATH": os.pathsep.join(map(str, path))}
    result = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise SchemaError(f"{' '.join(command)}\n{result.stdout}{result.stderr}")


async def _create_missing_tables() -> None:
    import app.models
    from app.core.database import engine
    from app.models.base import Base

    for module in pkgutil.iter_modules(app.models.__path__):
        importlib.import_module(f"app.models.{module.name}")
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    await engine.dispose()


if __name__ == "__main__":
    asyncio.run(_create_missing_tables())
