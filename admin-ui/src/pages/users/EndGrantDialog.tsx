import { Text } from "@mantine/core";
import { useState } from "react";

import { api, bodyOf } from "../../api/client";
import type { Grant, User } from "../../api/models";
import { ActionDialog } from "../../components/ActionDialog";
import { reasonProblem, ReasonField } from "../../components/ReasonField";
import { isZero } from "../../logic/decimals";
import { grantAmount } from "../../logic/grants";

export function EndGrantDialog({ user, grant, onClose }: { user: User; grant: Grant; onClose: () => void }) {
  const [reason, setReason] = useState("");
  return (
    <ActionDialog
      title="End grant"
      confirmLabel="End grant"
      danger
      blocked={reasonProblem(reason)}
      onClose={onClose}
      act={() =>
        bodyOf(
          api.POST("/admin/users/{account_id}/grants/{grant_id}/end", {
            params: { path: { account_id: user.account_id, grant_id: grant.grant_id } },
            body: { reason: reason.trim() },
          }),
        )
      }
      done={({ lost, grant: ended }) =>
        isZero(lost) ? "The grant had ended before" : `Grant ended: ${grantAmount(lost, ended.unit)} taken`
      }
    >
      {(problemOf) => (
        <>
          <Text size="sm">
            Takes what is left of the grant, {grantAmount(grant.remaining, grant.unit)} now. This cannot be undone; you can give a new
            grant.
          </Text>
          <ReasonField value={reason} onChange={setReason} error={problemOf("reason")} />
        </>
      )}
    </ActionDialog>
  );
}
