"""`make mutants`: take away each lock, constraint and trigger in turn, and demand that a test notices.

A guarantee that no test misses is a guarantee that the next change may break unseen. Exit status 1 names the survivors.
"""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg

from app.demo.postgres import ephemeral_cluster
from tests.code_mutants import CODE, Mutant
from tests.databases import ADMIN_URL, CONSTRAINTS, MUTATION, ROOT, TEMPLATE, prepare, urls

NO_SOURCE = (".git", ".venv", ".tools", ".*_cache", ".hypothesis", "__pycache__", "node_modules", "dist", "site", "var")


async def schema_mutants() -> list[Mutant]:
    connection = await asyncpg.connect(urls(TEMPLATE).superuser)
    rows = await connection.fetch(CONSTRAINTS)
    await connection.close()
    constraints = [
        Mutant(
            f"{row['table_name']}: {row['name']}",
            (f"tests/test_constraints.py::test_violation_is_refused[{row['name']}]",),
            sql=f"DROP INDEX {row['name']}"
            if row["is_index"]
            else f"ALTER TABLE {row['table_name']} DROP CONSTRAINT {row['name']} CASCADE",
        )
        for row in rows
    ]
    triggers = [
        Mutant(
            f"{table}: the trigger that refuses changes", (tests,), sql=f"DROP TRIGGER {table}_append_only ON {table}"
        )
        for table, tests in (("ledger_entries", "tests/billing"), ("ledger_chain", "tests/receipts"))
    ]
    return [*constraints, *triggers]


def mutated_tree(mutant: Mutant) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ciris-billing-mutant-") as folder:
        tree = Path(folder) / "project"
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*NO_SOURCE))
        if mutant.file:
            target = tree / mutant.file
            source = target.read_text(encoding="utf-8")
            if source.count(mutant.old) != 1:
                raise SystemExit(f"{mutant.name}: {mutant.file} does not hold the mutated text once")
            target.write_text(source.replace(mutant.old, mutant.new), encoding="utf-8")
        yield tree


def survives(mutant: Mutant) -> bool:
    """Whether all its tests pass although something is missing."""
    env = {name: value for name, value in os.environ.items() if name != ADMIN_URL} | {MUTATION: mutant.sql}
    for tree in mutated_tree(mutant):
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *mutant.tests]
        done = subprocess.run(command, cwd=tree, env=env, capture_output=True, text=True, check=False)
        if done.returncode not in (0, 1):
            raise SystemExit(f"{mutant.name}: pytest could not run\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == 0


def main() -> int:
    with ephemeral_cluster() as cluster:
        prepare(cluster)
        mutants = CODE + asyncio.run(schema_mutants())
    words = sys.argv[1:]
    survivors = []
    for mutant in mutants:
        if words and not any(word in mutant.name for word in words):
            continue
        alive = survives(mutant)
        print(f"{'SURVIVED' if alive else 'noticed ':<9} without {mutant.name}", flush=True)
        if alive:
            survivors.append(mutant.name)
    print(f"{len(survivors)} survived")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
