import { expect, it } from "vitest";

import { readWhole } from "./numbers";

const BOUNDS = { least: 1, most: 1_000_000 };

it.each([
  ["1.5", "Enter a whole number: no decimals"],
  ["1,5", "Enter a whole number: no decimals"],
  [".5", "Enter a whole number: no decimals"],
  ["-7", "Enter a number without a minus sign"],
  ["−7", "Enter a number without a minus sign"],
  ["0", "At least 1"],
  ["1e5", "Write out all digits: no exponent"],
  ["1E5", "Write out all digits: no exponent"],
  ["1,000", "Enter digits only: no thousands separators"],
  ["1.000", "Enter digits only: no thousands separators"],
  ["1 000", "Enter digits only: no thousands separators"],
  ["1\u202f000", "Enter digits only: no thousands separators"],
  ["１２", "Use the digits 0 to 9"],
  ["٣", "Use the digits 0 to 9"],
  ["", "Enter a whole number"],
  ["   ", "Enter a whole number, not blanks"],
  [" 5", "Remove the blanks around the number"],
  ["5\u00a0", "Remove the blanks around the number"],
  ["99999999999999999999", "At most 1,000,000"],
  ["1000001", "At most 1,000,000"],
  ["+5", "Enter a whole number, with the digits 0 to 9"],
  ["0x10", "Enter a whole number, with the digits 0 to 9"],
  ["Infinity", "Enter a whole number, with the digits 0 to 9"],
  ["5 credits", "Enter a whole number, with the digits 0 to 9"],
])("rejects %j with a matching message", (text, problem) => {
  expect(readWhole(text, BOUNDS)).toEqual({ value: null, problem });
});

it.each([
  ["1", 1],
  ["1000000", 1_000_000],
  ["007", 7],
])("parses %j", (text, value) => {
  expect(readWhole(text, BOUNDS)).toEqual({ value, problem: null });
});

it("accepts empty text when optional", () => {
  expect(readWhole("", { ...BOUNDS, optional: true })).toEqual({ value: null, problem: null });
  expect(readWhole(" ", { ...BOUNDS, optional: true }).problem).not.toBeNull();
});

it("parses the largest numbers exactly", () => {
  const bounds = { least: 0, most: 999_999_999_999_999 };
  expect(readWhole("999999999999999", bounds).value).toBe(999_999_999_999_999);
  expect(readWhole("1000000000000000", bounds).value).toBeNull();
});
