"""Rules about jobs: rows with a status that workers claim, and that users ask for."""

from __future__ import annotations

import ast
import re

from checkkit.look import Look, called_names
from checkkit.nodes import inside, last_name, text_of
from checkkit.project import Project
from checkkit.rule import Places, in_module
from checkkit.rules_celery_retries import is_retry
from checkkit.rules_twice import source_of
from checkkit.scope import Scope

BEGUN = {"running", "processing", "in_progress", "started", "claimed", "working"}
FAILED = {"failed", "error", "errored", "failure"}
LOADS = {"get", "get_one", "scalar", "scalar_one", "scalar_one_or_none", "one", "one_or_none", "first"}
LOCKED = re.compile(
    r"for_update|FOR UPDATE|skip_locked|advisory|begin_nested|\.lock\(|\bupdate\(|version_id|UPDATE "
)
LEASED = re.compile(r"lease|lock|heartbeat|claim|attempt|until|beat|owner_?pid")
OWNERS = {"owner_id", "tenant_id", "user_id", "account_id", "organisation_id", "organization_id"}
OWNED = re.compile(r"owner|tenant|user|account|organi[sz]ation|customer|principal|current_|permission|auth")
WORKERS = re.compile(r"worker|jobs?\b|task|llm|consum|anthropic|openai", re.IGNORECASE)
TOLD = re.compile(r"webhook|notify|callback", re.IGNORECASE)


def state(node: ast.expr) -> str:
    """The state that a value names: a text, or a member of an enumeration."""
    if isinstance(node, ast.Attribute) and node.attr == "value":
        node = node.value
    return (last_name(node) if isinstance(node, ast.Attribute) else text_of(node)).lower()


@in_module("OUT07")
def claimed_by_two(look: Look) -> Places:
    """A row that two workers find free."""
    for node in look.nodes(ast.Assign):
        assert isinstance(node, ast.Assign)
        target = node.targets[0]
        if not isinstance(target, ast.Attribute) or target.attr not in {"status", "state"}:
            continue
        scope = look.module.function(node)
        if scope is None or state(node.value) not in BEGUN or look.is_route(scope):
            continue
        loaded = isinstance(target.value, ast.Name) and is_loaded(look, target.value.id, scope)
        if loaded and not LOCKED.search(source_of(look, scope)):
            yield node


def is_loaded(look: Look, name: str, scope: Scope) -> bool:
    """Whether a name is a row that a session gave."""
    for value in scope.binds.get(name, ()):
        inner = value.value if isinstance(value, ast.Await) else value
        while isinstance(inner, ast.Call) and isinstance(inner.func, ast.Attribute):
            if inner.func.attr in LOADS and look.is_session(inner.func.value, scope):
                return True
            inner = inner.func.value
            inner = inner.value if isinstance(inner, ast.Await) else inner
            if isinstance(inner, ast.Name):
                inner = next(iter(scope.binds.get(inner.id, ())), inner)
                inner = inner.value if isinstance(inner, ast.Await) else inner
                if isinstance(inner, ast.Call) and last_name(inner.func) == "execute":
                    return True
    return False


@in_module("OUT08")
def blocked_by_one(look: Look) -> Places:
    """An outbox in which one row that cannot be sent holds up all others."""
    for scope, columns in tables(look):
        if re.search(r"outbox", scope.name, re.IGNORECASE):
            if not any(
                re.search(r"attempt|retr|next_|error|fail|dead|tries|refus|reject", one) for one in columns
            ):
                yield scope.node


@in_module("OUT09")
def runs_for_ever(look: Look) -> Places:
    """A job whose worker died, and which nobody can tell from one that runs."""
    for scope, columns in tables(look):
        if scope.name.endswith("Job") and {"status", "state"} & columns:
            if not any(LEASED.search(one) for one in columns):
                yield scope.node


def tables(look: Look) -> list[tuple[Scope, set[str]]]:
    """The mapped classes of a module with the names of their own columns."""
    found = []
    for scope in look.module.scopes:
        if isinstance(scope.node, ast.ClassDef) and "__tablename__" in scope.binds:
            columns = {name for name in scope.binds if not name.startswith("_")}
            if not any("Mixin" in last_name(base) for base in scope.node.bases):
                found.append((scope, columns))
    return found


@in_module("LLM06")
def told_and_retried(look: Look) -> Places:
    """The customer hears that it failed, and then it is tried again."""
    for node in look.nodes(ast.ExceptHandler) if look.tasks() else ():
        assert isinstance(node, ast.ExceptHandler)
        for index, one in enumerate(node.body):
            retried = any(isinstance(c, ast.Call) and is_retry(look, c) for c in inside([one]))
            if retried and not isinstance(one, ast.If) and any(is_final(s) for s in node.body[:index]):
                yield one
                break


def is_final(statement: ast.stmt) -> bool:
    """Whether it says that a job has failed: sets the state, or tells somebody."""
    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Attribute):
        return statement.targets[0].attr in {"status", "state"} and state(statement.value) in FAILED
    return isinstance(statement, ast.Expr) and any(TOLD.search(name) for name in called_names([statement]))


@in_module("SEC07", "get")
def anybody_s(look: Look) -> Places:
    """A route that gives a job to whoever knows its id."""
    for call, scope in look.calls("get"):
        asks = len(call.args) > 1 and isinstance(call.func, ast.Attribute) and look.is_route(scope)
        if not asks or OWNED.search(signature_and_body(look, scope)):
            continue
        assert isinstance(call.func, ast.Attribute)
        table = look.name(call.args[0])
        given = isinstance(call.args[1], ast.Name) and call.args[1].id in scope.parameters
        if given and owned_job(look.project, table) and look.is_session(call.func.value, scope):
            yield call


def signature_and_body(look: Look, scope: Scope) -> str:
    """The lines of a route with its decorators, which may name dependencies."""
    start = min([one.lineno for one in scope.decorators], default=1) - 1
    return "\n".join(look.module.lines[start : getattr(scope.node, "end_lineno", start + 1)])


def owned_job(project: Project, name: str) -> bool:
    """Whether it is a table of jobs with a column for their owner."""
    known = project.classes.get(name)
    job = re.search(r"(Job|Task|Run|Export)$", name)
    return bool(job and known is not None and project.is_table(name) and OWNERS & known.fields.keys())


@in_module("LLM07", "sleep")
def sleeps_in_its_slot(look: Look) -> Places:
    """A worker that waits for as long as the provider says, and does nothing else."""
    for call, scope in look.calls("sleep"):
        if look.name(call.func) not in {"time.sleep", "asyncio.sleep"} or not call.args:
            continue
        wait = call.args[0]
        sources = [wait, *scope.binds.get(wait.id, ())] if isinstance(wait, ast.Name) else [wait]
        words = " ".join(ast.unparse(one) for one in sources).lower().replace("-", "_")
        if "retry_after" in words and "min(" not in words and in_worker(look, scope):
            yield call


def in_worker(look: Look, scope: Scope) -> bool:
    """Whether a module speaks of workers, jobs or models."""
    return bool(WORKERS.search(f"{look.module.name} {scope.name} {look.module.imports.values()}"))
