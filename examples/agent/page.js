// Only calls the agent: the browser does not get the billing service's address or key.
const byId = (id) => document.getElementById(id);
const main = document.querySelector("main");
const question = byId("ask").elements.text;
const POLLS = 30;
const POLL_INTERVAL_MS = 2000;
// Keys of values that are kept in this tab during the visit to the payment page.
const QUESTION = "question";
const PAYMENT = "payment";

async function call(method, path, body) {
  const headers = body === undefined ? {} : { "Content-Type": "application/json" };
  const answer = await fetch(path, { method, headers, body: JSON.stringify(body) });
  const reply = answer.status === 204 ? null : await answer.json();
  if (!answer.ok) throw Object.assign(new Error(messageOf(reply.detail)), { status: answer.status });
  return reply;
}

// A 422 lists the invalid fields.
function messageOf(detail) {
  return Array.isArray(detail) ? detail.map(({ loc, msg }) => `${loc.at(-1)}: ${msg}`).join("; ") : detail;
}

function notify(text) {
  byId("notice").textContent = text;
}

function showPayment(text) {
  byId("payment").textContent = text;
  byId("payment").hidden = text === "";
}

// Uses the service's number of decimals, which differs from the browser's for some currencies.
function priceOf({ price_minor, currency, currency_digits }) {
  const text = String(price_minor).padStart(currency_digits + 1, "0");
  const whole = text.slice(0, text.length - currency_digits);
  return `${whole}${currency_digits === 0 ? "" : `.${text.slice(-currency_digits)}`} ${currency}`;
}

async function showPacks() {
  const { packs } = await call("GET", "/v1/api/billing/packs");
  byId("shop").hidden = packs.length === 0;
  byId("packs").replaceChildren(
    ...packs.map((pack) => {
      const button = document.createElement("button");
      button.textContent = `${pack.credits} uses for ${priceOf(pack)}`;
      button.addEventListener("click", () => buy(pack.pack));
      const item = document.createElement("li");
      item.append(button);
      return item;
    }),
  );
}

async function showCredits() {
  try {
    const credits = await call("GET", "/v1/api/billing/credits");
    const left = credits.credits_remaining + credits.free_uses_remaining;
    byId("balance").textContent = `${left} uses left, ${credits.total_uses} used`;
    await showPacks();
    main.hidden = false;
    byId("login").hidden = true;
  } catch (error) {
    if (error.status !== 401) return notify(error.message);
    main.hidden = true;
    byId("login").hidden = false;
  }
}

function onSubmit(form, action) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button");
    button.disabled = true;
    notify("");
    try {
      await action(Object.fromEntries(new FormData(form)));
      form.reset();
    } catch (error) {
      notify(error.message);
    } finally {
      button.disabled = false;
      await showCredits();
    }
  });
}

onSubmit(byId("login"), (fields) => call("POST", "/login", fields));
onSubmit(byId("ask"), async (fields) => {
  const answer = await call("POST", "/ask", fields);
  sessionStorage.removeItem(QUESTION);
  const line = document.createElement("li");
  line.textContent = answer.text;
  byId("talk").append(line);
});

byId("logout").addEventListener("click", async () => {
  await call("POST", "/logout").catch((error) => notify(error.message));
  sessionStorage.clear();
  byId("talk").replaceChildren();
  byId("ask").reset();
  showPayment("");
  await showCredits();
});

async function buy(pack) {
  notify("");
  try {
    const here = location.origin + location.pathname;
    const purchase = await call("POST", "/v1/api/billing/purchase/initiate", { pack, return_url: here });
    const { pay_url } = await call("GET", "/config");
    if (!pay_url) return notify("No payment page is configured. With a Stripe account, Stripe.js asks for the card here.");
    sessionStorage.setItem(QUESTION, question.value);
    sessionStorage.setItem(PAYMENT, purchase.payment_id);
    const query = new URLSearchParams({ client_secret: purchase.client_secret, return_url: here });
    location.assign(`${pay_url}/pay/${purchase.payment_id}?${query}`);
  } catch (error) {
    notify(error.message);
  }
}

// Polls a payment until it is paid or declined, also after a reload of the page.
async function followPayment(paymentId) {
  for (let poll = 0; poll < POLLS; poll++) {
    const { status, credits_added } = await call("GET", `/v1/api/billing/purchase/status/${paymentId}`);
    if (status === "succeeded") return endPayment(`${credits_added} credits added`);
    if (["failed", "canceled"].includes(status)) return endPayment("Payment failed. Please try again.");
    if (status === "requires_payment_method") return endPayment("Payment not completed. Choose a pack to try again.");
    showPayment(`Your payment is pending (${status.replaceAll("_", " ")}). Credits are added when it is paid.`);
    await new Promise((resolve) => setTimeout(resolve, POLL_INTERVAL_MS));
  }
  showPayment("Your payment is still pending. Credits are added when it is paid.");
}

async function endPayment(text) {
  sessionStorage.removeItem(PAYMENT);
  showPayment("");
  notify(text);
  await showCredits();
}

const returned = new URLSearchParams(location.search).get("payment_intent");
if (returned) {
  sessionStorage.setItem(PAYMENT, returned);
  history.replaceState(null, "", location.pathname); // remove the client secret from the address bar
}
question.value = sessionStorage.getItem(QUESTION) ?? "";
question.addEventListener("input", () => sessionStorage.setItem(QUESTION, question.value));
await showCredits();
const pending = sessionStorage.getItem(PAYMENT);
if (pending && !main.hidden) await followPayment(pending).catch((error) => notify(error.message));
