"""`return_url`: web addresses, and addresses of apps whose schemes the operator lists; nothing that a browser runs."""

import pytest
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from app.payments.schemas import PurchaseBody
from app.setting_rules import SCHEMES_OF_BROWSERS
from tests.conftest import settings_for
from tests.databases import Urls
from tests.payments.conftest import Shop, with_settings

RUN_BY_BROWSERS = [
    "javascript:alert(1)",
    "javascript://%0aalert(1)",
    "JavaScript://%0aalert(1)",
    "data:text/html,x",
    "data://text/html,x",
    "file:///etc/passwd",
    "blob:https://a/b",
    " javascript://x",
    "java\nscript://x",
    "myapp://a\nb",
    "myapp://a b",
    "my app://a",
    "//evil.example",
    "https://",
    "myapp:",
    "://a",
]


def is_accepted(url: str, *schemes: str) -> bool:
    try:
        PurchaseBody(return_url=url).require_return_url_of(schemes)
    except (ValidationError, RequestValidationError):
        return False
    return True


@pytest.mark.parametrize("url", ["https://a.example/b?c#d", "http://localhost:3000/", "https://bücher.example/ü"])
def test_web_addresses_are_always_accepted(url: str) -> None:
    assert is_accepted(url)
    assert is_accepted(url, "myapp")


def test_apps_are_accepted_by_the_scheme_that_is_listed() -> None:
    for url in ("myapp://paid", "MyApp://paid/here?x=1"):
        assert is_accepted(url, "myapp")
        assert not is_accepted(url)
        assert not is_accepted(url, "otherapp")
    assert is_accepted("com.example.app+v2://paid", "com.example.app+v2")


@pytest.mark.parametrize("url", RUN_BY_BROWSERS)
def test_nothing_that_a_browser_runs_is_accepted(url: str) -> None:
    assert not is_accepted(url, "myapp")


@pytest.mark.parametrize(
    "scheme", sorted(SCHEMES_OF_BROWSERS | {"JavaScript", "my app", "myapp://", "", "1app", "a\n"})
)
def test_operators_cannot_list_what_is_no_apps(scheme: str, database: Urls) -> None:
    with pytest.raises(ValidationError, match=r"(?i:return_url_schemes)"):
        settings_for(database, return_url_schemes=[scheme])


@with_settings(return_url_schemes=["MyApp"])
async def test_the_list_is_the_settings(shop: Shop) -> None:
    user = {"oauth_provider": "oauth:google", "external_id": "buyer@example.com"}
    async with await shop.client() as client:
        for url, status in (("myapp://paid", 201), ("otherapp://paid", 422), ("javascript://x", 422)):
            answer = await client.post("/v1/billing/purchases", json={**user, "return_url": url})
            assert answer.status_code == status
            if status == 422:
                [field] = answer.json()["detail"]
                assert (answer.json()["code"], field["loc"]) == ("validation_error", ["body", "return_url"])
