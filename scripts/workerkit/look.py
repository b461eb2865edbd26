"""What the looks at a project share: where something stands, and small questions to syntax trees."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from workerkit.files import dotted, python_files, tree_of

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Code:
    """A module of the project that could be read."""

    path: Path
    module: str
    tree: ast.Module

    @cached_property
    def body(self) -> list[ast.stmt]:
        """The statements at the top, branches of `if` and `try` included."""
        return list(flat(self.tree.body))

    @property
    def nodes(self) -> tuple[ast.AST, ...]:
        """All nodes of the tree."""
        return walked(self.tree)


@dataclass(frozen=True)
class Place:
    """A name in a module. `attribute` is what follows the name after a dot, if anything."""

    module: str
    name: str
    path: Path
    line: int = 1

    @property
    def target(self) -> str:
        """`module:name`, as options take it."""
        return f"{self.module}:{self.name}"


@cache
def walked(node: ast.AST) -> tuple[ast.AST, ...]:
    """A node and all below it. Looks come back to the same ones."""
    return tuple(ast.walk(node))


def read_code(folder: Path, import_root: Path) -> tuple[list[Code], list[Path]]:
    """The modules below a folder that parse, and the files that do not."""
    codes, broken = [], []
    for path in python_files(folder):
        tree = tree_of(path)
        if tree is None:
            broken.append(path)
        elif path.is_relative_to(import_root):
            codes.append(Code(path, dotted(path, import_root), tree))
    return codes, broken


def flat(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements, and those inside `if`, `try` and `with` at the same level."""
    for node in body:
        yield node
        if isinstance(node, ast.If | ast.Try | ast.With):
            yield from flat([*node.body, *getattr(node, "orelse", [])])


def called(node: ast.AST | None) -> str:
    """The last part of the name of what a call calls; empty for anything else."""
    return last_name(node.func) if isinstance(node, ast.Call) else ""


def last_name(node: ast.AST | None) -> str:
    """The last part of a dotted name: `Session` for `orm.Session` and `Session[int]`."""
    if isinstance(node, ast.Subscript):
        node = node.value
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value.rpartition(".")[2]
    return str(getattr(node, "id", getattr(node, "attr", "")))


def calls(node: ast.AST | Code, *names: str) -> Iterator[ast.Call]:
    """The calls of something with one of these names."""
    for inner in walked(node.tree if isinstance(node, Code) else node):
        if isinstance(inner, ast.Call) and called(inner) in names:
            yield inner


def assigned(body: list[ast.stmt]) -> Iterator[tuple[str, ast.expr, ast.stmt]]:
    """Names that plain assignments bind, with the value."""
    for node in body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                yield name, value, node
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                yield name, value, node


def decorators(node: FunctionNode | ast.ClassDef) -> set[str]:
    """The last parts of the decorators' names."""
    return {last_name(d.func if isinstance(d, ast.Call) else d) for d in node.decorator_list}


def required(node: FunctionNode) -> list[str]:
    """The parameters that have no default; a dependency of FastAPI's counts as one without."""
    arguments = node.args
    positional = [*arguments.posonlyargs, *arguments.args]
    plain = positional[: len(positional) - len(arguments.defaults)]
    given = [*arguments.defaults, *(d for d in arguments.kw_defaults if d is not None)]
    pairs = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    missing = [a.arg for a in plain] + [a.arg for a, default in pairs if default is None]
    if any(called(default) in ("Depends", "Security") for default in given):
        missing.append("Depends(…)")
    return [name for name in missing if name not in ("self", "cls")]


def keyword(call: ast.Call, name: str) -> ast.expr | None:
    """The value of a keyword argument."""
    return next((k.value for k in call.keywords if k.arg == name), None)


def text_value(node: ast.expr | None) -> str | None:
    """The text of a constant."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None
