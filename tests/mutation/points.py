"""Mutations of decisions: small changes of an expression that some test should notice.

The standard mutation operators: a comparison is shifted by one or negated, `and` and `or` are swapped, a condition is
negated, an arithmetic operator or a number is changed, `min` becomes `max`, a boolean is flipped, a raise is dropped.
Text, type annotations, log calls and assertions are left alone.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
    ast.Mod: ast.Mult,
}
FUNCTIONS = {"min": "max", "max": "min", "any": "all", "all": "any"}
UNDECIDING = ("log", "logging", "structlog", "Field", "Annotated", "TypeVar", "StringConstraints", "Path", "Query")
"""Calls that decide nothing: their arguments are not mutated. Separate tests cover the bounds of fields."""


@dataclass(frozen=True, slots=True)
class Mutation:
    """One change of a source file. `before` and `after` are the changed expression."""

    line: int
    text: str
    """The line as it was, after its condition if it raises."""
    statement: int
    """Line of the innermost statement that contains it."""
    at_import: bool
    """Outside of every function."""
    function: str
    before: str
    after: str
    source: str
    """The whole file, changed."""


def mutations(source: str) -> Iterator[Mutation]:
    """Every mutation of a module, in the order of its lines."""
    finder = _Finder(source)
    finder.visit(ast.parse(source))
    seen = set()
    for mutation in sorted(finder.found, key=lambda found: found.line):
        if mutation.source not in seen:  # two operators may agree
            seen.add(mutation.source)
            yield mutation


class _Finder(ast.NodeVisitor):
    def __init__(self, source: str) -> None:
        self._lines = source.splitlines(keepends=True)
        self._function: list[str] = []
        self._functions = 0
        self._statement = 0
        self.found: list[Mutation] = []

    def _replace(self, node: ast.expr | ast.stmt, after: str) -> None:
        start = self._offset(node.lineno, node.col_offset)
        end = self._offset(node.end_lineno or 0, node.end_col_offset or 0)
        source = "".join(self._lines).encode()
        changed = source[:start] + after.encode() + source[end:]
        before = " ".join(source[start:end].decode().split())
        first = node.lineno - (2 if isinstance(node, ast.Raise) else 1)
        text = " ".join(line.strip() for line in self._lines[first : node.lineno])
        place = (node.lineno, text, self._statement, not self._functions, ".".join(self._function))
        self.found.append(Mutation(*place, before, after, changed.decode()))

    def _offset(self, line: int, column: int) -> int:
        return sum(len(text.encode()) for text in self._lines[: line - 1]) + column

    def visit(self, node: ast.AST) -> None:
        outer = self._statement
        if isinstance(node, ast.stmt):
            self._statement = node.lineno
        super().visit(node)
        self._statement = outer

    def _named(self, node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        is_function = not isinstance(node, ast.ClassDef)
        self._function.append(node.name)
        self._functions += is_function
        for child in node.body:  # neither decorators nor annotations, and no defaults
            self.visit(child)
        self._functions -= is_function
        self._function.pop()

    visit_ClassDef = visit_FunctionDef = visit_AsyncFunctionDef = _named  # noqa: N815  (names that ast prescribes)

    def visit_Assert(self, node: ast.Assert) -> None:
        """Left alone: an assertion is a check itself."""

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_Raise(self, node: ast.Raise) -> None:
        if node.exc is not None:
            self._replace(node, "pass")

    def visit_Compare(self, node: ast.Compare) -> None:
        for number, operator in enumerate(node.ops):
            for other in COMPARISONS[type(operator)]:
                operators = [*node.ops[:number], other(), *node.ops[number + 1 :]]
                self._replace(node, f"({ast.unparse(ast.Compare(node.left, operators, node.comparators))})")
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        self._replace(node, f"({ast.unparse(ast.BoolOp(other, node.values))})")
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not):
            self._replace(node, f"bool({ast.unparse(node.operand)})")
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        other = ARITHMETIC.get(type(node.op))
        text = any(
            isinstance(side, ast.JoinedStr | ast.Constant) and _is_text(side) for side in (node.left, node.right)
        )
        if other is not None and not text:
            self._replace(node, f"({ast.unparse(ast.BinOp(node.left, other(), node.right))})")
        self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        self._negate(node.test)
        self.generic_visit(node)

    def visit_While(self, node: ast.While) -> None:
        self.generic_visit(node)  # a negated loop runs never or without end

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._negate(node.test)
        self.generic_visit(node)

    def _negate(self, test: ast.expr) -> None:
        if not isinstance(test, ast.Compare | ast.BoolOp | ast.UnaryOp | ast.NamedExpr):  # which are mutated themselves
            self._replace(test, f"(not {ast.unparse(test)})")

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self._replace(node, str(not node.value))
        elif isinstance(node.value, int):
            self._replace(node, str(node.value + 1))

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Left alone: text decides nothing."""

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        root = node.func
        while isinstance(root, ast.Attribute):
            root = root.value
        if isinstance(root, ast.Name) and root.id in UNDECIDING:
            return
        if name in FUNCTIONS:
            self._replace(node.func, FUNCTIONS[name])
        self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if not (isinstance(node.value, ast.Name) and node.value.id in UNDECIDING):
            self.generic_visit(node)


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))
