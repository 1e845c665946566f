"""Mutations of a process that has imported the project: the changed functions get their new code."""

import gc
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType

Functions = dict[str, list[FunctionType]]
"""By the path of their file."""


def live_functions() -> Functions:
    functions: Functions = defaultdict(list)
    for thing in gc.get_objects():
        if type(thing) is FunctionType:  # isinstance would ask proxies, which may load what they are proxies of
            functions[thing.__code__.co_filename].append(thing)
    return functions


def patch(functions: Functions, path: Path, original: str, source: str) -> bool:
    """Give the functions of a file the code that `source` defines. False: it cannot be done, nothing is changed."""
    old, new = (_codes(compile(text, str(path), "exec")) for text in (original, source))
    changes = []
    for function in functions[str(path)]:
        code = function.__code__
        before, after = old[code.co_qualname], new[code.co_qualname]
        places = [number for number, one in enumerate(before) if one.co_firstlineno == code.co_firstlineno]
        if len(places) != 1 or len(before) != len(after):
            return False
        changed = after[places[0]]
        if changed.co_freevars != code.co_freevars:
            return False
        changes.append((function, changed))
    for function, changed in changes:
        function.__code__ = changed
    return bool(changes)


def _codes(module: CodeType) -> dict[str, list[CodeType]]:
    """By qualified name, in the order of their lines."""
    codes: dict[str, list[CodeType]] = defaultdict(list)
    for code in _inside(module):
        codes[code.co_qualname].append(code)
    return codes


def _inside(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _inside(constant)
