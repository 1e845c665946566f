import { Text } from "@mantine/core";
import { useState } from "react";

import { api, bodyOf } from "../../api/client";
import { ActionDialog } from "../../components/ActionDialog";
import { reasonProblem, ReasonField } from "../../components/ReasonField";
import { formatCount } from "../../logic/format";

/** The right source of disputed rows, by row id. */
export type Choices = Record<string, string>;

const MOST = 1000;

interface Props {
  version: number;
  choices: Choices;
  onClose: () => void;
  onDone: (version: number) => void;
}

export function ConfirmDialog({ version, choices, onClose, onDone }: Props) {
  const [reason, setReason] = useState("");
  const rows = Object.entries(choices).map(([row, source]) => ({ row, source }));
  return (
    <ActionDialog
      title={`Confirm ${formatCount(rows.length, "disputed row")}`}
      confirmLabel="Create version"
      blocked={rows.length > MOST ? "Confirm at most 1,000 rows at once" : reasonProblem(reason)}
      onClose={onClose}
      act={() =>
        bodyOf(
          api.POST("/admin/price-books/{version}/confirm", {
            params: { path: { version } },
            body: { choices: rows, reason: reason.trim() },
          }),
        )
      }
      done={({ version: confirmed }) => `Version ${String(confirmed)} created: put it in force to use it`}
      onDone={({ version: confirmed }) => onDone(confirmed)}
    >
      {(problemOf) => (
        <>
          <Text size="sm">
            Creates a version in which these rows have the prices of the chosen source. It is not in force until you put it in force.
          </Text>
          <ReasonField value={reason} onChange={setReason} error={problemOf("reason")} />
        </>
      )}
    </ActionDialog>
  );
}
