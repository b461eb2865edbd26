"""How a project gets its database sessions, and who commits them."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from workerkit.look import (
    Code,
    FunctionNode,
    Place,
    assigned,
    called,
    calls,
    decorators,
    keyword,
    last_name,
    required,
    walked,
)

ENGINES = {"create_async_engine": True, "create_engine": False}
FACTORIES = ("async_sessionmaker", "sessionmaker")
SESSIONS = ("Session", "AsyncSession")


@dataclass(frozen=True)
class Engine:
    """An engine with a name in a module, or one that is made inside a function (`name` is empty)."""

    place: Place
    is_async: bool
    address: ast.expr | None
    code: Code


@dataclass(frozen=True)
class Helper:
    """What gives sessions. `form` is `factory`, `context manager`, `generator` or `method`; `needs` are the
    parameters that a caller must give.
    """

    place: Place
    form: str
    is_async: bool
    commits: bool = False
    needs: tuple[str, ...] = ()
    uses: frozenset[str] = frozenset()
    swallows: bool = False
    """Whether an error in the block may end there: a worker would take failed work for done."""

    @property
    def shown(self) -> str:
        """In words."""
        kind = "async" if self.is_async else "sync"
        ends = "commits" if self.commits else "the caller commits"
        needs = f", needs {', '.join(self.needs)}" if self.needs else ""
        swallows = ", swallows errors" if self.swallows else ""
        return f"{self.place.target} ({kind} {self.form}, {ends}{needs}{swallows})"


@dataclass(frozen=True)
class Sessions:
    """All that was found."""

    engines: tuple[Engine, ...] = ()
    helpers: tuple[Helper, ...] = ()
    sqlmodel: bool = False
    dialects: frozenset[str] = frozenset()


def look_at_sessions(codes: Iterable[Code]) -> Sessions:
    """The engines, factories and helpers in the modules."""
    codes = list(codes)
    factories = [factory for code in codes for factory in factories_in(code)]
    names = {factory.place.name: factory for factory in factories}
    helpers = [helper for code in codes for helper in helpers_in(code, names)]
    return Sessions(
        tuple(engine for code in codes for engine in engines_in(code)),
        (*factories, *helpers),
        sqlmodel=any(imports_sqlmodel(code) for code in codes),
        dialects=frozenset(dialect for code in codes for dialect in dialects_in(code)),
    )


def imports_sqlmodel(code: Code) -> bool:
    """Whether a module uses SQLModel."""
    return any(
        isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "sqlmodel"
        for node in code.nodes
    )


def engines_in(code: Code) -> Iterator[Engine]:
    """The engines that a module makes."""
    named = {id(value): name for name, value, _ in assigned(code.body)}
    for call in calls(code, *ENGINES):
        address = call.args[0] if call.args else keyword(call, "url")
        place = Place(code.module, named.get(id(call), ""), code.path, call.lineno)
        yield Engine(place, ENGINES[called(call)], address, code)


def factories_in(code: Code) -> Iterator[Helper]:
    """The sessionmakers of a module."""
    for name, value, node in assigned(code.body):
        maker = called(value.args[0]) if called(value) == "scoped_session" and value.args else called(value)  # type: ignore[attr-defined]
        if maker not in FACTORIES or not isinstance(value, ast.Call):
            continue
        is_async = maker == "async_sessionmaker" or "AsyncSession" in last_name(keyword(value, "class_"))
        yield Helper(Place(code.module, name, code.path, node.lineno), "factory", is_async)


def helpers_in(code: Code, factories: dict[str, Helper]) -> Iterator[Helper]:
    """The functions and methods of a module that yield a session."""
    for node in code.body:
        if isinstance(node, FunctionNode) and gives_session(node, factories):
            yield helper(code, node, node.name, factories)
        elif isinstance(node, ast.ClassDef):
            for inner in node.body:
                if isinstance(inner, FunctionNode) and gives_session(inner, factories):
                    yield helper(code, inner, f"{node.name}.{inner.name}", factories)


def helper(code: Code, node: FunctionNode, name: str, factories: dict[str, Helper]) -> Helper:
    """One such function."""
    managed = bool(decorators(node) & {"asynccontextmanager", "contextmanager"})
    form = "method" if "." in name else "context manager" if managed else "generator"
    return Helper(
        Place(code.module, name, code.path, node.lineno),
        form,
        isinstance(node, ast.AsyncFunctionDef),
        commits=any(True for _ in calls(node, "commit", "begin")),
        needs=tuple(required(node)),
        uses=frozenset(last_name(n) for n in ast.walk(node) if isinstance(n, ast.Name)) & factories.keys(),
        swallows=any(
            not any(isinstance(inner, ast.Raise) for inner in ast.walk(handler))
            for handler in ast.walk(node)
            if isinstance(handler, ast.ExceptHandler)
        ),
    )


def gives_session(node: FunctionNode, factories: dict[str, Helper]) -> bool:
    """Whether it yields what it got from a factory, from `Session(…)` or from another helper, or says that it
    yields sessions.
    """
    yields = [inner for inner in walked(node) if isinstance(inner, ast.Yield) and inner.value is not None]
    if not yields:
        return False
    announced = {last_name(part) for part in ast.walk(node.returns)} if node.returns is not None else set()
    made = {called(inner) for inner in walked(node) if isinstance(inner, ast.Call)}
    return bool(announced & set(SESSIONS) or made & {*SESSIONS, *factories})


def dialects_in(code: Code) -> Iterator[str]:
    """The databases that texts of a module name as addresses."""
    for node in code.nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "://" in node.value:
            scheme = node.value.partition("://")[0].partition("+")[0]
            if scheme in ("postgresql", "postgres", "mysql", "sqlite", "mariadb", "oracle", "mssql"):
                yield scheme
