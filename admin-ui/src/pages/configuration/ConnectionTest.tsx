import { Alert } from "@mantine/core";
import { IconAlertTriangle, IconCheck } from "@tabler/icons-react";

import { ErrorAlert } from "../../components/ErrorAlert";

interface Props {
  check: { data: { ok: boolean; problem: string | null; note: string | null } | undefined; error: Error | null };
}

/** The result of testing a key with Stripe. */
export function ConnectionTest({ check: { data, error } }: Props) {
  if (error !== null) return <ErrorAlert error={error} />;
  if (data === undefined) return null;
  if (data.ok)
    return (
      <Alert color="teal" variant="outline" role="status" icon={<IconCheck aria-hidden />} title="Stripe accepts the key">
        {data.note}
      </Alert>
    );
  return (
    <Alert color="red" variant="outline" role="alert" icon={<IconAlertTriangle aria-hidden />} title="The test failed">
      {data.problem}
    </Alert>
  );
}
