import { describe, expect, it } from "vitest";

import { refusalOf, signInPath } from "./signInMessages";

describe("a refused sign-in", () => {
  it("is told in our words, with its request", () => {
    const refusal = refusalOf("?refused=not_an_admin&request=4380030337c7ba");
    expect(refusal?.why).toContain("may not come in");
    expect(refusal?.requestId).toBe("4380030337c7ba");
  });

  it("never shows what somebody else wrote into the address", () => {
    expect(refusalOf("?refused=Call+555-0100&request=call%20me")).toEqual({ why: "Signing in did not work.", requestId: null });
    expect(refusalOf("?refused=constructor")?.why).toBe("Signing in did not work.");
  });

  it("is forgotten by the next try, which leads to where one wanted to go", () => {
    expect(refusalOf("?search=ada")).toBeNull();
    expect(signInPath("/admin-ui/", "?refused=busy&request=r1")).toBe("/admin/oauth/login?return_to=%2Fadmin-ui%2F");
    expect(signInPath("/admin-ui/users", "?search=ada")).toBe("/admin/oauth/login?return_to=%2Fadmin-ui%2Fusers%3Fsearch%3Dada");
  });
});
