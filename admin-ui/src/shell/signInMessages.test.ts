import { describe, expect, it } from "vitest";

import { refusalOf, signInPath } from "./signInMessages";

describe("a refused sign-in", () => {
  it("has a message and the request id", () => {
    const refusal = refusalOf("?refused=not_an_admin&request=4380030337c7ba");
    expect(refusal?.message).toContain("has no access");
    expect(refusal?.requestId).toBe("4380030337c7ba");
  });

  it("never shows text from the URL", () => {
    expect(refusalOf("?refused=Call+555-0100&request=call%20me")).toEqual({ message: "Sign-in failed. Try again.", requestId: null });
    expect(refusalOf("?refused=constructor")?.message).toBe("Sign-in failed. Try again.");
  });

  it("is dropped from the next attempt, which leads to the requested page", () => {
    expect(refusalOf("?search=ada")).toBeNull();
    expect(signInPath("/admin-ui/", "?refused=busy&request=r1")).toBe("/admin/oauth/login?return_to=%2Fadmin-ui%2F");
    expect(signInPath("/admin-ui/users", "?search=ada")).toBe("/admin/oauth/login?return_to=%2Fadmin-ui%2Fusers%3Fsearch%3Dada");
  });
});
