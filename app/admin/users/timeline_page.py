"""SQL for the page of a timeline. Each statement selects its own page from a table `t`, by the id of its events."""


def before(column: str) -> str:
    """Return the condition of the account's events before the page's end."""
    return f"t.account_id = :account_id AND (CAST(:before AS uuid) IS NULL OR t.{column} < :before)"


def newest(column: str) -> str:
    """Return the order and the limit of the page."""
    return f"ORDER BY t.{column} DESC LIMIT :limit"
