import { Alert, Button, Group, Stack, Text } from "@mantine/core";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState, type ReactNode } from "react";

import { ApiError } from "../../api/errors";
import type { SectionState } from "../../api/models";
import { useHasRole } from "../../api/session";
import { ErrorAlert } from "../../components/ErrorAlert";
import { ListSkeleton } from "../../components/ListSkeleton";
import { RoleButton } from "../../components/RoleButton";
import { Section } from "../../components/Section";
import { factsOf } from "../../logic/configuration";
import type { Facts } from "../../logic/diff";
import { ChangeDialog, ResetDialog } from "./ChangeDialog";
import { Conflict } from "./Conflict";
import { History } from "./History";
import { LeaveWarning } from "./LeaveWarning";
import { SourceTag, LastChange } from "./State";
import { SECTIONS } from "./labels";
import { keyOf, type FormProps, type SectionForm } from "./section";

interface Props<State extends SectionState, Draft, Document> {
  form: SectionForm<State, Draft, Document>;
  children: (props: FormProps<Draft>) => ReactNode;
}

/** One configuration section: its current values, a form to change them, and its history. */
export function SectionEditor<State extends SectionState, Draft, Document extends object>(
  props: Props<State, Draft, Document>,
) {
  const { form } = props;
  const { data, error, refetch } = useQuery({
    queryKey: keyOf(form.section),
    queryFn: ({ signal }) => form.read(signal),
  });
  if (error) return <ErrorAlert error={error} onRetry={() => void refetch()} />;
  if (data === undefined) return <ListSkeleton label={`Loading: ${SECTIONS[form.section]}`} />;
  return <Loaded {...props} current={data} />;
}

type Open = { dialog: "save" | "reset" } | { dialog: "again"; document: Facts; version: number } | null;

function Loaded<State extends SectionState, Draft, Document extends object>({
  form,
  children,
  current,
}: Props<State, Draft, Document> & { current: State }) {
  const queries = useQueryClient();
  const may = useHasRole("admin");
  // The edits and the state that they are based on, to detect changes by other admins.
  const [edit, setEdit] = useState<{ base: State; draft: Draft } | null>(null);
  const [tried, setTried] = useState(false);
  const [open, setOpen] = useState<Open>(null);
  const [reason, setReason] = useState("");
  const close = () => setOpen(null);

  const base = edit?.base ?? current;
  const draft = edit?.draft ?? form.toDraft(form.documentOf(current));
  const { document, errors } = form.parse(draft);
  const dirty = JSON.stringify(draft) !== JSON.stringify(form.toDraft(form.documentOf(base)));
  const conflicting = dirty && current.version !== base.version;
  const now = factsOf(form.documentOf(current));
  const drop = () => {
    setEdit(null);
    setTried(false);
    setReason("");
  };
  const review = () => {
    setTried(true);
    if (document !== null) setOpen({ dialog: "save" });
  };
  const failed = (error: Error) => {
    if (!(error instanceof ApiError) || error.code !== "configuration_changed") return;
    void queries.invalidateQueries({ queryKey: keyOf(form.section) });
    // The form shows the conflicting change, and keeps the typed values.
    if (open?.dialog === "save") close();
  };
  return (
    <Stack gap="lg">
      <LeaveWarning when={dirty} />
      <Section
        title={SECTIONS[form.section]}
        aside={
          <Group gap="xs">
            <SourceTag state={current} />
            {current.source === "admin" && (
              <RoleButton needs="admin" size="xs" onClick={() => setOpen({ dialog: "reset" })}>
                Reset to server settings
              </RoleButton>
            )}
          </Group>
        }
      >
        <Stack gap="md">
          <LastChange state={current} />
          {!may && <Text size="sm">Read-only: changes require the admin role.</Text>}
          {conflicting && (
            <Conflict
              current={current}
              before={factsOf(form.documentOf(base))}
              theirs={now}
              mine={document === null ? null : factsOf(document)}
              onKeep={() => setEdit({ base: current, draft })}
              onDrop={drop}
            />
          )}
          {children({
            draft,
            set: (next) => setEdit({ base, draft: next }),
            errorOf: (name) => (tried || dirty ? errors?.[name] : undefined),
            readOnly: !may,
          })}
          {tried && errors !== null && (
            <Alert color="red" variant="outline" role="alert" title="Some fields are not valid">
              {errors.form ?? "Correct the marked fields."}
            </Alert>
          )}
          <Group gap="xs">
            <RoleButton needs="admin" variant="filled" blocked={blockedBy(dirty, conflicting)} onClick={review}>
              Review and save
            </RoleButton>
            {dirty && (
              <Button variant="default" onClick={drop}>
                Discard changes
              </Button>
            )}
          </Group>
        </Stack>
      </Section>
      <History
        section={form.section}
        current={current.version}
        onUse={(version, earlier) => setOpen({ dialog: "again", version, document: earlier })}
      />
      {open?.dialog === "save" && document !== null && (
        <ChangeDialog
          title={`Change ${SECTIONS[form.section].toLowerCase()}`}
          before={now}
          after={factsOf(document)}
          consequences={form.consequences}
          unusual={form.unusualIn(document, form.documentOf(current))}
          reason={reason}
          onReason={setReason}
          onClose={close}
          onFailed={failed}
          act={() => form.save(document, { version: base.version, reason: reason.trim() })}
          onDone={drop}
          version={base.version}
        />
      )}
      {open?.dialog === "again" && (
        <ChangeDialog
          title={`Restore version ${open.version}`}
          before={now}
          after={factsOf(open.document)}
          consequences={form.consequences}
          unusual={form.unusualIn(form.fromVersion(open.document), form.documentOf(current))}
          reason={reason}
          onReason={setReason}
          onClose={close}
          onFailed={failed}
          act={() => form.save(form.fromVersion(open.document), { version: current.version, reason: reason.trim() })}
          onDone={drop}
          version={current.version}
        />
      )}
      {open?.dialog === "reset" && (
        <ResetDialog
          section={form.section}
          before={now}
          version={current.version}
          onClose={close}
          onFailed={failed}
          onDone={drop}
        />
      )}
    </Stack>
  );
}

function blockedBy(dirty: boolean, conflicting: boolean): string | null {
  if (!dirty) return "No changes to save";
  return conflicting ? "Another admin changed this: review the change above" : null;
}
