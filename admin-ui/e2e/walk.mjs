// What an admin does, in a real browser, against a running service.
// BASE_URL: the service; SIGN_IN_AS; USER: an external id; PURCHASE: a paid purchase's id; CHROMIUM; SHOTS: a folder
import assert from "node:assert/strict";

import { chromium } from "playwright-core";

const { BASE_URL: base, SIGN_IN_AS: email, USER: user, PURCHASE: purchase, SHOTS: folder } = process.env;
const FLAGS = ["no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking"];
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: [...FLAGS, "disable-component-update", "disable-sync"].map((flag) => `--${flag}`),
});
const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, reducedMotion: "reduce" });
context.setDefaultTimeout(15_000);
const page = await context.newPage();
const complaints = [];
page.on("pageerror", (error) => complaints.push(error.message));
page.on("console", (message) => message.text().includes("Content Security Policy") && complaints.push(message.text()));
const dialog = page.getByRole("dialog");
const press = (name) => page.getByRole("button", { name, exact: true }).first().click();

try {
  await step("sign in, and be where one wanted to go", async () => {
    await page.goto(`${base}/admin-ui/users?search=${encodeURIComponent(user)}`);
    await page.getByRole("link", { name: "Sign in" }).click();
    await page.getByRole("button", { name: email }).click();
    await page.waitForURL(/\/admin-ui\/users\?search=/);
  });
  await step("find the user and give credits", async () => {
    await page.getByRole("link", { name: user }).first().click();
    await press("Adjust credits");
    await dialog.getByRole("textbox", { name: "Credits" }).fill("25");
    await dialog.getByRole("textbox", { name: "Reason" }).fill("Ticket 4711");
    await dialog.getByRole("button", { name: "Give 25" }).click();
    await dialog.waitFor({ state: "hidden" });
    await page.getByText("+25").first().waitFor();
    await page.reload(); // a deep link leads to the same page
    await page.getByText("Ticket 4711").filter({ visible: true }).first().waitFor();
  });
  await step("see it in the audit log", async () => {
    await page.goto(`${base}/admin-ui/audit`);
    await page.getByText("Ticket 4711").filter({ visible: true }).first().waitFor();
  });
  await step("make a key, use it, revoke it", async () => {
    await page.goto(`${base}/admin-ui/api-keys`);
    await press("Create a key");
    await dialog.getByRole("textbox", { name: "Name" }).fill("walk");
    await dialog.getByRole("button", { name: "Create" }).click();
    const key = (await dialog.getByText(/^cbk_/).innerText()).trim();
    assert.match(key, /^cbk_live_/);
    assert.equal(await checkWith(key), 200);
    await press("I have it");
    assert.ok(!(await page.content()).includes(key), "the key is still in the page");
    const row = page.getByRole("row").filter({ hasText: "walk" });
    await row.getByRole("button").last().click();
    await page.getByRole("menuitem", { name: "Revoke" }).click();
    await dialog.getByRole("button", { name: "Revoke the key" }).click();
    await dialog.waitFor({ state: "hidden" });
    await page.waitForTimeout(1000); // within a second, it says
    assert.equal(await checkWith(key), 401);
  });
  await step("refund a purchase, and see the credits leave", async () => {
    await page.goto(`${base}/admin-ui/purchases/${purchase}`);
    await press("Refund");
    await dialog.getByRole("textbox", { name: "Reason" }).fill("Unhappy customer");
    await dialog.getByRole("button", { name: "Refund 5.00 USD" }).click();
    await dialog.waitFor({ state: "hidden" });
    await page.getByText("20 by refunds").waitFor();
  });
  await step("sign out", async () => {
    await page.getByRole("button", { name: /^Signed in as/ }).click();
    await page.getByRole("menuitem", { name: "Sign out" }).click();
    await page.getByRole("link", { name: "Sign in" }).waitFor();
    assert.equal((await context.request.get(`${base}/admin/oauth/user`)).status(), 401);
  });
  assert.deepEqual(complaints, []);
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

async function checkWith(key) {
  const answer = await fetch(`${base}/v1/billing/check`, {
    method: "POST",
    headers: { "X-API-Key": key, "Content-Type": "application/json" },
    body: JSON.stringify({ oauth_provider: "oauth:google", external_id: user }),
  });
  return answer.status;
}
