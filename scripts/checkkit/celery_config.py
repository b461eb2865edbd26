"""The settings of the project's Celery apps, as far as they can be read."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field

from checkkit.infer import Inference
from checkkit.nodes import constant, dotted, is_open, last_name, text_of
from checkkit.scope import Scope
from checkkit.syntax import Module

UNKNOWN = ...
DEEPEST = 4
# Names of Celery 3, which 5 still reads.
OLD = {
    "celery_acks_late": "task_acks_late",
    "celery_task_serializer": "task_serializer",
    "celery_accept_content": "accept_content",
    "celery_timezone": "timezone",
    "celerybeat_schedule": "beat_schedule",
    "celery_always_eager": "task_always_eager",
    "celery_task_result_expires": "result_expires",
}
ARGUMENTS = {"broker": "broker_url", "backend": "result_backend"}


@dataclass(frozen=True)
class Setting:
    """A value and where it is set; `...` when it is no constant."""

    value: object
    path: str
    line: int
    column: int
    node: ast.expr | None = None


@dataclass
class CeleryConfig:
    """All settings. `open` when there may be more than could be read."""

    settings: dict[str, list[Setting]] = field(default_factory=dict)
    apps: list[Setting] = field(default_factory=list)
    open: bool = False
    objects: list[str] = field(default_factory=list)
    by_module: dict[str, dict[str, Setting]] = field(default_factory=dict)

    def read(self, module: Module) -> None:
        """Add what a module that speaks of Celery sets."""
        self.by_module[module.name] = {
            normal(name): setting(module, values[-1])
            for name, values in module.top.binds.items()
            if name.isidentifier() and "_" in name
        }
        for scope in module.scopes:
            if isinstance(scope.node, ast.ClassDef) and scope.binds:
                self.by_module[f"{module.name}.{scope.name}"] = {
                    normal(name): setting(module, values[-1]) for name, values in scope.binds.items()
                }
        inference = Inference(module)
        for call, _ in module.calls("Celery"):
            if module.resolve(call.func) in {"celery.Celery", "celery.app.Celery", "celery.app.base.Celery"}:
                self._app(module, call)
        for call, scope in module.calls("update", "config_from_object", "config_from_envvar", "setdefault"):
            self._call(module, call, scope, inference)
        self._assignments(module, inference)

    def _app(self, module: Module, call: ast.Call) -> None:
        self.apps.append(setting(module, call))
        self.open |= is_open(call)
        for one in call.keywords:
            if one.arg == "config_source":
                self.open = True
            elif one.arg:
                self.add(ARGUMENTS.get(one.arg, one.arg), setting(module, one.value))

    def _call(self, module: Module, call: ast.Call, scope: Scope, inference: Inference) -> None:
        assert isinstance(call.func, ast.Attribute | ast.Name)
        if not isinstance(call.func, ast.Attribute) or not is_app(call.func.value, module, scope, inference):
            return
        if call.func.attr == "config_from_object" and call.args:
            name = text_of(call.args[0]) or module.resolve(call.args[0])
            self.objects.append(name.replace(":", "."))
            self.open |= not name
        elif call.func.attr == "update":
            self._update(module, call)
        else:
            self.open = True

    def _update(self, module: Module, call: ast.Call) -> None:
        self.open |= any(k.arg is None and not isinstance(k.value, ast.Dict) for k in call.keywords)
        self.open |= any(not isinstance(a, ast.Dict) for a in call.args)
        for one in call.keywords:
            if one.arg:
                self.add(one.arg, setting(module, one.value))
        dicts = [*call.args, *(k.value for k in call.keywords if k.arg is None)]
        for one_dict in dicts:
            if isinstance(one_dict, ast.Dict):
                self._dict(module, one_dict)

    def _dict(self, module: Module, node: ast.Dict) -> None:
        for key, value in zip(node.keys, node.values, strict=True):
            name = text_of(key)
            self.open |= not name
            if name:
                self.add(name, setting(module, value))

    def _assignments(self, module: Module, inference: Inference) -> None:
        for node in module.of[ast.Assign]:
            assert isinstance(node, ast.Assign)
            target = node.targets[0]
            holder: ast.expr
            if isinstance(target, ast.Attribute) and last_name(target.value) == "conf":
                holder, name = target.value, target.attr
            elif isinstance(target, ast.Subscript) and last_name(target.value) == "conf":
                holder, name = target.value, text_of(target.slice)
            else:
                continue
            if is_app(holder, module, module.scope(node), inference):
                self.open |= not name
                self.add(name, setting(module, node.value))

    def add(self, name: str, value: Setting) -> None:
        """Note a setting."""
        self.settings.setdefault(normal(name), []).append(value)

    def finish(self) -> None:
        """Add what `config_from_object` names, now that every module is read."""
        for name in self.objects:
            found = self.by_module.get(name)
            if found is None:
                self.open = True
            for key, value in (found or {}).items():
                self.add(key, value)

    @property
    def closed(self) -> bool:
        """Whether what is not set is certain not to be set."""
        return len(self.apps) == 1 and not self.open

    def get(self, name: str) -> Setting | None:
        """The last value of a setting."""
        found = self.settings.get(name)
        return found[-1] if found else None

    def value(self, name: str) -> object:
        """Its constant; None when it is not set, `...` when it is no constant."""
        found = self.get(name)
        return found.value if found else None

    @property
    def transport_options(self) -> dict[str, object] | None:
        """`broker_transport_options`; None when they cannot be read."""
        found = self.get("broker_transport_options")
        if found is None:
            return {} if self.closed else None
        return found.value if isinstance(found.value, dict) and UNKNOWN not in found.value else None

    def scheme(self) -> str:
        """`redis` or `amqp`; empty when it cannot be told."""
        value = self.value("broker_url")
        if not isinstance(value, str):
            return ""
        value = value.lower()
        if value.startswith(("redis://", "rediss://")):
            return "redis"
        return "amqp" if value.startswith(("amqp://", "amqps://", "pyamqp://", "pyamqps://")) else ""


def normal(name: str) -> str:
    """The lower-case name of Celery 4 and later."""
    lower = name.lower()
    if lower in OLD:
        return OLD[lower]
    return lower.removeprefix("celery_") if name.isupper() else lower


def is_app(node: ast.expr, module: Module, scope: Scope, inference: Inference) -> bool:
    """Whether it is a Celery app, or its `conf`."""
    if isinstance(node, ast.Attribute) and node.attr == "conf":
        node = node.value
    made = inference.of(node, scope)
    return made.startswith("celery.") or "celery" in (dotted(node) + module.resolve(node)).lower()


def setting(module: Module, node: ast.expr) -> Setting:
    """A value and its place."""
    line = getattr(node, "lineno", 1)
    return Setting(literal(node), module.shown, line, getattr(node, "col_offset", 0) + 1, node)


def literal(node: ast.expr | None, depth: int = 0) -> object:
    """Constants, lists and dicts of them; `...` for what is none. A broker's address may be a default."""
    if node is None or depth > DEEPEST:
        return None if node is None else UNKNOWN
    if isinstance(node, ast.Dict):
        return {
            (constant(k) if k is not None else UNKNOWN): literal(v, depth + 1)
            for k, v in zip(node.keys, node.values, strict=True)
        }
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        return [literal(one, depth + 1) for one in node.elts]
    if isinstance(node, ast.Call) and last_name(node.func) in {"getenv", "get"} and len(node.args) == 2:
        return text_of(node.args[1]) or UNKNOWN
    if isinstance(node, ast.JoinedStr):
        return text_of(node) or UNKNOWN
    return constant(node)
