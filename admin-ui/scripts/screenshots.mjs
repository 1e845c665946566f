// A picture of every page, in light and dark, wide and on a phone, and what axe-core finds on it.
// node scripts/screenshots.mjs <folder>   BASE_URL: where the pages are; SIGN_IN_AS; CHROMIUM
import { mkdir, readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";

import { chromium } from "playwright-core";

const base = process.env.BASE_URL ?? "http://127.0.0.1:8000";
const email = process.env.SIGN_IN_AS ?? "admin@ciris.ai";
const folder = process.argv[2] ?? "screenshots";
const only = process.argv[3];
const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const SIZES = { desktop: { width: 1360, height: 900 }, phone: { width: 390, height: 844 } };
const MAX_HEIGHT = 1800;
const FLAGS = ["no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking"];

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: [...FLAGS, "disable-component-update", "disable-sync"].map((flag) => `--${flag}`),
});
let serious = 0;
try {
  await mkdir(folder, { recursive: true });
  const cookies = await signIn();
  for (const scheme of ["light", "dark"]) {
    for (const [size, viewport] of Object.entries(SIZES)) {
      const context = await browser.newContext({ viewport, colorScheme: scheme, reducedMotion: "reduce" });
      const page = await context.newPage();
      page.on("console", (message) => ["error", "warning"].includes(message.type()) && console.log("console:", message.text()));
      page.on("pageerror", (error) => console.log("page error:", error.message));
      await shoot(page, "sign-in", "/users", `${size}-${scheme}`);
      await context.addCookies(cookies);
      for (const [name, address, steps] of await pages(context)) {
        if (only === undefined || name.includes(only)) await shoot(page, name, address, `${size}-${scheme}`, steps);
      }
      await context.close();
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

async function pages(context) {
  const get = async (address) => (await context.request.get(`${base}${address}`)).json();
  const { users } = await get("/admin/users?limit=1&balance=paid");
  const { purchases } = await get("/admin/purchases?status=succeeded");
  const purchase = `/purchases/${purchases.find((one) => one.refunded_minor < one.received_minor)?.purchase_id}`;
  const user = `/users/${users[0]?.account_id}`;
  const button = (name) => async (page) => page.getByRole("button", { name, exact: true }).first().click();
  return [
    ["users", "/users"],
    ["users-none", "/users?search=nobody-is-called-so"],
    ["user", user],
    ["user-adjust", user, button("Adjust credits")],
    ["user-suspend", user, button("Suspend")],
    ["user-missing", "/users/0"],
    ["purchases", "/purchases"],
    ["purchases-view", "/purchases?view=paid_not_credited"],
    ["purchase", purchase],
    ["purchase-refund", purchase, button("Refund")],
    ["api-keys", "/api-keys"],
    ["api-keys-create", "/api-keys", button("Create a key")],
    ["audit", "/audit"],
    ["admins", "/admins"],
    ["admins-invite", "/admins", button("Invite")],
    ["system", "/system"],
    ["search", "/users", search],
    ["menu", "/users", async (page) => (await page.getByLabel("Open the menu").isVisible()) && page.getByLabel("Open the menu").click()],
  ];
}

async function search(page) {
  await page.keyboard.press("/");
  await page.getByLabel("Search users, purchases and pages").fill("ada");
  await page.getByText("All users that begin with").waitFor();
}

async function shoot(page, name, address, variant, steps) {
  await page.setViewportSize(SIZES[variant.split("-")[0]]);
  await page.goto(`${base}/admin-ui${address}`);
  await page.locator("h1").first().waitFor();
  await page.waitForLoadState("networkidle");
  if (steps) {
    await steps(page);
    await page.waitForTimeout(350); // what opens is moving until then
  }
  if (!steps) {
    // The whole page by a taller window: in a long picture of a small one, what is fixed would end half-way.
    const { width, height } = page.viewportSize();
    const whole = await page.evaluate(() => document.documentElement.scrollHeight);
    await page.setViewportSize({ width, height: Math.min(Math.max(height, whole), MAX_HEIGHT) });
    await page.waitForTimeout(200);
  }
  await page.screenshot({ path: path.join(folder, `${name}-${variant}.png`) });
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  for (const { id, impact, nodes } of violations.filter((one) => ["serious", "critical"].includes(one.impact))) {
    serious += 1;
    console.log(`${name} ${variant}: ${id} (${impact}) ${nodes.slice(0, 3).map((node) => `${node.target} ${node.any[0]?.message ?? ""}`).join(" | ")}`);
  }
}
