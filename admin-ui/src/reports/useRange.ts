import { useSearchParams } from "react-router";

import type { Environment } from "../api/models";
import { oneOf } from "../logic/filters";
import { rangeOf, withRange, type Preset, type Range } from "../logic/ranges";

export interface Reported extends Range {
  environment: Environment;
  /** The API's query parameters. */
  query: { environment: Environment; from: string; to: string };
}

/** Return the days and the environment in the URL. */
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
