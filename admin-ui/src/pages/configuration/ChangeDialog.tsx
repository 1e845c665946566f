import { Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";

import { api, bodyOf } from "../../api/client";
import type { ConfigSection, SectionState } from "../../api/models";
import { ActionDialog } from "../../components/ActionDialog";
import { Diff } from "../../components/Diff";
import { ErrorAlert } from "../../components/ErrorAlert";
import { ListSkeleton } from "../../components/ListSkeleton";
import { reasonProblem, ReasonField } from "../../components/ReasonField";
import { factsOf } from "../../logic/configuration";
import { diff, type Facts } from "../../logic/diff";
import { humanizeFacts } from "../../logic/fieldLabels";
import { SECTIONS } from "./labels";

interface Props {
  title: string;
  before: Facts;
  after: Facts;
  consequences: string;
  /** Unusual amounts among the changes, which have to be confirmed. */
  unusual?: string | null;
  /** The version that the change is based on. */
  version: number;
  /** Kept by the caller, so that a conflict does not lose the typed reason. */
  reason: string;
  onReason: (reason: string) => void;
  onClose: () => void;
  onFailed: (error: Error) => void;
  onDone: () => void;
  act: () => Promise<SectionState>;
}

/** Lists the changed values and the consequences before saving. */
export function ChangeDialog({ title, before, after, consequences, version, reason, onReason, ...rest }: Props) {
  return (
    <ActionDialog
      {...rest}
      title={title}
      confirmLabel="Save change"
      blocked={reasonProblem(reason)}
      done={(state) =>
        state.version === version ? "No changes: this is already the current configuration" : `Version ${state.version} takes effect in all processes within a second`
      }
    >
      {(problemOf) => (
        <>
          <Comparison before={before} after={after} />
          <Text size="sm">{consequences}</Text>
          <ReasonField value={reason} onChange={onReason} error={problemOf("reason")} description="Recorded with the version and in the audit log." />
        </>
      )}
    </ActionDialog>
  );
}

function Comparison({ before, after }: { before: Facts; after: Facts }) {
  const same = diff(before, after).every(({ change }) => change === "same");
  if (same) return <Text size="sm">No changes.</Text>;
  return <Diff removals before={humanizeFacts(before)} after={humanizeFacts(after)} />;
}

interface ResetProps {
  section: ConfigSection;
  /** The current values. */
  before: Facts;
  version: number;
  onClose: () => void;
  onFailed: (error: Error) => void;
  onDone: () => void;
}

/** Compares the server settings with the current values before resetting. */
export function ResetDialog({ section, before, version, ...rest }: ResetProps) {
  const [reason, setReason] = useState("");
  const { data, error } = useQuery({
    queryKey: ["configuration", section, "settings"],
    queryFn: ({ signal }) => bodyOf(api.GET("/admin/config/{section}/settings", { params: { path: { section } }, signal })),
    staleTime: 0,
  });
  const provider = section === "provider_live" || section === "provider_test";
  return (
    <ActionDialog
      {...rest}
      title={`Reset to server settings: ${SECTIONS[section]}`}
      confirmLabel={provider ? "Delete stored keys" : "Reset to server settings"}
      danger
      blocked={data === undefined ? "Loading the server settings" : reasonProblem(reason)}
      act={() =>
        bodyOf(
          api.POST("/admin/config/{section}/reset", {
            params: { path: { section } },
            body: { version, reason: reason.trim() },
          }),
        )
      }
      done={() => "Server settings take effect in all processes within a second"}
    >
      {(problemOf) => (
        <>
          {error && <ErrorAlert error={error} />}
          {data === undefined && !error && <ListSkeleton label="Loading server settings" lines={2} />}
          {data !== undefined && <Comparison before={before} after={factsOf(data.document)} />}
          <Text size="sm">
            {provider
              ? "The stored keys are deleted permanently. The service then uses the keys from its server settings; if there are none, purchases in this environment are disabled."
              : "The service uses the environment variables that it was started with. Versions are kept and can be restored."}
          </Text>
          <ReasonField value={reason} onChange={setReason} error={problemOf("reason")} description="Recorded with the version and in the audit log." />
        </>
      )}
    </ActionDialog>
  );
}
