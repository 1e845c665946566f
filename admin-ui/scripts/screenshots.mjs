// Screenshots of the back office, with axe-core's findings on each page.
// node scripts/screenshots.mjs <folder>         the pages, for the documentation (see `make screenshots`)
// node scripts/screenshots.mjs <folder> --all   dialogs and other states as well, each light and dark, wide and on a phone
// BASE_URL: where the pages are; SIGN_IN_AS; CHROMIUM; ONLY: names that contain this
import { mkdir, readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";

import { chromium } from "playwright-core";

const base = process.env.BASE_URL ?? "http://127.0.0.1:8000";
const email = process.env.SIGN_IN_AS ?? "admin@ciris.ai";
const folder = process.argv[2] ?? "screenshots";
const all = process.argv.includes("--all");
const SIZES = { desktop: { width: 1280, height: 800 }, phone: { width: 390, height: 844 } };
const MAX_HEIGHT = 1800;
const HEADER_HEIGHT = 90; // with the space above a section's title
const FLAGS = ["no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking"];

// The pages in docs/back-office.md. `examples` chooses {user}, {spender}, {purchase}, {subscription}, {subscriber}, {alert}
// and {book} from the existing data.
const PAGES = [
  { name: "users", address: "/users" },
  { name: "user", address: "/users/{user}" },
  { name: "user-money", address: "/users/{spender}", steps: section("Money") },
  { name: "purchases", address: "/purchases" },
  { name: "purchase", address: "/purchases/{purchase}" },
  { name: "subscriptions", address: "/subscriptions" },
  { name: "subscription", address: "/subscriptions/{subscription}" },
  { name: "subscription-figures", address: "/subscriptions?tab=figures" },
  { name: "alerts", address: "/alerts" },
  { name: "api-keys", address: "/api-keys" },
  { name: "analytics", address: "/analytics" },
  { name: "usage", address: "/usage" },
  { name: "price-book", address: "/price-books/{book}" },
  { name: "margins", address: "/margins" },
  { name: "configuration", address: "/configuration" },
  { name: "audit", address: "/audit" },
  { name: "admins", address: "/admins" },
  { name: "system", address: "/system" },
  { name: "overview", address: "/", dark: true }, // last: its health note needs a worker that has run for a while
];
const STATES = [
  { name: "sign-in", address: "/users", signedOut: true },
  { name: "users-none", address: "/users?search=no-such-user" },
  { name: "user-adjust", address: "/users/{user}", steps: button("Adjust credits") },
  { name: "user-suspend", address: "/users/{user}", steps: button("Suspend") },
  { name: "user-erase", address: "/users/{user}", steps: erase },
  { name: "approvals", address: "/approvals?show=all" },
  { name: "refusals", address: "/refusals" },
  { name: "subscriptions-failed", address: "/subscriptions?tab=failed" },
  { name: "subscriptions-plans", address: "/subscriptions?tab=plans" },
  { name: "plan", address: "/subscriptions/plans/standard" },
  { name: "plan-withdraw", address: "/subscriptions/plans/standard", steps: button("Withdraw") },
  { name: "user-subscription", address: "/users/{subscriber}", steps: section("Subscription") },
  { name: "alert", address: "/alerts/{alert}" },
  { name: "alert-hold", address: "/alerts/{alert}", steps: button("Hold") },
  { name: "alert-rule", address: "/alerts", steps: button("Change rule: Many purchases with one card") },
  { name: "analytics-test", address: "/analytics?environment=test" },
  { name: "configuration-products", address: "/configuration?section=products" },
  { name: "configuration-defaults", address: "/configuration?section=defaults" },
  { name: "configuration-providers", address: "/configuration?section=providers" },
  { name: "configuration-keys", address: "/configuration?section=providers", steps: button("Replace keys") },
  { name: "purchases-reconcile", address: "/purchases", steps: button("Reconcile all") },
  { name: "users-spellings", address: "/users/spellings" },
  { name: "users-sorted", address: "/users?sort=balance" },
  { name: "user-missing", address: "/users/0" },
  { name: "purchases-view", address: "/purchases?view=paid_not_credited" },
  { name: "purchase-refund", address: "/purchases/{purchase}", steps: button("Refund") },
  { name: "api-keys-create", address: "/api-keys", steps: button("Create key") },
  { name: "admins-invite", address: "/admins", steps: button("Invite") },
  { name: "search", address: "/users", steps: search },
  { name: "menu", address: "/users", steps: menu },
];

const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: [...FLAGS, "disable-component-update", "disable-sync"].map((flag) => `--${flag}`),
});
let serious = 0;
try {
  await mkdir(folder, { recursive: true });
  const cookies = await signIn();
  const chosen = await examples(cookies);
  const selected = [...PAGES, ...(all ? STATES : [])].filter(({ name }) => name.includes(process.env.ONLY ?? ""));
  for (const scheme of ["light", "dark"]) {
    for (const size of Object.keys(SIZES)) {
      for (const one of selected) {
        if (all || scheme === "light" || (one.dark && size === "desktop")) {
          await shoot(one, chosen, one.signedOut ? [] : cookies, size, scheme);
        }
      }
    }
  }
} finally {
  await browser.close();
}
console.log(`${serious} serious findings`);
process.exitCode = serious === 0 ? 0 : 1;

