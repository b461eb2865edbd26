"""Where a class, a method or a function of the project is defined, following the project's own imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from workerkit.errors import ServiceError
from workerkit.project import Project
from workerkit.source import Function, Module


@dataclass(frozen=True)
class Found:
    """A definition and the module that it stands in."""

    module: Module
    node: ast.stmt


@dataclass(frozen=True)
class FoundFunction:
    """A function or method and the module that it stands in."""

    module: Module
    node: Function


def resolve(project: Project, module: Module, name: str) -> Found | None:
    """The definition of `name` as `module` sees it; None when it comes from outside the project."""
    for _ in range(10):  # imports that run in a circle
        node = module.top_level.get(name)
        if not isinstance(node, ast.Import | ast.ImportFrom):
            return Found(module, node) if node is not None else None
        import_ = module.imported(name)
        source = project.module(import_.module) if import_ is not None and import_.name else None
        if import_ is None or source is None:
            return None
        module, name = source, import_.name
    return None


def class_of(project: Project, module: Module, name: str) -> Found:
    """The class `name`. Raises ServiceError."""
    found = resolve(project, module, name)
    if found is None or not isinstance(found.node, ast.ClassDef):
        raise ServiceError(f"{project.shown(module.path)}: no class {name}")
    return found


def function_of(project: Project, module: Module, name: str) -> FoundFunction:
    """The plain function `name`. Raises ServiceError."""
    found = resolve(project, module, name)
    if found is None or not isinstance(found.node, Function):
        raise ServiceError(f"{project.shown(module.path)}: no function {name}")
    return FoundFunction(found.module, found.node)


def method_of(project: Project, class_: Found, name: str) -> FoundFunction:
    """The method `name`, its own or inherited. Raises ServiceError."""
    for found in methods(project, class_):
        if found.node.name == name:
            return found
    owner = getattr(class_.node, "name", "")
    raise ServiceError(f"{project.shown(class_.module.path)}: class {owner} has no method {name}")


def methods(project: Project, class_: Found) -> Iterator[FoundFunction]:
    """Methods of a class, then those of its base classes as far as they are the project's own."""
    if not isinstance(class_.node, ast.ClassDef):
        return
    for node in class_.node.body:
        if isinstance(node, Function):
            yield FoundFunction(class_.module, node)
    for base in class_.node.bases:
        root = base.value if isinstance(base, ast.Subscript) else base  # BaseService[Order]
        found = resolve(project, class_.module, root.id) if isinstance(root, ast.Name) else None
        if found is not None:
            yield from methods(project, found)
