// End-to-end test of what a user buys, in a real browser on the pages of the local Stripe: a plan, money, and the portal.
// BASE_URL: the service; TOKEN: of a person who has just signed in and has no account; CHROMIUM; SHOTS: a folder
import assert from "node:assert/strict";

import { chromium } from "playwright-core";

const { BASE_URL: base, TOKEN: token, SHOTS: folder } = process.env;
const FLAGS = ["no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking"];
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: [...FLAGS, "disable-component-update", "disable-sync"].map((flag) => `--${flag}`),
});
const page = await (await browser.newContext({ viewport: { width: 900, height: 1000 } })).newPage();
page.setDefaultTimeout(25_000);
const problems = [];
page.on("pageerror", (error) => problems.push(error.message));
const click = (name) => page.getByRole("button", { name }).click();
const shows = (text) => page.getByText(text).first().waitFor();
const shoot = (name) => page.screenshot({ path: `${folder}/${name}.png` });
const SECURE = /requires 3-D Secure, each time$/;

async function call(method, path, body) {
  const headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/json" };
  const answer = await fetch(base + path, { method, headers, body: body && JSON.stringify(body) });
  const found = await answer.json();
  assert.equal(answer.status, 200, `${path}: ${JSON.stringify(found)}`);
  return found;
}

/** Ask the API until it answers so: Stripe's webhooks arrive in their own time. */
async function until(path, holds) {
  for (const end = Date.now() + 60_000; ; await new Promise((done) => setTimeout(done, 100))) {
    const found = await call("GET", path);
    if (holds(found)) return found;
    assert.ok(Date.now() < end, `${path}: ${JSON.stringify(found)}`);
  }
}

const money = (key, cents) => call("POST", "/v1/credits/purchase", { amount_minor: cents, idempotency_key: key });
const balance = (cents) => until("/v1/credits/balance", (found) => found.balance_cents === cents);

async function subscribe() {
  await call("POST", "/v1/accounts", {});
  const { url } = await call("POST", "/v1/subscriptions/checkout", { plan: "standard" });
  await page.goto(url);
  await shows("Plan Standard");
  await shows("20.00 USD each month");
  await click(/0002 is declined$/);
  await shows("Your card was declined");
  await shoot("plan-declined");
  await click(SECURE);
  await click("Decline payment");
  await shows("The bank has declined");
  assert.equal((await call("GET", "/v1/subscriptions/me")).is_subscribed, false);
  await click(SECURE);
  await shows("requires a confirmation");
  await shoot("plan-bank");
  await click("Approve payment");
  await shows("Payment complete");
  assert.equal(new URL(page.url()).searchParams.get("session_id"), new URL(url).pathname.split("/").at(-1));
  const mine = await until("/v1/subscriptions/me", (found) => found.is_subscribed);
  assert.deepEqual([mine.plan, mine.status, mine.monthly_credits], ["standard", "active", 2500]);
  await balance(2500);
}

async function topUp() {
  const { checkout_url: url } = await money("secure", 2500);
  await page.goto(url);
  await shows("22.50 USD"); // the plan's discount lowers the price, not the amount received
  await click(/0002 is declined$/);
  await shows("Your card was declined");
  await click(SECURE);
  await page.getByRole("button", { name: "Approve payment" }).waitFor();
  await shoot("money-bank");
  await click("Approve payment");
  await shows("Payment complete");
  await shoot("money-paid");
  await balance(5000);
}

async function buyInOtherWays() {
  await page.goto((await money("none", 500)).checkout_url);
  await page.getByRole("link", { name: "Cancel and return" }).click();
  await shows("Not paid");
  const { checkout_url: slow } = await money("slow", 1000);
  await page.goto(slow);
  await click(/stays in processing$/);
  await shows("Payment complete");
  await page.goto(slow);
  await shows("on its way");
  await click("Approve payment");
  await shows("Payment complete");
  await balance(6000);
  const { payments } = await call("GET", "/v1/payments");
  assert.deepEqual(
    payments.map((payment) => [payment.amount_cents, payment.status]),
    [
      [900, "succeeded"],
      [450, "requires_payment_method"],
      [2250, "succeeded"],
    ],
  );
  await page.goto(payments[2].receipt_url);
  await shows("Paid: 22.50 USD");
}

async function cancelInThePortal() {
  const { url } = await call("POST", "/v1/subscriptions/portal");
  await page.goto(url);
  await shows("Plan Standard");
  await shows("Status: active. Renews on");
  await shoot("portal");
  await click("Cancel subscription");
  await shows("Status: active. Ends on");
  await shoot("portal-canceled");
  const mine = await until("/v1/subscriptions/me", (found) => found.cancel_at !== null);
  assert.deepEqual([mine.is_subscribed, mine.cancel_at], [true, mine.current_period_end]);
  assert.equal((await call("POST", "/v1/subscriptions/resume")).cancel_at, null);
  await page.reload();
  await click("Cancel subscription");
  await until("/v1/subscriptions/me", (found) => found.cancel_at !== null);
  assert.equal((await call("GET", "/v1/credits/balance")).balance_cents, 6000);
}

try {
  for (const step of [subscribe, topUp, buyInOtherWays, cancelInThePortal]) {
    await step();
    console.log(`done: ${step.name}`);
  }
  assert.deepEqual(problems, []);
} catch (error) {
  await shoot("failed");
  throw error;
} finally {
  await browser.close();
}
