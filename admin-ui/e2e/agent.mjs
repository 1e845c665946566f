// End-to-end test of the example agent, in a real browser: ask until no credits are left, buy, ask again.
// BASE_URL: the agent; CHROMIUM; SHOTS: a folder
import assert from "node:assert/strict";

import { chromium } from "playwright-core";

const { BASE_URL: base, SHOTS: folder } = process.env;
const FLAGS = ["no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking"];
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: [...FLAGS, "disable-component-update", "disable-sync"].map((flag) => `--${flag}`),
});
const page = await (await browser.newContext({ viewport: { width: 900, height: 800 } })).newPage();
page.setDefaultTimeout(15_000);
const problems = [];
page.on("pageerror", (error) => problems.push(error.message));
page.on("console", (message) => message.text().includes("Content Security Policy") && problems.push(message.text()));
const balance = (text) => page.locator("#balance", { hasText: text }).waitFor();

async function ask(text) {
  await page.getByLabel("Your question").fill(text);
  await page.getByRole("button", { name: "Ask" }).click();
}

try {
  await page.goto(base);
  const signIn = async (name) => {
    await page.getByLabel("Your name").fill(name);
    await page.getByRole("button", { name: "Sign in" }).click();
  };
  await signIn("   ");
  await page.getByRole("alert").getByText(/^name: /).waitFor();
  await signIn("Jürgen Müller");
  await balance("3 uses left, 0 used");
  for (const number of [1, 2, 3]) {
    await ask(`question ${number}`);
    await balance(`${3 - number} uses left, ${number} used`);
  }
  assert.equal(await page.locator("#talk li").count(), 3);
  await ask("question 4");
  await page.getByText("No free uses or credits remaining").waitFor();
  await page.screenshot({ path: `${folder}/exhausted.png` });
  await page.getByRole("button", { name: "20 uses for 5.00 USD" }).click();
  await page.getByRole("button", { name: /is declined$/ }).click();
  await page.getByText("Your card was declined").waitFor();
  await page.getByRole("button", { name: /4242 succeeds$/ }).click();
  await page.getByText("20 credits added").waitFor();
  await balance("20 uses left, 3 used");
  assert.equal(page.url(), `${base}/`, "the client secret stays in the address");
  assert.equal(await page.getByLabel("Your question").inputValue(), "question 4", "the question is lost");
  await page.getByRole("button", { name: "Ask" }).click();
  await page.getByText("4 noitseuq").waitFor();
  await balance("19 uses left, 4 used");
  await page.screenshot({ path: `${folder}/bought.png` });
  // A slow payment while credits are left: the page shows it as pending, also after a reload.
  await page.getByRole("button", { name: "20 uses for 5.00 USD" }).click();
  await page.getByRole("button", { name: /stays in processing$/ }).click();
  await page.getByText("processing").first().waitFor();
  await page.goto(base);
  await page.getByText("Your payment is pending (processing)").waitFor();
  await page.screenshot({ path: `${folder}/pending.png` });
  await page.reload();
  await page.getByText("Your payment is pending (processing)").waitFor();
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByLabel("Your name").waitFor();
  await page.screenshot({ path: `${folder}/signed-out.png` });
  await signIn("王秀英");
  await balance("3 uses left, 0 used");
  assert.equal(await page.getByLabel("Your question").inputValue(), "");
  assert.deepEqual(problems, []);
  console.log("done: bought and asked");
} catch (error) {
  await page.screenshot({ path: `${folder}/failed.png` });
  throw error;
} finally {
  await browser.close();
}
