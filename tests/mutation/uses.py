"""Uses of a name: the statements that a mutation of its definition affects."""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Use:
    """A statement and the names in it, without the statements inside of it."""

    place: str
    """File and line, as the recording names statements."""
    definition: str
    """The function, class or constant of the module that contains it."""
    names: frozenset[str]
    at_import: bool


def uses(sources: Mapping[str, str]) -> list[Use]:
    """All statements of files, given by path."""
    return [
        use
        for file, source in sources.items()
        for node in ast.parse(source).body
        for use in _inside(file, node, _defined(node), at_import=True)
    ]


def statements_using(name: str, found: list[Use]) -> Iterator[str]:
    """The statements that use a definition of a module, or another definition that uses it."""
    names, before = {name}, set[str]()
    while names != before:
        before = set(names)
        names |= {use.definition for use in found if use.at_import and use.names & names}
    return (use.place for use in found if use.names & names or use.definition in names)


def _defined(node: ast.stmt) -> str:
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return name
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return name
    return ""


def _inside(file: str, node: ast.stmt, definition: str, *, at_import: bool) -> Iterator[Use]:
    names, statements = set[str](), list[ast.stmt]()
    waiting = list[ast.AST](ast.iter_child_nodes(node))
    while waiting:
        child = waiting.pop()
        match child:
            case ast.stmt():
                statements.append(child)
                continue
            case ast.Name(id=name) | ast.Attribute(attr=name):
                names.add(name)
        waiting += ast.iter_child_nodes(child)
    yield Use(f"{file}:{node.lineno}", definition, frozenset(names), at_import)
    for statement in statements:
        inside = at_import and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        yield from _inside(file, statement, definition, at_import=inside)
