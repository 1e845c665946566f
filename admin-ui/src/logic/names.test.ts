import { describe, expect, it } from "vitest";

import { cardOf, personOf } from "./names";

const ID = "01890000-0000-7000-8000-000000000001";
const nothing = { customer_email: null, display_name: null, external_id: null, erased: false };

describe("personOf", () => {
  it("is the e-mail address, the name, the external id, or a note that the person was erased", () => {
    expect(personOf({ ...nothing, customer_email: "a@example.com", display_name: "Ann" }, ID)).toBe("a@example.com");
    expect(personOf({ ...nothing, display_name: "Ann", external_id: "1" }, ID)).toBe("Ann");
    expect(personOf({ ...nothing, external_id: "sub-1" }, ID)).toBe("sub-1");
    expect(personOf({ ...nothing, erased: true }, ID)).toBe("Erased person (01890000…0001)");
  });
});

describe("cardOf", () => {
  it("names the brand and the last four digits", () => {
    expect(cardOf({ card_brand: "visa", card_last4: "4242" })).toBe("Visa ··4242");
    expect(cardOf({ card_brand: "amex", card_last4: "0005" })).toBe("American Express ··0005");
    expect(cardOf({ card_brand: "customer_balance", card_last4: null })).toBe("Customer balance");
    expect(cardOf({ card_brand: null, card_last4: null })).toBeNull();
  });
});
