"""Mutants of plans: the part of tests/code_mutants.py about the markup and the discount of an account's plan.

Each is a name, the tests that should notice it, a file of app/, the text and its replacement.
"""

MARKUPS = ("tests/metering/test_plan_markups.py",)

PLANS: tuple[tuple[str, tuple[str, ...], str, str, str], ...] = (
    (
        "the markup of the terms that a subscriber keeps",
        MARKUPS,
        "metering/costs.py",
        'return kept if kept is not None else on_sale.get(plan or "")',
        'return on_sale.get(plan or "")',
    ),
    (
        "the end of an upgrade, before markups of plans apply",
        MARKUPS,
        "metering/service.py",
        "return found if not found or await self._mark.excludes_before(MARKUPS_SINCE) else {}",
        "return found",
    ),
    (
        "the rule of a price book that replaces a plan's markup",
        ("tests/pricing/test_engine.py",),
        "pricing/compiled.py",
        "if own is not None and _rank(is_named) < _rank(ONLY_PLAN):",
        "if own is not None:",
    ),
    (
        "the markup of an event that is priced again",
        ("tests/rerating/test_repricing.py",),
        "rerating/pricing.py",
        'plan_markup=stored_markup(row["price"]),',
        "plan_markup=None,",
    ),
    (
        "the discount of the terms that a subscriber keeps",
        ("tests/payments/test_orders.py",),
        "payments/orders.py",
        "percent = account.plan_discount_percent",
        "percent = None",
    ),
    (
        "the end of an upgrade, before terms are kept on an account",
        ("tests/subscriptions/test_kept_terms.py",),
        "subscriptions/settlement.py",
        "keeps_terms=self._mark.excludes(TERMS_SINCE)",
        "keeps_terms=True",
    ),
)
