"""The accounts of all users of a request with many items: found or created together, each with its outcome."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from app.accounts.directory import AccountDirectory, Identity, Profile
from app.auth.caller import Actor
from app.errors import AppError, failure_of

AT_ONCE = 128
"""Accounts of one request that are found, or whose items are decided, at the same time."""
Item = TypeVar("Item")


async def accounts_of(
    directory: AccountDirectory, users: Iterable[tuple[Identity, Profile]], actor: Actor, now: datetime
) -> Mapping[Identity, UUID | AppError]:
    """Return the account of each user, or the error that prevented it. A missing one begins with the first profile."""
    profiles: dict[Identity, Profile] = {}
    for identity, profile in users:
        profiles.setdefault(identity, profile)
    accounts: dict[Identity, UUID | AppError] = {}

    async def find(identity: Identity) -> None:
        try:
            accounts[identity], _ = await directory.find_or_create(identity, actor, now, profile=profiles[identity])
        except Exception as error:
            accounts[identity] = failure_of(error)

    await for_all(find, profiles)
    return accounts


async def for_all(work: Callable[[Item], Awaitable[None]], items: Iterable[Item]) -> None:
    """Do the work for all items, AT_ONCE of them at a time."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def in_turn(item: Item) -> None:
        async with turns:
            await work(item)

    async with asyncio.TaskGroup() as group:
        for item in items:
            group.create_task(in_turn(item))
