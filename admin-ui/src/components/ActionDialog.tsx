import { Button, Checkbox, Group, Modal, Stack, Text } from "@mantine/core";
import { notifications } from "@mantine/notifications";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useId, useRef, useState, type ReactNode } from "react";

import { isStale, problemsOf, type ProblemOf } from "../api/errors";
import classes from "./ActionDialog.module.css";
import { ErrorAlert } from "./ErrorAlert";

interface Props<Result> {
  title: string;
  /** The action as a verb, never "OK". */
  confirmLabel: string;
  danger?: boolean;
  /** Why the form cannot be submitted yet, as a sentence; null: it can. */
  blocked?: string | null;
  /** An unusually large amount that has to be confirmed, such as "1,000,000 credits". */
  unusual?: string | null;
  onClose: () => void;
  act: () => Promise<Result>;
  /** The notification on success; null: `onDone` shows the result. */
  done: ((result: Result) => string) | null;
  onDone?: (result: Result) => void;
  onFailed?: (error: Error) => void;
  /** The fields. A function receives the server's validation errors by field. */
  children: ReactNode | ((problemOf: ProblemOf) => ReactNode);
}

/**
 * A dialog that describes an action, runs it once, and stays open with the error when it fails. The focus starts at the
 * first child with `data-autofocus`, such as a reason; without one, at the safe button.
 */
export function ActionDialog<Result>(props: Props<Result>) {
  const queries = useQueryClient();
  // A ref, because the second click of a double click arrives before `isPending` is rendered.
  const inFlight = useRef(false);
  const write = useMutation({
    mutationFn: props.act,
    onSuccess: (result) => {
      // A write can affect several lists (balance, timeline, audit log): refetch everything on screen.
      void queries.invalidateQueries({ predicate: ({ queryKey }) => queryKey[0] !== "session" });
      if (props.done) notifications.show({ color: "teal", message: props.done(result) });
      props.onClose();
      props.onDone?.(result);
    },
    onError: (error) => {
      // Refetch, so that the page and the dialog show the current values.
      if (isStale(error)) void queries.invalidateQueries({ predicate: ({ queryKey }) => queryKey[0] !== "session" });
      props.onFailed?.(error);
    },
    onSettled: () => {
      inFlight.current = false;
    },
  });
  const why = useId();
  const [confirmed, setConfirmed] = useState<string | null>(null);
  const unusual = props.unusual ?? null;
  const blocked =
    props.blocked ?? (unusual !== null && confirmed !== unusual ? `Confirm the amount: ${unusual}` : null);
  const close = () => {
    if (!write.isPending) props.onClose();
  };
  return (
    <Modal opened onClose={close} title={props.title} classNames={{ title: classes.title }} centered closeButtonProps={{ "aria-label": "Close" }}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (inFlight.current || blocked !== null) return;
          inFlight.current = true;
          write.mutate();
        }}
      >
        <Stack gap="md">
          {typeof props.children === "function" ? props.children(problemsOf(write.error)) : props.children}
          {unusual !== null && (
            <Checkbox
              label={`Confirm ${unusual}: unusually large amount`}
              checked={confirmed === unusual}
              onChange={({ currentTarget }) => setConfirmed(currentTarget.checked ? unusual : null)}
            />
          )}
          {write.error && <ErrorAlert error={write.error} />}
          <div className={classes.footer}>
            <Text id={why} size="xs" c="dimmed" ta="right" aria-live="polite">
              {blocked}
            </Text>
            <Group justify="flex-end" gap="xs">
              <Button variant="default" onClick={close} disabled={write.isPending} data-autofocus={props.danger || undefined}>
                Cancel
              </Button>
              <Button
                type="submit"
                color={props.danger ? "red.8" : undefined}
                loading={write.isPending}
                // aria-disabled instead of disabled keeps it focusable, so that screen readers announce the reason.
                data-disabled={blocked !== null || undefined}
                aria-disabled={blocked !== null}
                aria-describedby={blocked === null ? undefined : why}
                data-autofocus={!props.danger || undefined}
              >
                {props.confirmLabel}
              </Button>
            </Group>
          </div>
        </Stack>
      </form>
    </Modal>
  );
}
