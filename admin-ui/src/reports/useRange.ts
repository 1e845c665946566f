import { useSearchParams } from "react-router";

import type { Environment } from "../api/models";
import { oneOf } from "../logic/filters";
import { rangeOf, withRange, type Preset, type Range } from "../logic/ranges";

export interface Reported extends Range {
  environment: Environment;
  /** As the API wants to hear it. */
  query: { environment: Environment; from: string; to: string };
}

/** The days and the environment that the address asks for. */
export function useRange(): Reported & { setRange: (range: Preset | { from: string; to: string }) => void } {
  const [params, setParams] = useSearchParams();
  const range = rangeOf(params, new Date());
  const environment = oneOf<Environment>(params.get("environment"), ["live", "test"]) ?? "live";
  return {
    ...range,
    environment,
    query: { environment, from: range.from, to: range.to },
    setRange: (next) => setParams((now) => withRange(now, next), { replace: true }),
  };
}
