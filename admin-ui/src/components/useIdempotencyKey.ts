import { useState } from "react";

import { wasRejected } from "../api/errors";

/** One idempotency key for all attempts at one action, so that a retry after a lost response has no second effect. */
export function useIdempotencyKey(): [string, (error: Error) => void] {
  const [key, setKey] = useState(() => crypto.randomUUID());
  const onFailed = (error: Error) => {
    if (wasRejected(error)) setKey(crypto.randomUUID());
  };
  return [key, onFailed];
}
