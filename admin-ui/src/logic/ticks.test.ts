import { expect, it } from "vitest";

import { formatTick } from "./ticks";

it.each([
  [0, "0"],
  [0.25, "0.25"],
  [0.0045, "0.0045"],
  [1050, "1,050"],
  [2100, "2,100"],
  [99_999, "99,999"],
  [105_000, "105k"],
  [157_500, "157.5k"],
  [1_050_000, "1.05m"],
  [-1050, "\u22121,050"],
])("writes %d as %s", (value, text) => {
  expect(formatTick(value).toLowerCase()).toBe(text);
});
