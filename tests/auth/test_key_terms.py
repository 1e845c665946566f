"""The bounds of an API key's subject, rate limit and usage terms."""

from typing import Any

import pytest

from app.auth.api_keys.keys import UsageTerms
from app.auth.api_keys.usage_terms import MAX_NANOS, MAX_PROVIDER_CHARS, checked_terms
from app.errors import InvalidRequest

LONGEST = "oauth:" + "x" * (MAX_PROVIDER_CHARS - len("oauth:"))


@pytest.mark.parametrize(
    "terms",
    [
        UsageTerms("oauth:x"),
        UsageTerms(LONGEST),
        UsageTerms(debt_limit_nanos=0, max_cost_nanos=0),
        UsageTerms(debt_limit_nanos=MAX_NANOS, max_cost_nanos=MAX_NANOS),
    ],
)
def test_terms_at_their_bounds_are_accepted(terms: UsageTerms) -> None:
    columns = checked_terms(terms, ())
    assert (columns["identity_provider"], columns["max_cost_nanos"]) == (terms.identity_provider, terms.max_cost_nanos)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"identity_provider": "oauth:"}, "identity_provider"),
        ({"identity_provider": LONGEST + "x"}, "identity_provider"),
        ({"identity_provider": "x"}, "identity_provider"),
        ({"debt_limit_nanos": -1}, "debt_limit_nanos"),
        ({"debt_limit_nanos": MAX_NANOS + 1}, "debt_limit_nanos"),
        ({"max_cost_nanos": -1}, "max_cost_nanos"),
        ({"max_cost_nanos": MAX_NANOS + 1}, "max_cost_nanos"),
    ],
)
def test_terms_beyond_their_bounds_are_refused(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        checked_terms(UsageTerms(**changes), ())
    assert refused.value.figures["field"] == field
