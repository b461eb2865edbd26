"""Tables."""

from library.models.base import Base
from sqlalchemy import ForeignKey, Text
from sqlalchemy.orm import Mapped, mapped_column


class Book(Base):
    """A book; `copies` are on the shelf."""

    __tablename__ = "book"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(Text)
    text: Mapped[str] = mapped_column(Text)
    copies: Mapped[int] = mapped_column(server_default="0")


class Arrival(Base):
    """Copies that came in; the supplier is paid by these lines."""

    __tablename__ = "arrival"

    id: Mapped[int] = mapped_column(primary_key=True)
    book_id: Mapped[int] = mapped_column(ForeignKey("book.id"))
    copies: Mapped[int]


class Export(Base):
    """A list of all books that was made for a member."""

    __tablename__ = "export"

    id: Mapped[int] = mapped_column(primary_key=True)
    reference: Mapped[str] = mapped_column(Text)
    lines: Mapped[int]


class Summary(Base):
    """What the model wrote about a book."""

    __tablename__ = "summary"

    id: Mapped[int] = mapped_column(primary_key=True)
    book_id: Mapped[int] = mapped_column(ForeignKey("book.id"))
    text: Mapped[str] = mapped_column(Text)
