import { Text } from "@mantine/core";
import { useState } from "react";

import { ActionDialog } from "./ActionDialog";
import { reasonProblem, ReasonField } from "./ReasonField";

export interface ReasonTexts {
  title: string;
  confirm: string;
  danger: boolean;
  consequences: string;
  /** A note on the visibility of the reason; absent: only the audit log has it. */
  hint?: string;
  done: string;
}

interface Props {
  texts: ReasonTexts;
  onClose: () => void;
  act: (reason: string) => Promise<unknown>;
}

/** A dialog for an action that only needs a reason. */
export function ReasonDialog({ texts, onClose, act }: Props) {
  const [reason, setReason] = useState("");
  return (
    <ActionDialog
      title={texts.title}
      confirmLabel={texts.confirm}
      danger={texts.danger}
      blocked={reasonProblem(reason)}
      onClose={onClose}
      act={() => act(reason.trim())}
      done={() => texts.done}
    >
      {(problemOf) => (
        <>
          <Text size="sm">{texts.consequences}</Text>
          <ReasonField value={reason} onChange={setReason} description={texts.hint} error={problemOf("reason")} />
        </>
      )}
    </ActionDialog>
  );
}
