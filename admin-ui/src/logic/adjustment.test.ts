import { expect, it } from "vitest";

import type { User } from "../api/models";
import { adjustmentOf } from "./adjustment";

const USER = { paid: 50, free: 3 } as User;
const of = (direction: "give" | "grant" | "take", text: string, limit: number | null = null) =>
  adjustmentOf(direction, text, USER, "Ann", limit);

it("says what moves, in which pool", () => {
  expect(of("give", "25")).toMatchObject({ credits: 25, confirm: "Give 25 credits", beyond: null, unusual: null });
  expect(of("take", "25")).toMatchObject({ credits: -25, confirm: "Take 25 credits" });
  expect(of("grant", "5")).toMatchObject({ credits: 5, confirm: "Give 5 free credits" });
  expect(of("grant", "5").sentence).toContain("3 free credits now, 8 credits afterwards");
  expect(of("give", "1.5")).toMatchObject({ credits: null, confirm: "Adjust" });
});

it("takes no more than there is, and no more than the role may move", () => {
  expect(of("take", "51").beyond).toContain("Only 50 credits");
  expect(of("give", "51", 50).beyond).toContain("ask an admin");
  expect(of("grant", "51", 50).beyond).toContain("ask an admin");
});

it("asks about unusual amounts", () => {
  expect(of("give", "10001").unusual).toBe("10,001 credits");
  expect(of("give", "10000").unusual).toBeNull();
  expect(of("grant", "1001").unusual).toBe("1,001 free credits");
});
