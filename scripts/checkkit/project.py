"""The project as a whole: functions that call each other across files, types, versions, settings."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

from checkkit.celery_config import CeleryConfig
from checkkit.facts import CallFact, ClassFact, FunctionFact, ModuleFact
from checkkit.notes import Note, TextFile
from checkkit.versions import Versions

DEEPEST = 8


@dataclass
class Project:
    """What is known when every file was read once."""

    modules: dict[str, ModuleFact] = field(default_factory=dict)
    texts: list[TextFile] = field(default_factory=list)
    versions: Versions = field(default_factory=Versions)
    celery: CeleryConfig = field(default_factory=CeleryConfig)
    called: set[str] = field(default_factory=set)
    mentioned: set[str] = field(default_factory=set)
    notes: dict[str, list[Note]] = field(default_factory=dict)
    # Answers that were given before; asked for only when every module is known.
    names: dict[str, str] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    callees: dict[str, FunctionFact | None] = field(default_factory=dict)
    blockers: dict[str, tuple[str, str]] = field(default_factory=dict)
    senders: dict[str, str] = field(default_factory=dict)

    @cached_property
    def functions(self) -> dict[str, FunctionFact]:
        """Every function by its dotted name."""
        return {one.name: one for module in self.modules.values() for one in module.functions}

    @cached_property
    def classes(self) -> dict[str, ClassFact]:
        """Every class by its dotted name."""
        return {
            f"{name}.{inner}".removeprefix("."): one
            for name, module in self.modules.items()
            for inner, one in module.classes.items()
        }

    def split(self, name: str) -> tuple[ModuleFact, str] | None:
        """The module that a dotted name is in, and the rest of the name."""
        head, rest = name, ""
        while head:
            if head in self.modules and rest:
                return self.modules[head], rest
            head, _, last = head.rpartition(".")
            rest = f"{last}.{rest}" if rest else last
        return (self.modules[""], rest) if "" in self.modules and rest else None

    def canonical(self, name: str) -> str:
        """Where a name is defined, if another module passes it on."""
        if name not in self.names:
            self.names[name] = self._canonical(name)
        return self.names[name]

    def _canonical(self, name: str) -> str:
        for _ in range(DEEPEST):
            found = self.split(name)
            if found is None:
                return name
            module, rest = found
            first, dot, last = rest.partition(".")
            if first not in module.imports or name.endswith(f"{module.imports[first]}{dot}{last}"):
                return name
            name = module.imports[first] + dot + last
        return name

    def type_of(self, name: str) -> str:
        """What a dotted name is: for a variable what made it, for a function what it gives."""
        if name not in self.types:
            self.types[name] = self._type_of(name)
        return self.types[name]

    def _type_of(self, name: str) -> str:
        for _ in range(DEEPEST):
            known = self._step(self.canonical(name))
            if known in {"", name}:
                return self.canonical(name)
            name = known
        return name

    def _step(self, name: str) -> str:
        plain = name.removesuffix("()")
        if plain in self.functions:
            return self.functions[plain].returns
        found = self.split(name)
        if found is None:
            return ""
        module, rest = found
        first, dot, last = rest.partition(".")
        bare = first.removesuffix("()")
        if bare in module.types and module.types[bare] != name:
            return module.types[bare] + first[len(bare) :] + dot + last
        return ""

    def function(self, target: str) -> FunctionFact | None:
        """The function of the project that is called, methods of base classes included."""
        if target not in self.callees:
            self.callees[target] = self._function(target)
        return self.callees[target]

    def _function(self, target: str) -> FunctionFact | None:
        name = self.canonical(target)
        if name in self.functions:
            return self.functions[name]
        owner, _, method = name.rpartition(".")
        owner = self.type_of(owner) if owner else ""
        for _ in range(DEEPEST):
            if f"{owner}.{method}" in self.functions:
                return self.functions[f"{owner}.{method}"]
            known = self.classes.get(owner)
            if known is None or not known.bases:
                return None
            owner = self.canonical(known.bases[0])
        return None

    def reach(
        self, start: FunctionFact, *, into: Callable[[CallFact, FunctionFact], bool] = lambda _c, _f: True
    ) -> Iterator[tuple[FunctionFact, CallFact]]:
        """Every call that running `start` may make, through functions of the project."""
        seen, work = {start.name}, [(start, 0)]
        while work:
            function, depth = work.pop()
            for call in function.calls:
                yield function, call
                callee = self.function(call.target) if depth < DEEPEST else None
                if callee and callee.name not in seen and into(call, callee):
                    seen.add(callee.name)
                    work.append((callee, depth + 1))

    def is_task(self, function: FunctionFact) -> bool:
        """Whether Celery runs it."""
        return any(self.is_task_decorator(name) for name in function.decorators)

    def is_task_decorator(self, name: str) -> bool:
        """Whether it is `shared_task`, or `task` of a Celery app."""
        if name.rpartition(".")[2] == "shared_task":
            return name.startswith("celery")
        owner, _, last = name.rpartition(".")
        if last != "task" or not owner:
            return False
        made = self.type_of(owner)
        return made.startswith("celery.") or (made == self.canonical(owner) and "celery" in owner.lower())

    def is_task_name(self, name: str) -> bool:
        """Whether a dotted name is a Celery task; one from outside the project by its module's name."""
        name = self.canonical(name)
        if name in self.functions:
            return self.is_task(self.functions[name])
        module = name.rpartition(".")[0]
        known = self.split(name) is not None
        return (
            not known and bool(re.search(r"(^|[._])(celery|tasks?)($|[._])", module)) and self.uses("celery")
        )

    def uses(self, package: str) -> bool:
        """Whether the project imports or requires it."""
        return package in self.imported or package in self.versions.named

    @cached_property
    def imported(self) -> set[str]:
        """The top-level packages that are imported."""
        return {name.partition(".")[0] for m in self.modules.values() for name in m.imports.values()}

    @cached_property
    def unawaited(self) -> list[tuple[FunctionFact, CallFact, FunctionFact | None]]:
        """The calls that coroutines do not await, and which plain function of the project each calls."""
        found = []
        for caller in self.functions.values():
            for call in caller.calls if caller.is_async else ():
                if not call.awaited:
                    helper = self.function(call.target)
                    plain = helper is not None and not helper.is_async and not helper.yields
                    found.append((caller, call, helper if plain else None))
        return found

    def through(self, helper: FunctionFact) -> Iterator[tuple[FunctionFact, CallFact]]:
        """Every call that a plain function makes, itself or through other plain functions."""
        return self.reach(helper, into=lambda _c, f: not f.is_async and not f.yields)

    def imports(self, name: str) -> bool:
        """Whether some module imports something of this name, from wherever."""
        return any(
            one.rpartition(".")[2] == name for m in self.modules.values() for one in m.imports.values()
        )

    @cached_property
    def streaming(self) -> set[str]:
        """The top-level packages that answer with streams of events."""
        kinds = {"EventSourceResponse"}
        kinds |= {"StreamingResponse"} if "event-stream" in self.mentioned else set()
        functions = self.functions.values() if kinds & self.called else ()
        found = (f for f in functions if any(c.target.rpartition(".")[2] in kinds for c in f.calls))
        return {function.name.partition(".")[0] for function in found}

    @cached_property
    def packages(self) -> set[str]:
        """The packages that are imported or required."""
        return self.imported | self.versions.named | set(self.versions.exact)

    @cached_property
    def awaits_tasks(self) -> bool:
        """Whether a package gives Celery a pool, or tasks, that await."""
        names = [name for name in self.packages if "celery" in name]
        return any("aio" in name or "async" in name for name in names)

    def is_table(self, name: str) -> bool:
        """Whether it is a mapped class."""
        known = self.classes.get(self.canonical(name))
        for _ in range(DEEPEST):
            if known is None or known.is_table:
                return known is not None
            known = self.classes.get(self.canonical(known.bases[0])) if known.bases else None
        return False

    def is_model(self, name: str) -> bool:
        """Whether it is a class of pydantic, and no table of SQLModel."""
        known = self.classes.get(self.canonical(name))
        for _ in range(DEEPEST):
            if known is None or not known.bases:
                return False
            base = self.canonical(known.bases[0])
            if base.startswith("pydantic.") and base.endswith("BaseModel"):
                return True
            known = self.classes.get(base)
        return False
