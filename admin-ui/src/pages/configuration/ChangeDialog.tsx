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
  /** Amounts among the changes that have to be confirmed, in words. */
  unusual?: string | null;
  /** The version that is to be changed. */
  version: number;
  /** Held outside: who is overtaken by somebody else's change need not type it again. */
  reason: string;
  onReason: (reason: string) => void;
  onClose: () => void;
  onFailed: (error: Error) => void;
  onDone: () => void;
  act: () => Promise<SectionState>;
}

/** Names each thing that will be different, and what that does. */
export function ChangeDialog({ title, before, after, consequences, version, reason, onReason, ...rest }: Props) {
  return (
    <ActionDialog
      {...rest}
      title={title}
      confirmLabel="Save the change"
      blocked={reasonProblem(reason)}
      done={(state) =>
        state.version === version ? "Nothing was changed: it is so already" : `Version ${state.version} counts, everywhere within a second`
      }
    >
      {(problemOf) => (
        <>
          <Comparison before={before} after={after} />
          <Text size="sm">{consequences}</Text>
          <ReasonField value={reason} onChange={onReason} error={problemOf("reason")} description="Kept with the version and in the audit log." />
        </>
      )}
    </ActionDialog>
  );
}

function Comparison({ before, after }: { before: Facts; after: Facts }) {
  const same = diff(before, after).every(({ change }) => change === "same");
  if (same) return <Text size="sm">Nothing that it does is different from now.</Text>;
  return <Diff removals before={humanizeFacts(before)} after={humanizeFacts(after)} />;
}

interface ResetProps {
  section: ConfigSection;
  /** What counts now. */
  before: Facts;
  version: number;
  onClose: () => void;
  onFailed: (error: Error) => void;
  onDone: () => void;
}

/** Shows what the settings say beside what counts now, before anything is done. */
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
      title={`Back to the settings: ${SECTIONS[section]}`}
      confirmLabel={provider ? "Forget the stored keys" : "Go back to the settings"}
      danger
      blocked={data === undefined ? "Waiting for what the settings say" : reasonProblem(reason)}
      act={() =>
        bodyOf(
          api.POST("/admin/config/{section}/reset", {
            params: { path: { section } },
            body: { version, reason: reason.trim() },
          }),
        )
      }
      done={() => "The settings count again, everywhere within a second"}
    >
      {(problemOf) => (
        <>
          {error && <ErrorAlert error={error} />}
          {data === undefined && !error && <ListSkeleton label="Loading what the settings say" lines={2} />}
          {data !== undefined && <Comparison before={before} after={factsOf(data.document)} />}
          <Text size="sm">
            {provider
              ? "The stored keys are deleted; nobody can bring them back. The keys of the service's own settings count again; if it has none, nothing can be bought in this environment."
              : "What the service was started with (its environment variables) counts again. The versions stay, and any of them can be used again."}
          </Text>
          <ReasonField value={reason} onChange={setReason} error={problemOf("reason")} description="Kept with the version and in the audit log." />
        </>
      )}
    </ActionDialog>
  );
}
