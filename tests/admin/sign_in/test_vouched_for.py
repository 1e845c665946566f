"""Only whom the provider vouches for gets in, and only back to a path of ours."""

from datetime import UTC, datetime
from urllib.parse import parse_qsl, urljoin, urlsplit

import httpx
import pytest

from app.auth.admins.admins import remove_admin
from app.demo.oidc import Client, Fault, User, create_app
from tests.admin.conftest import Office
from tests.admin.sign_in.conftest import (
    CALLBACK,
    GONE,
    KELVIN,
    MAYBE,
    NUL,
    OUTSIDER,
    PRIVATE,
    SHOUTING,
    STRANGER,
    SUBDOMAIN,
    SUFFIX,
    SURROGATE,
    TEXTUAL,
    TWO_ATS,
    Browser,
    no_new_session,
    refused,
)
from tests.conftest import running_app
from tests.demo.oidc_server import ALICE, BOB, SPA, RunningOIDC
from tests.servers import free_port, serving

FORGED = [
    *(Fault.WRONG_NONCE, Fault.WRONG_AUD, Fault.WRONG_ISS, Fault.EXPIRED, Fault.FUTURE_IAT, Fault.ALG_NONE),
    *(Fault.HS256_WITH_PUBLIC_KEY, Fault.UNKNOWN_KID, Fault.BAD_SIGNATURE),
]
NOT_OURS = [Fault.EMAIL_UNVERIFIED, Fault.OTHER_HD, Fault.MISSING_HD]
"""At Google."""


def test_every_fault_is_tried() -> None:
    assert {*FORGED, *NOT_OURS} == set(Fault)


@pytest.mark.parametrize("fault", FORGED)
async def test_a_wrong_id_token_is_refused(
    office: Office, browser: Browser, provider: RunningOIDC, fault: Fault
) -> None:
    async with no_new_session(office):
        provider.switch(id_token=[fault])
        refused(await browser.sign_in(), 400, "sign_in_failed")
        refused(await browser.who(), 401, "admin_unauthorized")
    provider.reset()
    assert (await browser.sign_in()).status_code == 302


@pytest.mark.parametrize("fault", NOT_OURS)
async def test_an_account_that_is_not_the_domains_own_is_refused(
    office: Office, browser_at_google: Browser, provider: RunningOIDC, fault: Fault
) -> None:
    async with no_new_session(office):
        provider.switch(id_token=[fault])
        refused(await browser_at_google.sign_in(), 403, "not_an_admin")


async def test_google_must_name_the_domain(office: Office, browser_at_google: Browser) -> None:
    """A private account at Google can have the address of any domain."""
    async with no_new_session(office):
        refused(await browser_at_google.sign_in(PRIVATE), 403, "not_an_admin")
    assert (await browser_at_google.sign_in()).status_code == 302


@pytest.mark.parametrize("fault", [Fault.OTHER_HD, Fault.MISSING_HD])
async def test_at_other_providers_the_verified_address_decides(
    office: Office, browser: Browser, provider: RunningOIDC, fault: Fault
) -> None:
    provider.switch(id_token=[fault])
    assert (await browser.sign_in()).status_code == 302
    provider.switch(id_token=[fault, Fault.EMAIL_UNVERIFIED])
    async with no_new_session(office):
        refused(await browser.sign_in(), 403, "not_an_admin")


@pytest.mark.parametrize("user", [PRIVATE, SHOUTING, TEXTUAL], ids=lambda user: user.sub)
async def test_an_admin_needs_no_more_than_a_verified_address(browser: Browser, user: User) -> None:
    assert (await browser.sign_in(user)).status_code == 302
    assert (await browser.who()).json()["email"] == ALICE.email


@pytest.mark.parametrize("configured", ["", "/"])
@pytest.mark.parametrize("published", ["", "/"])
async def test_an_issuer_may_end_with_a_slash(office: Office, configured: str, published: str) -> None:
    """As those of Auth0 and authentik do: tokens spell it as the provider publishes it."""
    port = free_port()
    issuer = f"http://127.0.0.1:{port}"
    settings = office.app.state.settings.model_copy(update={"admin_oauth_issuer": issuer + configured})
    clients = [Client(SPA.client_id, None, (f"http://127.0.0.1{CALLBACK}",))]
    provider = create_app(issuer=issuer + published, clients=clients, users=[ALICE])
    with serving(provider, port), httpx.Client(base_url=issuer, timeout=10, trust_env=False) as http:
        async with running_app(settings) as app:
            browser = Browser(app, RunningOIDC(issuer, port, http))
            assert (await browser.sign_in()).status_code == 302
            await browser.http.aclose()


@pytest.mark.parametrize(
    "user",
    [BOB, STRANGER, OUTSIDER, SUBDOMAIN, SUFFIX, TWO_ATS, GONE, KELVIN, NUL, MAYBE],
    ids=lambda user: user.sub,
)
async def test_somebody_who_is_no_admin_is_refused(office: Office, browser: Browser, user: User) -> None:
    async with no_new_session(office):
        refused(await browser.sign_in(user), 403, "not_an_admin")
        refused(await browser.who(), 401, "admin_unauthorized")


