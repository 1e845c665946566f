"""The proof of the books finds a correction that does not agree with its entries, its events or the one before."""

from datetime import UTC, datetime

from app.receipts.chain import extend_chains
from app.receipts.queries import find_balances
from app.verification import verify_books
from tests.metering.conftest import Desk
from tests.receipts.books import chain_of, expected_chain
from tests.rerating.conftest import double_prices, effect
from tests.rerating.test_rerate import account_with
from tests.support.wallets import DOLLAR

ENTRIES, CHAIN = "a correction that is not what its entries", "a corrected cost that does not follow"
SPOILT = [
    ("account_corrections SET amount_nanos = amount_nanos + {}", ENTRIES),
    ("account_corrections SET currency = CASE {} WHEN 1 THEN 'EUR' ELSE 'USD' END", ENTRIES),
    ("account_corrections SET rerating_id = CASE {} WHEN 1 THEN correction_id ELSE '{run}' END", ENTRIES),
    ("usage_corrections SET cost_after_nanos = cost_after_nanos + {} WHERE correction_no = 2", ENTRIES),
    (
        "usage_corrections SET cost_before_nanos = cost_before_nanos + {0}, cost_after_nanos = cost_after_nanos + {0}",
        CHAIN,
    ),
    ("usage_corrections SET provider_cost_before_nanos = provider_cost_before_nanos + {}", CHAIN),
    ("usage_corrections SET provider_cost_after_nanos = CASE {} WHEN 1 THEN NULL ELSE {after} END", CHAIN),
    ("usage_corrections SET correction_no = correction_no + {} WHERE correction_no >= 2", CHAIN),
]


async def test_spoilt_corrections_are_found(desk: Desk) -> None:
    """Each statement is undone by the same one with -1."""
    await account_with(desk, DOLLAR)
    await double_prices(desk, 2)
    effect(desk, "--apply")
    await double_prices(desk, 3)
    effect(desk, "--apply")
    [first, last] = await desk.rows("SELECT * FROM usage_corrections ORDER BY correction_no")
    runs = await desk.rows("SELECT * FROM account_corrections ORDER BY correction_id")
    assert await problem_of(desk) is None
    for spoil, expected in SPOILT:
        for step, found in ((1, expected), (-1, None)):
            where = "" if " WHERE " in spoil else f" WHERE correction_id = '{runs[0]['correction_id']}'"
            values = {"run": runs[0]["rerating_id"], "after": first["provider_cost_after_nanos"]}
            await desk.rows(f"UPDATE {spoil.format(step, **values)}{where}")
            problem = await problem_of(desk)
            assert problem is None if found is None else found in str(problem), (spoil, step, problem)
    assert last["provider_cost_before_nanos"] == first["provider_cost_after_nanos"]


async def test_a_correction_is_hashed_after_the_usage_that_it_corrects(desk: Desk) -> None:
    """A statement of the time before keeps its hash and its balances."""
    _, account_id = await account_with(desk, DOLLAR, 3)
    await extend_chains(desk.db)
    before = await chain_of(desk.urls, account_id)
    async with desk.db.read() as session:
        balances = await find_balances(session, account_id, len(before))
    await double_prices(desk, 2)
    assert effect(desk, "--apply")["applied"]
    await extend_chains(desk.db)
    chain = await chain_of(desk.urls, account_id)
    assert (len(chain) > len(before), chain[: len(before)]) == (True, before)
    assert chain == await expected_chain(desk.urls, account_id)
    async with desk.db.read() as session:
        assert await find_balances(session, account_id, len(before)) == balances
        assert await find_balances(session, account_id, len(chain)) != balances
    assert await problem_of(desk) is None


async def problem_of(desk: Desk) -> str | None:
    return (await verify_books(desk.db, datetime.now(UTC))).problem
