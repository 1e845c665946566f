"""Probes: calls put into a copy of the mutated files, which write down the test that executes a statement.

A probe works where a tracer does not: in threads, in greenlets and in processes that a test starts.
"""

import ast
import json
import os
from collections.abc import Collection
from pathlib import Path

HITS = "CIRIS_TEST_HITS"
"""Environment variable: the file that gets the hits, a JSON array a line."""
AT_IMPORT = "import"
"""The place of a hit outside of every test."""

current = os.environ.get("PYTEST_CURRENT_TEST", AT_IMPORT).rpartition(" (")[0] or AT_IMPORT
"""The test or shared fixture that runs now. A process that a test starts inherits it from pytest's variable."""
_seen: set[tuple[str, str]] = set()


def write(*row: object) -> None:
    if HITS not in os.environ:  # a process that a test starts in a separate environment
        return
    with Path(os.environ[HITS]).open("a", encoding="utf-8") as file:  # one short line, appended as a whole
        file.write(json.dumps(row) + "\n")


def hit(statement: str) -> None:
    """Write down that `current` executes a statement, once."""
    if (current, statement) not in _seen:
        _seen.add((current, statement))
        write("hit", current, statement)


def with_probes(source: str, file: str, lines: Collection[int]) -> str:
    """Return a module with a probe before each statement inside of a function that begins at one of the lines."""
    tree = ast.parse(source)
    _Probes(file, lines).visit(tree)
    first = next(n for n, node in enumerate(tree.body) if not (_is_text(node) or _is_future(node)))
    tree.body.insert(first, ast.parse("from tests.mutation.probes import hit as _hit").body[0])
    return ast.unparse(ast.fix_missing_locations(tree))


def _is_future(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__"


class _Probes(ast.NodeTransformer):
    def __init__(self, file: str, lines: Collection[int]) -> None:
        self._file, self._lines = file, lines
        self._functions = 0

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self._functions += 1
        self.generic_visit(node)
        self._functions -= 1
        return node

    visit_AsyncFunctionDef = visit_FunctionDef  # type: ignore[assignment]  # noqa: N815  (names that ast prescribes)

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        for name in ("body", "orelse", "finalbody") if self._functions else ():
            statements = getattr(node, name, None)
            if isinstance(statements, list):
                setattr(node, name, [one for statement in statements for one in (*self._probe(statement), statement)])
        return node

    def _probe(self, statement: ast.stmt) -> list[ast.stmt]:
        if statement.lineno not in self._lines or _is_text(statement):
            return []
        return ast.parse(f"_hit({f'{self._file}:{statement.lineno}'!r})").body


def _is_text(statement: ast.stmt) -> bool:
    """A docstring stays where it is."""
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
