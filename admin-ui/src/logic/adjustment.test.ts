import { expect, it } from "vitest";

import type { User } from "../api/models";
import { adjustmentOf } from "./adjustment";

const USER = { paid: 50, free: 3 } as User;
const of = (direction: "add" | "grant" | "deduct", text: string, limit: number | null = null) =>
  adjustmentOf(direction, text, USER, "Ann", limit);

it("describes the amount and the pool", () => {
  expect(of("add", "25")).toMatchObject({ credits: 25, confirm: "Add 25 credits", problem: null, unusual: null });
  expect(of("deduct", "25")).toMatchObject({ credits: -25, confirm: "Deduct 25 credits" });
  expect(of("grant", "5")).toMatchObject({ credits: 5, confirm: "Grant 5 free credits" });
  expect(of("grant", "5").sentence).toContain("3 free credits now, 8 credits afterwards");
  expect(of("add", "1.5")).toMatchObject({ credits: null, confirm: "Adjust" });
});

it("deducts at most the balance, and moves at most the role's limit", () => {
  expect(of("deduct", "51").problem).toContain("The balance is 50 credits");
  expect(of("add", "51", 50).problem).toContain("ask an admin");
  expect(of("grant", "51", 50).problem).toContain("ask an admin");
});

it("marks unusual amounts", () => {
  expect(of("add", "10001").unusual).toBe("10,001 credits");
  expect(of("add", "10000").unusual).toBeNull();
  expect(of("grant", "1001").unusual).toBe("1,001 free credits");
});
