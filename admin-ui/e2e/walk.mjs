// End-to-end test of an admin's tasks, in a real browser against a running service.
// BASE_URL: the service; SIGN_IN_AS; USER: an external id; PURCHASE: a paid purchase's id; ALERT: the id of an open alert
// about the user; API_KEY: one that can create purchases; CHROMIUM; SHOTS: a folder for screenshots
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";

import { chromium } from "playwright-core";

const { BASE_URL: base, SIGN_IN_AS: email, USER: user, PURCHASE: purchase, ALERT: alert, API_KEY: apiKey, SHOTS: folder } = process.env;
const FLAGS = ["no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking"];
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: [...FLAGS, "disable-component-update", "disable-sync"].map((flag) => `--${flag}`),
});
const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, reducedMotion: "reduce" });
context.setDefaultTimeout(15_000);
const page = await context.newPage();
const problems = [];
page.on("pageerror", (error) => problems.push(error.message));
page.on("console", (message) => message.text().includes("Content Security Policy") && problems.push(message.text()));
const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const PAGES = [
  "/",
  "/users",
  "/users/spellings",
  "/purchases",
  `/purchases/${purchase}`,
  "/subscriptions",
  "/subscriptions?tab=failed",
  "/subscriptions?tab=plans",
  "/subscriptions?tab=figures",
  "/subscriptions/plans/pro",
  "/alerts",
  `/alerts/${alert}`,
  "/approvals",
  "/refusals",
  "/double-charges",
  "/api-keys",
  "/analytics",
  "/margins",
  "/usage",
  "/usage?view=events",
  "/price-books",
  "/price-books?tab=unknown",
  "/price-books?tab=calculator",
  "/price-books/1",
  "/price-books/1?tab=models&status=disputed",
  "/price-books/1?tab=rules",
  "/configuration",
  "/configuration?section=products",
  "/configuration?section=defaults",
  "/configuration?section=rates",
  "/configuration?section=providers",
  "/audit",
  "/system",
  "/admins",
];
const WRONG_NUMBERS = ["1.5", "-7", "1e5", "1,000", "１２", " ", "5 ", "12345678901234567890"];
const NUMBERS_OF = {
  packs: ["Credits"],
  products: ["Price in credits", "Initial free uses", "Daily free uses", "Maximum free uses"],
  defaults: ["Free credits", "Daily free credits"],
};
const customer = { oauth_provider: "oauth:google", external_id: user };
const dialog = page.getByRole("dialog");
const press = (name) => page.getByRole("button", { name, exact: true }).first().click();

