import { Text } from "@mantine/core";
import { useState } from "react";

import { ActionDialog } from "./ActionDialog";
import { reasonProblem, ReasonField } from "./ReasonField";

export interface ReasonWords {
  title: string;
  confirm: string;
  danger: boolean;
  what: string;
  /** Who hears the reason; absent: the audit log alone. */
  hint?: string;
  done: string;
}

interface Props {
  words: ReasonWords;
  onClose: () => void;
  act: (reason: string) => Promise<unknown>;
}

/** For what needs nothing but a reason. */
export function ReasonDialog({ words, onClose, act }: Props) {
  const [reason, setReason] = useState("");
  return (
    <ActionDialog
      title={words.title}
      confirmLabel={words.confirm}
      danger={words.danger}
      blocked={reasonProblem(reason)}
      onClose={onClose}
      act={() => act(reason.trim())}
      done={() => words.done}
    >
      {(problemOf) => (
        <>
          <Text size="sm">{words.what}</Text>
          <ReasonField value={reason} onChange={setReason} description={words.hint} error={problemOf("reason")} />
        </>
      )}
    </ActionDialog>
  );
}
