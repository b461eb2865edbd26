"""A project's tables: the declarative base with its metadata, and who creates them."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from workerkit.look import Code, FunctionNode, Place, assigned, called, calls, keyword, last_name, text_value

COLUMNS = {"mapped_column", "Column", "relationship"}


@dataclass(frozen=True)
class Base:
    """A declarative base. `plain` when it adds nothing to its models but types; `schema` is that of its
    metadata.
    """

    place: Place
    plain: bool
    schema: str = ""


@dataclass(frozen=True)
class CreateAll:
    """A call of `create_all`, and the line and the indentation of the statement that makes it."""

    place: Place
    indent: int


@dataclass(frozen=True)
class Tables:
    """All that was found. `sqlmodel` when there are tables of SQLModel."""

    bases: tuple[Base, ...] = ()
    sqlmodel: bool = False
    creations: tuple[CreateAll, ...] = ()


def look_at_tables(codes: Iterable[Code]) -> Tables:
    """The bases in the modules, and the calls of `create_all`."""
    codes = list(codes)
    return Tables(
        tuple(base for code in codes for base in bases_in(code)),
        sqlmodel=any(is_sqlmodel_table(node) for code in codes for node in code.nodes),
        creations=tuple(creation for code in codes for creation in creations_in(code)),
    )


def bases_in(code: Code) -> Iterator[Base]:
    """The declarative bases of a module."""
    schemas = {text_value(keyword(call, "schema")) for call in calls(code, "MetaData")} - {None, ""}
    schema = next(iter(sorted(filter(None, schemas))), "")
    for node in code.body:
        if isinstance(node, ast.ClassDef) and "DeclarativeBase" in {last_name(base) for base in node.bases}:
            place = Place(code.module, node.name, code.path, node.lineno)
            yield Base(place, adds_nothing(node), schema)
    for name, value, node in assigned(code.body):
        if called(value) in ("declarative_base", "automap_base"):
            plain = isinstance(value, ast.Call) and keyword(value, "cls") is None
            yield Base(Place(code.module, name, code.path, node.lineno), plain, schema)


def adds_nothing(node: ast.ClassDef) -> bool:
    """Whether models get no columns, methods or other bases from the class."""
    alone = [last_name(base) for base in node.bases] == ["DeclarativeBase"]
    adds = any(
        isinstance(inner, FunctionNode) or called(getattr(inner, "value", None)) in COLUMNS
        for inner in node.body
    )
    return alone and not adds


def is_sqlmodel_table(node: ast.AST) -> bool:
    """Whether it is a class with `table=True`."""
    return isinstance(node, ast.ClassDef) and any(
        k.arg == "table" and isinstance(k.value, ast.Constant) and k.value.value is True
        for k in node.keywords
    )


def creations_in(code: Code) -> Iterator[CreateAll]:
    """The statements with `metadata.create_all`, called or handed on to `run_sync`."""
    found = [node for node in code.nodes if isinstance(node, ast.Attribute) and node.attr == "create_all"]
    found = [node for node in found if last_name(node.value) in ("metadata", "metadata_obj")]
    for node in code.nodes if found else ():
        if isinstance(node, ast.Expr) and any(inner in found for inner in ast.walk(node)):
            yield CreateAll(Place(code.module, "create_all", code.path, node.lineno), node.col_offset)
