"""Mutants of automatic refills: the part of tests/code_mutants.py about saved cards that pay.

Each is a name, the tests that should notice it, a file of app/, the text and its replacement.
"""

PAYING = ("tests/refills/test_paying.py",)
CARDS = ("tests/refills/test_cards.py",)
STARTING = ("tests/refills/test_starting.py",)
ENDING = ("tests/refills/test_ending.py",)

REFILLS: tuple[tuple[str, tuple[str, ...], str, str, str], ...] = (
    (
        "the look for a payment before it is sent again",
        PAYING,
        "refills/paying.py",
        "if refill.sent_at is not None and (found := await self._find(purchase, card, now)) is not None:",
        "if (found := None) is not None:",
    ),
    (
        "the time after which no payment is sent",
        PAYING,
        "refills/paying.py",
        "SENT_FOR = timedelta(hours=23)",
        "SENT_FOR = timedelta(hours=25)",
    ),
    (
        "the day in which a request may still be under way",
        PAYING,
        "refills/paying.py",
        "if current.sent_at is None or now - current.created_at >= CANCELED_AFTER:",
        "if True:",
    ),
    (
        "the removed card, before it pays",
        CARDS,
        "refills/paying.py",
        "is_usable = card is not None and card.removed_at is None",
        "is_usable = True",
    ),
    (
        "the look at the card before its owner authenticates the payment",
        PAYING,
        "refills/paying.py",
        "            return await self._may_pay(tx, refill)",
        "            return True",
    ),
    (
        "the text of a consent",
        CARDS,
        "refills/cards.py",
        "if consent != (await self._configuration.current()).document(REFILLS).consent_text:",
        "if False:",
    ),
    (
        "the decision that is noted already",
        STARTING,
        "ledger/refill_queries.py",
        "AND s.enabled AND s.check_at IS NULL AND",
        "AND s.enabled AND",
    ),
    (
        "the debt that one refill does not cover",
        STARTING,
        "ledger/refill_queries.py",
        "s.check_at IS NULL AND s.amount_nanos >= n.missing",
        "s.check_at IS NULL",
    ),
    (
        "the dispute that was known already",
        ENDING,
        "payments/settlement.py",
        "if is_withdrawn(merged) and not is_withdrawn(known):",
        "if is_withdrawn(merged):",
    ),
    (
        "the dispute that ends refills",
        ENDING,
        "payments/settlement.py",
        "if is_withdrawn(merged) and not is_withdrawn(known):",
        "if False:",
    ),
    (
        "the cap of a month",
        ("tests/plans/test_refills.py",),
        "plans/refills.py",
        "if state.paid_this_month + rule.amount > min(rule.monthly_cap, bounds.most_monthly):",
        "if rule.amount > min(rule.monthly_cap, bounds.most_monthly):",
    ),
)
