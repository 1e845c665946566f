"""The addresses to which Stripe's page may return, by the settings."""

from typing import Any

import pytest

from app.payments.errors import FrontendNotConfigured, ReturnUrlNotAllowed
from app.payments.return_urls import return_urls
from tests.conftest import settings_for
from tests.databases import Urls

URLS = Urls("postgresql://a", "postgresql://b", "postgresql://c")


@pytest.mark.parametrize(
    ("frontend", "expected"),
    [
        ("https://app.example", "https://app.example/billing/success?session_id={CHECKOUT_SESSION_ID}"),
        ("https://app.example/", "https://app.example/billing/success?session_id={CHECKOUT_SESSION_ID}"),
        ("http://localhost:3000/web", "http://localhost:3000/web/billing/success?session_id={CHECKOUT_SESSION_ID}"),
    ],
)
def test_default_is_a_page_of_the_web_app(frontend: str, expected: str) -> None:
    success, cancel = return_urls(settings_for(URLS, frontend_url=frontend), None, None)
    assert success == expected
    assert cancel == expected.replace("success?session_id={CHECKOUT_SESSION_ID}", "cancel")


@pytest.mark.parametrize(
    "given", [(None, None), ("https://other.example/ok", None), (None, "https://other.example/no")]
)
def test_without_a_web_app_both_addresses_are_needed(given: tuple[str | None, str | None]) -> None:
    settings = settings_for(URLS, return_url_origins=["https://other.example"])
    with pytest.raises(FrontendNotConfigured):
        return_urls(settings, *given)
    both = ("https://other.example/ok", "https://other.example/no")
    assert return_urls(settings, *both) == both


@pytest.mark.parametrize("settings", [{}, {"frontend_url": "https://app.example:99999"}])
def test_address_without_an_origin_is_allowed_by_no_setting(settings: dict[str, Any]) -> None:
    with pytest.raises(ReturnUrlNotAllowed):
        return_urls(settings_for(URLS, **settings), "nothing", "https://app.example:99999/")
