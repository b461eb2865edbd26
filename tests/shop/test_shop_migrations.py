"""The migrations, run with alembic's own command in the shop's folder."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

SHOP = Path(__file__).resolve().parents[2] / "examples" / "shop"

Alembic = Callable[..., str]

COUPONS = """
from app.models.base import Base
from sqlalchemy.orm import Mapped, mapped_column


class Coupon(Base):
    __tablename__ = "coupon"

    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str] = mapped_column(unique=True)
"""


async def tables(url: str) -> set[str]:
    engine = create_async_engine(url, poolclass=NullPool)
    async with engine.connect() as connection:
        return set(await connection.scalars(text("SELECT relname FROM pg_stat_user_tables")))


async def test_up_no_difference_down(empty_database: str, alembic: Alembic) -> None:
    # When the schema is built, compared with the models, and taken down
    said = alembic(empty_database, "upgrade head", "check", "downgrade base")

    # Then there was no difference, and nothing is left
    assert "No new upgrade operations detected" in said
    assert await tables(empty_database) == {"alembic_version"}


def test_new_model_module_is_found_and_its_migration_is_named_by_time(
    empty_database: str, alembic: Alembic, tmp_path: Path
) -> None:
    # Given a copy of the shop with one more module of models
    shop = tmp_path / "shop"
    shutil.copytree(SHOP, shop, ignore=shutil.ignore_patterns("__pycache__"))
    (shop / "app" / "models" / "coupons.py").write_text(COUPONS)

    # When a revision is generated
    alembic(empty_database, "upgrade head", "revision --autogenerate -m coupons", folder=shop)

    # Then it follows the first, creates the table, and file and id carry the time
    (made,) = (shop / "migrations" / "versions").glob("*_coupons.py")
    stamp = made.name.removesuffix("_coupons.py")
    assert re.fullmatch(r"20\d{6}_\d{4}", stamp)
    content = made.read_text()
    assert f"revision = '{stamp}'" in content
    assert "down_revision = '20260105_0900'" in content
    assert "create_table('coupon'" in content


def test_sql_can_be_printed_without_a_database(alembic: Alembic) -> None:
    nowhere = "postgresql+asyncpg://nobody@127.0.0.1:1/none"
    assert "CREATE TABLE customer_order" in alembic(nowhere, "upgrade head --sql")
