"""Mutants of refusals, double charges, event streams and tickets, in the form of tests/control_mutants.py."""

DOUBLES = ("tests/billing/test_double_charges.py",)
BATCHES = ("tests/billing/test_charge_batches.py",)
KEPT = ("tests/admin/test_refusals.py",)
TICKETS = ("tests/live/test_tickets.py",)
RESUME = ("tests/live/test_resume.py",)
ENDINGS = ("tests/live/test_endings.py",)
APPROVALS = ("tests/live/test_approvals.py",)

LIVE: tuple[tuple[str, tuple[str, ...], str, str, str], ...] = (
    # --- refusals and double charges ---
    (
        "the refusal of a double charge",
        DOUBLES,
        "billing/double_charges.py",
        'if request.double_charges == "refuse":',
        "if False:",
    ),
    (
        "the amount in the purpose of a charge",
        DOUBLES,
        "billing/double_charges.py",
        "request.description, request.amount_minor]",
        "request.description]",
    ),
    (
        "the first charge of a transaction",
        DOUBLES,
        "billing/double_charges.py",
        "            account.charged[purpose] = charge\n",
        "            pass\n",
    ),
    (
        "the stored purposes",
        DOUBLES,
        "billing/double_charges.py",
        "            await queries.insert_purposes(tx, self._rows)",
        "            pass",
    ),
    (
        "the log of refused double charges",
        KEPT,
        "billing/errors.py",
        "    def kept_figures(",
        "    def unkept_figures(",
    ),
    (
        "the log of a batch's refusals",
        KEPT,
        "billing/batches.py",
        "            self._note_refusal(error, account_id)",
        "            pass",
    ),
    ("the order of a failed account", BATCHES, "billing/batches.py", "if account_id in self._broken:", "if False:"),
    # --- tickets ---
    (
        "the single use of a ticket",
        TICKETS,
        "live/queries.py",
        "DELETE FROM stream_tickets WHERE account_id = :account_id AND digest = :digest RETURNING *",
        "SELECT * FROM stream_tickets WHERE account_id = :account_id AND digest = :digest",
    ),
    ("the origin of a ticket", TICKETS, "live/tickets.py", 'or not page.may_use(row["origin"])', ""),
    ("the end of a ticket", TICKETS, "live/tickets.py", 'or row["expires_at"] <= now', ""),
    (
        "the token behind a ticket",
        TICKETS,
        "live/dependencies.py",
        "if await auth.continuing.refused([admission.token], now):",
        "if False:",
    ),
    (
        "the bound on unused tickets",
        TICKETS,
        "live/queries.py",
        "WHERE account_id = :account_id) < :most",
        ") < :most + 99",
    ),
    # --- streams ---
    (
        "the entry after which a stream resumes",
        RESUME,
        "live/stream.py",
        "self._sent = reading.entry_no if after is None else after",
        "self._sent = reading.entry_no",
    ),
    (
        "the position that a resumed snapshot leaves",
        RESUME,
        "live/stream.py",
        "number = reading.entry_no if after is None else None",
        "number = reading.entry_no",
    ),
    (
        "the approvals that do not wait for missed changes",
        RESUME,
        "live/stream.py",
        "self._feed.approvals.news(self._approvals) or await self._changes()",
        "await self._changes() or self._feed.approvals.news(self._approvals)",
    ),
    (
        "the gap in a reading",
        RESUME,
        "live/feeds.py",
        "not changes[0].entry_no - 1 <= entry_no <",
        "not 0 <= entry_no <",
    ),
    ("the credential of a stream", ENDINGS, "live/registry.py", "if stream.credential in refused:", "if False:"),
    ("the lifetime of a stream", ENDINGS, "live/registry.py", "elif ends_s <= now_s:", "elif False:"),
    (
        "the end of streams on draining",
        ENDINGS,
        "live/registry.py",
        "            if is_draining:\n",
        "            if False:\n",
    ),
    (
        "the approvals that a stream has sent",
        APPROVALS,
        "live/approvals.py",
        "if sent.get(approval_id) == state.mark:",
        "if False:",
    ),
)