async function signIn() {
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(`${base}/admin-ui/users`);
  await page.getByRole("link", { name: "Sign in" }).click();
  await page.getByRole("button", { name: email }).click();
  await page.waitForURL(/\/admin-ui\//);
  const cookies = await context.cookies();
  await context.close();
  return cookies;
}

// Choose what to show: a user, a purchase and an alert with a history, a user who spends money, proposed prices.
async function examples(cookies) {
  const context = await browser.newContext();
  await context.addCookies(cookies);
  const get = async (address) => (await context.request.get(`${base}/admin${address}`)).json();
  const { purchases } = await get("/purchases?status=succeeded&environment=live&limit=200");
  const partly = purchases.find((one) => 0 < one.refunded_minor && one.refunded_minor < one.received_minor);
  const { users } = await get("/users?balance=paid&environment=live&limit=200");
  const named = users.filter((one) => one.customer_email && one.display_name);
  const busiest = named.toSorted((one, other) => other.total_uses - one.total_uses)[0];
  const { alerts } = await get("/alerts?environment=live");
  const { events } = await get("/usage/events?environment=live&meter=cost-record&status=charged&limit=50");
  const spenders = await Promise.all([...new Set(events.map((one) => one.account_id))].map(async (id) => ({ id, wallet: await get(`/users/${id}/wallet`) })));
  const rich = spenders.filter(({ wallet }) => Number(wallet.granted_money) > 0 && Number(wallet.money) > 0);
  const spender = (rich.length > 0 ? rich : spenders).toSorted((one, other) => Number(other.wallet.lifetime_used) - Number(one.wallet.lifetime_used))[0];
  const { price_books: books } = await get("/price-books");
  const book = books.find((one) => one.state === "proposed") ?? books[0];
  const { subscriptions } = await get("/subscriptions?environment=live&limit=200");
  const due = subscriptions.find((one) => one.status === "past_due") ?? subscriptions[0];
  await context.close();
  return { subscriber: due?.account_id, subscription: due && `${due.account_id}/${due.subscription_id}`, user: busiest?.account_id, purchase: (partly ?? purchases[0])?.purchase_id, alert: alerts[0]?.alert_id, spender: spender?.id, book: book?.version };
}

function button(name) {
  return async (page) => page.getByRole("button", { name, exact: true }).first().click();
}

function section(title) {
  return async (page) => page.getByRole("heading", { name: title, exact: true }).first().evaluate((one, header) => window.scrollBy(0, one.getBoundingClientRect().top - header), HEADER_HEIGHT);
}

async function menu(page) {
  const opener = page.getByLabel("Open menu");
  if (await opener.isVisible()) await opener.click();
}

async function erase(page) {
  await page.getByRole("button", { name: "More actions" }).click();
  await page.getByRole("menuitem", { name: "Erase person" }).click();
}

async function search(page) {
  await page.keyboard.press("/");
  await page.getByLabel("Search users, purchases, keys and pages").fill("paid");
  await page.getByText("All users that match").waitFor();
}

async function shoot({ name, address, steps }, chosen, cookies, size, scheme) {
  const context = await browser.newContext({ viewport: SIZES[size], colorScheme: scheme, reducedMotion: "reduce" });
  await context.addCookies(cookies);
  const page = await context.newPage();
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && console.log("console:", message.text()));
  page.on("pageerror", (error) => console.log("page error:", error.message));
  await page.goto(`${base}/admin-ui${address.replace(/\{(\w+)\}/, (_, key) => chosen[key])}`);
  await page.locator("h1").first().waitFor();
  await page.waitForLoadState("networkidle");
  await page.waitForFunction(() => document.querySelector(".mantine-Skeleton-root") === null); // and the charts are loaded
  if (steps) {
    await steps(page);
    await page.waitForTimeout(350); // wait for the opening animation
  } else if (all) {
    // Enlarge the window to the page: in a full-page screenshot, fixed elements would end half-way.
    const { width, height } = page.viewportSize();
    const whole = await page.evaluate(() => document.documentElement.scrollHeight);
    await page.setViewportSize({ width, height: Math.min(Math.max(height, whole), MAX_HEIGHT) });
    await page.waitForTimeout(200);
  }
  await page.screenshot({ path: path.join(folder, `${name}-${size}-${scheme}.png`) });
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  for (const { id, impact, nodes } of violations.filter((one) => ["serious", "critical"].includes(one.impact))) {
    serious += 1;
    const where = nodes.slice(0, 3).map((node) => `${node.target} ${node.any[0]?.message ?? ""}`);
    console.log(`${name} ${size} ${scheme}: ${id} (${impact}) ${where.join(" | ")}`);
  }
  await context.close();
}
