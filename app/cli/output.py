"""Command output: tables on a terminal, `name=value` lines elsewhere, JSON on request; and progress bars.

rich is imported where it is used: `serve` and `worker` start without it.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON. For scripts.")]
Advance = Callable[[int, int | None], None]
"""Set how many steps are done, and of how many (None: unknown)."""


def show(rows: Sequence[Mapping[str, Any]], as_json: bool, *, single: bool = False) -> None:
    """Print rows, or with `single` the only row.

    A terminal gets a table with times in the local time zone. A pipe or a file gets one line per row, with UTC times,
    which does not depend on who runs the command.
    """
    if as_json:
        plain = [{name: _plain(value) for name, value in row.items()} for row in rows]
        typer.echo(json.dumps(plain[0] if single else plain, indent=2))
    elif not sys.stdout.isatty():
        for row in rows:
            pairs = ((name, _printable(str(_plain(value)))) for name, value in row.items() if _is_set(value))
            typer.echo("  ".join(f"{name}={value}" for name, value in pairs))
    elif single:
        _show_fields(rows[0])
    else:
        _show_table(rows)


def say_not_applied() -> None:
    """Say on stderr that a command with `--apply` ran without it."""
    typer.echo("Nothing was written: repeat with --apply", err=True)


@contextmanager
def progress(label: str) -> Iterator[Advance]:
    """Show a progress bar on stderr while the block runs. Nothing is shown unless the output is a terminal."""
    if not (sys.stdout.isatty() and sys.stderr.isatty()):
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=None)

        def advance(done: int, total: int | None) -> None:
            bar.update(task, completed=done, total=total)

        yield advance


def _show_fields(row: Mapping[str, Any]) -> None:
    """One field per line. Lines are not wrapped, so that keys and ids can be copied."""
    from rich.console import Console
    from rich.text import Text

    console = Console()
    width = max((len(name) for name in row), default=0)
    for name, value in row.items():
        if _is_set(value):
            console.print(Text.assemble((_label(name).ljust(width), "bold"), "  ", _cell(value)), soft_wrap=True)


def _show_table(rows: Sequence[Mapping[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not rows:
        typer.echo("Nothing found.")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    names = [name for name in rows[0] if any(_is_set(row[name]) for row in rows)]
    for name in names:
        is_number = all(isinstance(row[name], int) and not isinstance(row[name], bool) for row in rows)
        table.add_column(_label(name), overflow="fold", justify="right" if is_number else "left")
    for row in rows:
        table.add_row(*(Text(_cell(row[name]) if _is_set(row[name]) else "") for name in names))
    Console().print(table)


def _is_set(value: object) -> bool:
    return value is not None and value not in ([], (), frozenset())


def _label(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _plain(value: object) -> object:
    if isinstance(value, frozenset | set | tuple):
        return sorted(str(item) for item in value)
    return value if isinstance(value, str | int | bool | list | None) else str(value)


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
    plain = _plain(value)
    return _printable(", ".join(map(str, plain)) if isinstance(plain, list) else str(plain))


def _printable(text: str) -> str:
    """Return the text without control characters, which a name may contain and a terminal would execute."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