async def test_a_person_who_is_refused_hears_it_on_a_page(office: Office, browser: Browser) -> None:
    browser.http.headers["Accept"] = "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"
    async with no_new_session(office):
        answer = await browser.sign_in(STRANGER)
    assert answer.status_code == 303
    page = urlsplit(answer.headers["Location"])
    assert (page.scheme, page.netloc, page.path) == ("", "", "/admin-ui/")
    assert dict(parse_qsl(page.query)) == {"refused": "not_an_admin", "request": answer.headers["X-Request-ID"]}
    assert "ciris_billing_admin" not in answer.cookies
    await browser.http.get("/admin/oauth/login")
    assert (await browser.sign_in()).headers["Location"] == "/admin-ui/"


async def test_half_a_character_is_nobodys_address(office: Office) -> None:
    """Use a separate provider, because the shared provider's page could not show this address."""
    port = free_port()
    issuer = f"http://127.0.0.1:{port}"
    clients = [Client(SPA.client_id, None, (f"http://127.0.0.1{CALLBACK}",))]
    settings = office.app.state.settings.model_copy(update={"admin_oauth_issuer": issuer})
    app = create_app(issuer=issuer, clients=clients, users=[SURROGATE])
    with serving(app, port), httpx.Client(base_url=issuer, timeout=10, trust_env=False) as http:
        async with running_app(settings) as app, no_new_session(office):
            browser = Browser(app, RunningOIDC(issuer, port, http))
            refused(await browser.sign_in(SURROGATE), 403, "not_an_admin")
            await browser.http.aclose()


async def test_an_admin_disabled_meanwhile_is_refused(office: Office, browser: Browser) -> None:
    query = browser.consent(await browser.begin())
    async with office.db.transaction() as tx:
        await remove_admin(tx, ALICE.email, now=datetime.now(UTC))
    async with no_new_session(office):
        refused(await browser.end(query), 403, "not_an_admin")


# --- back to a path of ours -----------------------------------------------------------------------------------

ELSEWHERE = [
    *("//evil.example", "///evil.example", "/\\evil.example", "\\\\evil.example", "/\\/evil.example"),
    *("https://evil.example", "http:/evil.example", "https:evil.example", "javascript:alert(1)", "data:text/html,x"),
    *("evil.example", "@evil.example", ".evil.example", ":80", "?x", "#x", " //evil.example", " /x", "/x y"),
    *("/\t/evil.example", "/\n/evil.example", "/\r\nSet-Cookie: a=b", "\t//evil.example", "/x\0", "/x\n", "/x\x7f"),
    *("/\u2028/evil.example", "/\uff0fevil.example", "\uff0f\uff0fevil.example", "/é", "/<script>", '/"', "/x\\y"),
]


@pytest.mark.parametrize("return_to", ELSEWHERE)
async def test_no_sign_in_ends_elsewhere(browser: Browser, return_to: str) -> None:
    answer = await browser.http.get("/admin/oauth/login", params={"return_to": return_to})
    refused(answer, 422, "invalid_request")
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize(
    "raw", ["%2F%2Fevil.example", "%2F%5Cevil.example", "/%09/evil.example", "%68ttps://evil.example"]
)
async def test_encoding_it_once_hides_nothing(browser: Browser, raw: str) -> None:
    refused(await browser.http.get(f"/admin/oauth/login?return_to={raw}"), 422, "invalid_request")


async def test_a_long_way_back_is_refused(browser: Browser) -> None:
    assert (await browser.http.get("/admin/oauth/login", params={"return_to": "/" + "x" * 500})).status_code == 422


@pytest.mark.parametrize(
    "return_to",
    [
        *("/", "/admin-ui/", "/admin-ui/users?search=a%40b&status=active#top", "/a/b/../c", "/@x", "/x:y", "/x//y"),
        *("/%2F%2Fevil.example", "/%5Cevil.example", "/.//evil.example", "/..//evil.example", "/%0d%0aSet-Cookie:a=b"),
        *("/?next=https://evil.example", "/" + "x" * 499),
    ],
)
async def test_a_path_of_ours_is_kept_and_stays_ours(browser: Browser, return_to: str) -> None:
    """Encoded twice it is a strange name, yet a name here: no browser decodes a Location before it reads it."""
    answer = await browser.sign_in(return_to=return_to)
    assert (answer.status_code, answer.headers["Location"]) == (302, return_to)
    assert urlsplit(urljoin("http://127.0.0.1/admin/oauth/callback", return_to)).netloc == "127.0.0.1"


async def test_the_way_back_is_not_the_callbacks_to_choose(browser: Browser) -> None:
    query = browser.consent(await browser.begin())
    answer = await browser.end({**query, "return_to": "https://evil.example", "to": "//evil.example"})
    assert answer.headers["Location"] == "/admin-ui/"
