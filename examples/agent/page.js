// Talks to the agent alone: the billing service's address and key never reach the browser.
const byId = (id) => document.getElementById(id);
const main = document.querySelector("main");
const POLLS = 30;
const POLL_INTERVAL_MS = 2000;

async function call(method, path, body) {
  const headers = body === undefined ? {} : { "Content-Type": "application/json" };
  const answer = await fetch(path, { method, headers, body: JSON.stringify(body) });
  const told = answer.status === 204 ? null : await answer.json();
  if (!answer.ok) throw Object.assign(new Error(told.detail), { status: answer.status });
  return told;
}

function tell(text) {
  byId("notice").textContent = text;
}

// Stripe's digits: a browser's own differ for some currencies.
async function priceOf(minor, code) {
  const { currencies } = await call("GET", "/currencies");
  const digits = currencies.find((currency) => currency.code === code)?.digits ?? 2;
  const text = String(minor).padStart(digits + 1, "0");
  const whole = text.slice(0, text.length - digits);
  return `${whole}${digits === 0 ? "" : `.${text.slice(-digits)}`} ${code}`;
}

async function showCredits() {
  try {
    const credits = await call("GET", "/v1/api/billing/credits");
    const left = credits.credits_remaining + credits.free_uses_remaining;
    byId("balance").textContent = `${left} uses left, ${credits.total_uses} used`;
    byId("shop").hidden = !credits.purchase_required;
    if (credits.purchase_options) {
      const { price_minor, uses, currency } = credits.purchase_options;
      byId("offer").textContent = `${uses} uses for ${await priceOf(price_minor, currency)}`;
    }
    main.hidden = false;
    byId("login").hidden = true;
  } catch (error) {
    if (error.status !== 401) return tell(error.message);
    main.hidden = true;
    byId("login").hidden = false;
  }
}

function onSubmit(form, action) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button");
    button.disabled = true;
    tell("");
    try {
      await action(Object.fromEntries(new FormData(form)));
      form.reset();
    } catch (error) {
      tell(error.message);
    } finally {
      button.disabled = false;
      await showCredits();
    }
  });
}

onSubmit(byId("login"), (fields) => call("POST", "/login", fields));
onSubmit(byId("ask"), async (fields) => {
  const answer = await call("POST", "/ask", fields);
  const line = document.createElement("li");
  line.textContent = answer.text;
  byId("talk").append(line);
});

byId("buy").addEventListener("click", async () => {
  try {
    const here = location.origin + location.pathname;
    const purchase = await call("POST", "/v1/api/billing/purchase/initiate", { return_url: here });
    const { pay_url } = await call("GET", "/config");
    if (!pay_url) return tell("Here Stripe.js would ask for the card.");
    const query = new URLSearchParams({ client_secret: purchase.client_secret, return_url: here });
    location.assign(`${pay_url}/pay/${purchase.payment_id}?${query}`);
  } catch (error) {
    tell(error.message);
  }
});

async function finishPurchase(paymentId) {
  history.replaceState(null, "", location.pathname); // the client secret leaves the address bar
  for (let poll = 0; poll < POLLS; poll++) {
    const status = await call("GET", `/v1/api/billing/purchase/status/${paymentId}`);
    if (status.status === "succeeded") return tell(`${status.credits_added} credits added`);
    if (["failed", "canceled"].includes(status.status)) return tell("Payment failed. Please try again.");
    await new Promise((resolve) => setTimeout(resolve, POLL_INTERVAL_MS));
  }
  tell("Payment status unknown. Please look at your balance.");
}

const paid = new URLSearchParams(location.search).get("payment_intent");
if (paid) await finishPurchase(paid).catch((error) => tell(error.message));
await showCredits();
