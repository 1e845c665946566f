import { useState } from "react";

import { didNothing } from "../api/errors";

/** The same for every try of one intention, so that a try whose answer was lost is not done twice. */
export function useIdempotencyKey(): [string, (error: Error) => void] {
  const [key, setKey] = useState(() => crypto.randomUUID());
  const onFailed = (error: Error) => {
    if (didNothing(error)) setKey(crypto.randomUUID());
  };
  return [key, onFailed];
}