try {
  await step("sign in, and return to the requested page", async () => {
    await page.goto(`${base}/admin-ui/users?search=${encodeURIComponent(user)}`);
    await page.getByRole("link", { name: "Sign in" }).click();
    await page.getByRole("button", { name: email }).click();
    await page.waitForURL(/\/admin-ui\/users\?search=/);
  });
  await step("find the user and add credits", async () => {
    await page.getByRole("link", { name: user }).first().click();
    await press("Adjust credits");
    await dialog.getByRole("textbox", { name: "Credits" }).fill("25");
    await dialog.getByRole("textbox", { name: "Reason" }).fill("Ticket 4711");
    await context.setOffline(true); // fails immediately, and is not sent later
    await dialog.getByRole("button", { name: "Add 25" }).click();
    await dialog.getByText("The server cannot be reached").waitFor();
    await context.setOffline(false);
    await dialog.getByRole("button", { name: "Add 25" }).click();
    await dialog.waitFor({ state: "hidden" });
    await page.getByText("+25").first().waitFor();
    await page.reload(); // a deep link leads to the same page
    await page.getByText("Ticket 4711").filter({ visible: true }).first().waitFor();
  });
  await step("type invalid numbers: each is kept with an error at its field, and nothing is saved", async () => {
    const writes = [];
    const note = (request) => request.method() !== "GET" && writes.push(request.url());
    page.on("request", note);
    await press("Adjust credits");
    await dialog.getByRole("textbox", { name: "Reason" }).fill("Ticket 4711");
    await refused(dialog.getByRole("textbox", { name: "Credits" }), dialog.getByRole("button", { name: "Adjust" }), WRONG_NUMBERS);
    await dialog.getByRole("textbox", { name: "Credits" }).fill("2000000");
    await dialog.getByRole("button", { name: "Add 2,000,000" }).click({ force: true });
    await dialog.getByText("Confirm the amount: 2,000,000 credits").waitFor();
    await dialog.getByRole("button", { name: "Cancel" }).click();
    await page.goto(`${base}/admin-ui/alerts`);
    await page.getByRole("button", { name: "Change rule: Many purchases with one card" }).click();
    await dialog.getByRole("textbox", { name: "Reason" }).fill("Ticket 4711");
    for (const name of ["Purchases per card", "Period in hours"]) {
      await refused(dialog.getByRole("textbox", { name }), dialog.getByRole("button", { name: "Change rule" }));
      await dialog.getByRole("textbox", { name }).fill("5");
    }
    await dialog.getByRole("button", { name: "Cancel" }).click();
    await page.goto(`${base}/admin-ui/api-keys`);
    await press("Create key");
    await dialog.getByRole("textbox", { name: "Name" }).fill("n".repeat(120));
    await refused(dialog.getByRole("textbox", { name: "Requests per minute" }), dialog.getByRole("button", { name: "Create key" }));
    await dialog.getByRole("button", { name: "Cancel" }).click();
    for (const [section, names] of Object.entries(NUMBERS_OF)) {
      await page.goto(`${base}/admin-ui/configuration?section=${section}`);
      for (const name of names) {
        const field = page.getByRole("textbox", { name, exact: true }).first();
        const before = await field.inputValue();
        await refused(field, page.getByRole("button", { name: "Review and save" }));
        await field.fill(before);
      }
    }
    page.off("request", note);
    assert.deepEqual(writes, []);
  });
  await step("find people, purchases and keys from anywhere: Enter opens the first hit", async () => {
    const searchFor = async (text, address) => {
      const field = page.getByLabel("Search users, purchases, keys and pages");
      await page.keyboard.press("Control+KeyK");
      await field.fill(text);
      await page.keyboard.press("Enter"); // before the results arrive
      await page.waitForURL(address);
      await field.waitFor({ state: "hidden" }); // a closing dialog forgets what is typed
    };
    const { users } = await (await context.request.get(`${base}/admin/users?search=${encodeURIComponent(user)}`)).json();
    const account = new RegExp(`/users/${users[0].account_id}`);
    await searchFor(` \u00a0${user.toUpperCase()}\u200b `, account);
    await searchFor(purchase, new RegExp(`/purchases/${purchase}`));
    await searchFor(user.split("@")[1], account); // a word inside the address
    await searchFor(alert, new RegExp(`/alerts/${alert}`));
    await searchFor(apiKey.split("_")[2].slice(0, 12), /\/api-keys\?search=/);
    await searchFor("audit", /\/audit/);
  });
  await step("see it in the audit log", async () => {
    await page.goto(`${base}/admin-ui/audit`);
    await page.getByText("Ticket 4711").filter({ visible: true }).first().waitFor();
  });
  await step("create a key, use it, revoke it", async () => {
    await page.goto(`${base}/admin-ui/api-keys`);
    await press("Create key");
    await dialog.getByRole("textbox", { name: "Name" }).fill("walk");
    await dialog.getByRole("button", { name: "Create" }).click();
    const key = (await dialog.getByText(/^cbk_/).innerText()).trim();
    assert.match(key, /^cbk_live_/);
    assert.equal(await checkWith(key), 200);
    await press("Done");
    assert.ok(!(await page.content()).includes(key), "the key is still in the page");
    const row = page.getByRole("row").filter({ hasText: "walk" });
    await row.getByRole("button").last().click();
    await page.getByRole("menuitem", { name: "Revoke" }).click();
    await dialog.getByRole("button", { name: "Revoke key" }).click();
    await dialog.waitFor({ state: "hidden" });
    await page.waitForTimeout(1000); // takes effect within a second
    assert.equal(await checkWith(key), 401);
  });
  await step("refund a purchase, and see its credits taken back", async () => {
    await page.goto(`${base}/admin-ui/purchases/${purchase}`);
    await press("Refund");
    await dialog.getByRole("textbox", { name: "Reason" }).fill("Unhappy customer");
    const writes = [];
    page.on("request", (request) => request.method() === "POST" && writes.push(request.url()));
    await dialog.getByRole("button", { name: "Refund 5.00 USD" }).dblclick(); // a double click sends one request
    await dialog.waitFor({ state: "hidden" });
    await page.getByText("20 credits by refunds").waitFor();
    assert.equal(writes.length, 1);
  });
  await step("see an alert, hold the account, and release it", async () => {
    await page.goto(`${base}/admin-ui/`);
    await page.getByRole("link", { name: "1 open alert about unusual activity" }).click();
    await page.getByRole("link", { name: /^Alerts/ }).getByText("1").waitFor(); // the badge
    await page.getByRole("link", { name: "Spending far above the usual rate" }).first().click();
    await page.getByText("900 credits in a day, usually 12").waitFor();
    await press("Hold");
    await dialog.getByRole("textbox", { name: "Reason" }).fill("Looks like a leaked token");
    await dialog.getByRole("button", { name: "Hold" }).click();
    await dialog.waitFor({ state: "hidden" });
    await page.getByText("On hold", { exact: true }).waitFor();
    assert.equal(await chargeOf(user), 403);
    await press("Dismiss");
    await dialog.getByRole("textbox", { name: "Reason" }).fill("The customer called, it was them");
    await dialog.getByRole("button", { name: "Dismiss" }).click();
    await dialog.waitFor({ state: "hidden" });
    await page.getByText("Dismissed", { exact: true }).waitFor();
    assert.equal(await chargeOf(user), 201);
  });
  await step("change a pack's price, and see the next purchase use it", async () => {
    assert.equal((await buy()).amount_minor, 500);
    await page.goto(`${base}/admin-ui/configuration`);
    await page.getByRole("textbox", { name: "Price" }).fill("6.50");
    await page.getByText("6.50 USD for 20 credits, 0.325 USD each").waitFor();
    await press("Review and save");
    await dialog.getByText("5.00 USD for 20 credits, 0.25 USD each").waitFor();
    await dialog.getByRole("textbox", { name: "Reason" }).fill("Autumn prices");
    await setPriceElsewhere(600); // a concurrent change: nothing is overwritten unseen, and no edit is lost
    await dialog.getByRole("button", { name: "Save change" }).click();
    await page.getByText("Another admin changed this while you were editing").waitFor();
    await press("Keep my changes");
    await press("Review and save");
    await dialog.getByText("6.00 USD for 20 credits, 0.30 USD each").waitFor();
    await dialog.getByRole("button", { name: "Save change" }).click();
    await dialog.waitFor({ state: "hidden" });
    await page.getByText("Version 2", { exact: true }).waitFor();
    await page.waitForTimeout(1000); // takes effect within a second
    assert.equal((await buy()).amount_minor, 650);
  });
  await step("compare the server settings before resetting to them", async () => {
    await press("Reset to server settings");
    await page.waitForFunction(() => document.activeElement?.matches("[role=dialog] textarea")); // the reason has the focus
    await dialog.getByText("6.50 USD for 20 credits, 0.325 USD each").waitFor();
    await dialog.getByText("5.00 USD for 20 credits, 0.25 USD each").waitFor();
    await dialog.getByRole("button", { name: "Cancel" }).click();
    await dialog.waitFor({ state: "hidden" });
  });
  await step("add a display rate: wrong ones are refused at their fields, and the sentence is previewed", async () => {
    await page.goto(`${base}/admin-ui/configuration?section=rates`);
    await page.getByText("No display rates").waitFor();
    await press("Add rate");
    await page.getByRole("textbox", { name: "Shown in" }).fill("uah");
    await page.getByRole("textbox", { name: "Source" }).fill("NBU");
    await refused(page.getByRole("textbox", { name: "Rate", exact: true }), page.getByRole("button", { name: "Review and save" }), ["41,5", "-1", "0"]);
    await page.getByRole("textbox", { name: "Rate", exact: true }).fill("41.52");
    await press("Review and save");
    await dialog.getByText(/^1 USD is 41\.52 UAH \(NBU, /).waitFor();
    await dialog.getByRole("textbox", { name: "Reason" }).fill("The rate of today");
    await dialog.getByRole("button", { name: "Save change" }).click();
    await dialog.waitFor({ state: "hidden" });
    await page.getByText("Version 1", { exact: true }).waitFor();
  });
  await step("stop billing an account's usage, see it in the audit log, and resume", async () => {
    for (const [action, confirm] of [["Stop billing usage", "Stop billing"], ["Resume billing usage", "Resume billing"]]) {
      await page.goto(`${base}/admin-ui${await userPage()}`);
      await press("More actions");
      await page.getByRole("menuitem", { name: action }).click();
      await dialog.getByRole("textbox", { name: "Reason" }).fill(`A partner: ${action}`);
      await dialog.getByRole("button", { name: confirm, exact: true }).click();
      await dialog.waitFor({ state: "hidden" });
      await page.getByText("Not billed", { exact: true }).waitFor({ state: confirm === "Stop billing" ? "visible" : "hidden" });
    }
    await page.goto(`${base}/admin-ui/audit?action=account.set_billing`);
    await page.getByText("A partner: Stop billing usage").filter({ visible: true }).first().waitFor();
  });
  await step("read the audit log with labels and units", async () => {
    await page.goto(`${base}/admin-ui/audit?action=purchase.refund`);
    await page.getByText("Refunded", { exact: true }).waitFor();
    await page.getByText("0.00 USD").waitFor();
    assert.ok(!(await page.content()).includes("_minor"), "a raw field's name is in the page");
  });
  await step("give a grant of money, exactly, and end it", async () => {
    await page.goto(`${base}/admin-ui${await userPage()}`);
    await press("Give grant");
    await dialog.getByText("Money", { exact: true }).click();
    await refused(dialog.getByRole("textbox", { name: "Amount in USD" }), dialog.getByRole("button", { name: /^Give/ }), ["1,50", "-7", "1e5"]);
    await dialog.getByRole("textbox", { name: "Amount in USD" }).fill("5.000000001");
    await dialog.getByRole("textbox", { name: "Reason" }).fill("Ticket 4712");
    await dialog.getByRole("button", { name: "Give 5.000000001 USD" }).dblclick(); // one grant
    await dialog.waitFor({ state: "hidden" });
    await page.getByText("of 5.000000001 USD").waitFor();
    assert.equal(await page.getByText("of 5.000000001 USD").count(), 1);
    await press("End grant of 5.000000001 USD");
    await dialog.getByRole("textbox", { name: "Reason" }).fill("Ticket 4713");
    await dialog.getByRole("button", { name: "End grant" }).click();
    await dialog.waitFor({ state: "hidden" });
    await page.getByText("No open grants").waitFor();
  });
  await step("set a limit, see its counter, change it, and remove it", async () => {
    await page.goto(`${base}/admin-ui${await userPage()}`);
    await press("Set limit");
    await refused(dialog.getByRole("textbox", { name: "Credits" }), dialog.getByRole("button", { name: "Set limit" }), ["1.5", "-7", "1e5"]);
    await dialog.getByRole("textbox", { name: "Credits" }).fill("50");
    await dialog.getByRole("textbox", { name: "Reason" }).fill("Ticket 4714");
    await dialog.getByRole("button", { name: "Set limit" }).dblclick(); // one limit
    await dialog.waitFor({ state: "hidden" });
    await page.getByText("of 50 credits").waitFor();
    await page.getByRole("progressbar", { name: /^Used: \d+ %$/ }).waitFor({ state: "attached" }); // an empty bar has no width
    await press("Change limit: Whole account, day, refuse");
    await dialog.getByRole("textbox", { name: "Credits" }).fill("40");
    await dialog.getByRole("textbox", { name: "Reason" }).fill("Ticket 4715");
    await dialog.getByRole("button", { name: "Change limit" }).click();
    await dialog.waitFor({ state: "hidden" });
    await page.getByText("of 40 credits").waitFor();
    await press("Remove limit: Whole account, day, refuse");
    await dialog.getByRole("textbox", { name: "Reason" }).fill("Ticket 4716");
    await dialog.getByRole("button", { name: "Remove limit" }).click();
    await dialog.waitFor({ state: "hidden" });
    await page.getByText("No limits", { exact: true }).waitFor();
  });
  await step("see a hold and a run, pause the run, find why its request was refused, and resume it", async () => {
    const run = { ...customer, run_id: "walked" };
    assert.equal((await call("/v1/billing/runs", { ...run, budget: { amount_minor: 1000 } })).status, 201);
    assert.equal((await call("/v1/billing/holds", { ...run, amount_minor: 200, product_type: "walking" })).status, 201);
    await page.goto(`${base}/admin-ui${await userPage()}`);
    await page.getByRole("table", { name: "Holds" }).getByText("walking · run walked").waitFor();
    await page.getByRole("table", { name: "Runs" }).getByText("2 credits of 10 credits").waitFor();
    await page.getByRole("link", { name: "walked", exact: true }).click();
    await page.getByRole("table", { name: "Calls of walked" }).getByText("Hold · walking").waitFor();
    await changeRun("Pause");
    await page.getByText("Paused", { exact: true }).waitFor();
    const answer = await call("/v1/billing/charges", { ...run, amount_minor: 100 });
    assert.equal(answer.status, 402);
    const address = page.url();
    const refusal = page.getByRole("table", { name: "Refused requests" }).getByText("Run paused", { exact: true });
    const until = Date.now() + 15_000; // refusals are written every few seconds
    do {
      assert(Date.now() < until, "the refusal did not appear");
      await page.goto(`${base}/admin-ui/refusals?request_id=${answer.headers.get("x-request-id")}`);
      await page.waitForLoadState("networkidle");
    } while ((await refusal.count()) === 0);
    await page.goto(`${base}/admin-ui/double-charges`);
    await page.getByRole("link", { name: "Refused double charges", exact: true }).click();
    await page.getByText("No refused request matches").waitFor();
    await page.goto(address);
    await changeRun("Resume");
    await page.getByText("Open", { exact: true }).waitFor();
    await press("Set budget");
    await refused(dialog.getByRole("textbox", { name: "Credits" }), dialog.getByRole("button", { name: "Set budget" }), ["1.5", "-7"]);
    await dialog.getByRole("textbox", { name: "Credits" }).fill("20");
    await dialog.getByRole("textbox", { name: "Reason" }).fill("Ticket 4717");
    await dialog.getByRole("button", { name: "Set budget" }).click();
    await dialog.waitFor({ state: "hidden" });
    await page.getByText("2 credits of 20 credits").waitFor();
  });
  await step("withdraw a plan with a reason, and find who did it", async () => {
    await page.goto(`${base}/admin-ui/subscriptions?tab=plans`);
    await page.getByRole("table", { name: "Plans" }).getByRole("link", { name: "Pro", exact: true }).click();
    await press("Withdraw");
    await dialog.getByRole("textbox", { name: "Reason" }).fill("Replaced by Standard");
    await dialog.getByRole("button", { name: "Withdraw plan" }).click();
    await dialog.waitFor({ state: "hidden" });
    await page.getByRole("table", { name: "Versions" }).getByText("Replaced by Standard").waitFor();
    await page.getByRole("link", { name: "Audit log", exact: true }).last().click();
    await page.getByText("Withdrew a plan").first().waitFor();
  });
  await step("calculate a price, confirm a disputed row, and put the version in force", async () => {
    await page.goto(`${base}/admin-ui/price-books/1?tab=models&status=disputed`);
    await page.getByRole("combobox", { name: /^Right source of/ }).click();
    await page.getByRole("option", { name: "other" }).click();
    await press("Confirm 1 row");
    await dialog.getByRole("textbox", { name: "Reason" }).fill("The provider's page says so");
    await dialog.getByRole("button", { name: "Create version" }).click();
    await page.waitForURL(/\/price-books\/2/);
    await press("Put in force");
    await dialog.getByRole("textbox", { name: "Reason" }).fill("Autumn prices");
    await dialog.getByRole("button", { name: "Put in force now" }).click();
    await dialog.waitFor({ state: "hidden" });
    await page.getByText("In force", { exact: true }).waitFor();
    await page.goto(`${base}/admin-ui/price-books?tab=calculator`);
    await page.getByRole("textbox", { name: "Model", exact: true }).fill("mini");
    await page.getByRole("textbox", { name: "Provider", exact: true }).fill("openai");
    await press("Calculate");
    await page.getByText("0.0070005 USD").first().waitFor(); // 2,000 and 1,000 tokens at the chosen source's prices
  });
  await step("find a usage event by its model, and see its price line by line", async () => {
    await reportUsage("seen-1");
    await page.goto(`${base}/admin-ui/usage?model=mini`);
    await page.getByRole("table", { name: "Sums" }).getByRole("link", { name: "1", exact: true }).click();
    await page.waitForURL(/view=events/);
    await page.getByRole("table", { name: "Events" }).getByRole("link").first().click();
    await page.getByRole("table", { name: "Price breakdown" }).getByText("0.000200025 USD").waitFor();
  });
  await step("find no accessibility violations on any page, in light and dark, and nothing wider than a phone", async () => {
    for (const address of [...PAGES, await userPage(), await runPage()]) {
      await page.goto(`${base}/admin-ui${address}`);
      await page.locator("h1").waitFor();
      await page.waitForLoadState("networkidle");
      await page.evaluate(axe);
      for (const colorScheme of ["light", "dark"]) {
        await page.emulateMedia({ colorScheme });
        await page.waitForTimeout(250); // wait for colour transitions
        await page.evaluate(() =>
          Promise.allSettled(
            document.getAnimations().flatMap((one) => (one instanceof CSSTransition ? [one.finished] : [])),
          ),
        );
        assert.deepEqual(await seriousViolations(), [], `${address} in ${colorScheme}`);
      }
      await page.setViewportSize({ width: 390, height: 844 });
      await page.waitForFunction(() => document.documentElement.scrollWidth <= window.innerWidth, null, { timeout: 3000 });
      await page.setViewportSize({ width: 1280, height: 900 });
    }
  });
  await step("sign out", async () => {
    await page.getByRole("button", { name: /^Signed in as/ }).click();
    await page.getByRole("menuitem", { name: "Sign out" }).click();
    await page.getByRole("link", { name: "Sign in" }).waitFor();
    assert.equal((await context.request.get(`${base}/admin/oauth/user`)).status(), 401);
    assert.equal(await page.getByRole("alert").count(), 0);
  });
  await step("see the reason after a session was ended elsewhere, or a sign-in refused", async () => {
    await page.getByRole("link", { name: "Sign in" }).click();
    await page.getByRole("button", { name: email }).click();
    await page.getByRole("link", { name: "Users", exact: true }).waitFor();
    const { csrf_token: token } = await (await context.request.get(`${base}/admin/oauth/user`)).json();
    await context.request.post(`${base}/admin/oauth/logout`, { headers: { "X-CSRF-Token": token } });
    const go = page.getByRole("navigation").getByRole("link", { name: "Purchases" }).click();
    // A background request can notice the ended session first: then there is no link to click.
    await Promise.race([go.catch(() => undefined), page.getByText("Your session has ended").waitFor()]);
    await page.getByText("Your session has ended").waitFor();
    await page.goto(`${base}/admin/oauth/callback?state=of-another-browser&code=1`);
    await page.getByText("Sign-in state mismatch or expired").waitFor();
    await page.evaluate(axe);
    assert.deepEqual(await seriousViolations(), []);
  });
  assert.deepEqual(problems, []);
} finally {
  await browser.close();
}

async function step(name, work) {
  try {
    await work();
    console.log(`done: ${name}`);
  } catch (error) {
    if (folder) await page.screenshot({ path: `${folder}/failed.png` });
    console.error(`failed: ${name} at ${page.url()}\n${error.stack}`);
    throw error;
  }
}

/** Check that each text stays in its field with an error, and that the button does nothing. */
async function refused(field, button, texts = WRONG_NUMBERS.slice(0, 2)) {
  for (const text of texts) {
    await field.fill(text);
    await button.click({ force: true }); // aria-disabled, so it receives clicks
    assert.equal(await field.inputValue(), text);
    assert.equal(await field.getAttribute("aria-invalid"), "true", `${text} has no error`);
  }
}

/** Return axe-core's serious and critical violations. */
async function seriousViolations() {
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  const serious = violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
  return serious.map(({ id, nodes }) => `${id}: ${nodes.map(({ target }) => target).join(", ")}`);
}

async function userPage() {
  const { users } = await (await context.request.get(`${base}/admin/users?search=${encodeURIComponent(user)}`)).json();
  return `/users/${users[0].account_id}`;
}

async function runPage() {
  const path = await userPage();
  const { runs } = await (await context.request.get(`${base}/admin${path}/runs`)).json();
  return `${path}/runs/${runs[0].run_uuid}`;
}

async function setPriceElsewhere(priceMinor) {
  const { csrf_token: token } = await (await context.request.get(`${base}/admin/oauth/user`)).json();
  const { version, packs } = await (await context.request.get(`${base}/admin/config/packs`)).json();
  const data = { version, reason: "A colleague", packs: packs.map((pack) => ({ ...pack, price_minor: priceMinor })) };
  const answer = await context.request.put(`${base}/admin/config/packs`, { data, headers: { "X-CSRF-Token": token } });
  assert.equal(answer.status(), 200);
}

/** Pause or resume the run on the page. */
async function changeRun(name) {
  await press(name);
  await dialog.getByRole("textbox", { name: "Reason" }).fill("Ticket 4718");
  await dialog.getByRole("button", { name, exact: true }).click();
  await dialog.waitFor({ state: "hidden" });
}

/** Send a request with the API key. */
function call(path, body) {
  const headers = { "X-API-Key": apiKey, "Content-Type": "application/json" };
  return fetch(`${base}${path}`, { method: "POST", headers, body: JSON.stringify(body) });
}

/** Create a purchase for a new customer, because an open purchase keeps its price. */
async function buy() {
  const answer = await call("/v1/billing/purchases", { ...customer, external_id: `${crypto.randomUUID()}@example.com` });
  assert.equal(answer.status, 201);
  return answer.json();
}

/** Report 100 input tokens of the model whose price was confirmed. */
async function reportUsage(eventId) {
  const metric = { type: "llm_tokens", provider: "openai", model: "mini", input_tokens: 100, output_tokens: 0 };
  const answer = await call("/v1/usage", { ...customer, event_id: eventId, metric });
  assert.equal(answer.status, 200, await answer.clone().text());
}

async function chargeOf(externalId) {
  return (await call("/v1/billing/charges", { ...customer, external_id: externalId, amount_minor: 100 })).status;
}

async function checkWith(key) {
  const answer = await fetch(`${base}/v1/billing/check`, {
    method: "POST",
    headers: { "X-API-Key": key, "Content-Type": "application/json" },
    body: JSON.stringify({ oauth_provider: "oauth:google", external_id: user }),
  });
  return answer.status;
}
