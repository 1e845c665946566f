import { Button, Checkbox, Group, Modal, Stack, Text } from "@mantine/core";
import { notifications } from "@mantine/notifications";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useId, useRef, useState, type ReactNode } from "react";

import { isStale, problemsOf, type ProblemOf } from "../api/errors";
import classes from "./ActionDialog.module.css";
import { ErrorAlert } from "./ErrorAlert";

interface Props<Result> {
  title: string;
  /** The verb of what will happen: never "OK". */
  confirmLabel: string;
  danger?: boolean;
  /** What has to be put right before the button works, in a sentence; null: nothing. */
  blocked?: string | null;
  /** An amount that is unusually large, such as "1,000,000 credits": it has to be confirmed. */
  unusual?: string | null;
  onClose: () => void;
  act: () => Promise<Result>;
  /** What to tell when it is done; null: `onDone` tells it. */
  done: ((result: Result) => string) | null;
  onDone?: (result: Result) => void;
  onFailed?: (error: Error) => void;
  /** The fields; given a function, they can tell what the server found wrong with each. */
  children: ReactNode | ((problemOf: ProblemOf) => ReactNode);
}

/**
 * Says what will happen, does it once, and stays open with the reason when it did not work. The keyboard begins at the
 * first of the children that has `data-autofocus`, as a reason has; without one, where Enter does no harm.
 */
export function ActionDialog<Result>(props: Props<Result>) {
  const queries = useQueryClient();
  // Known at once: a double click comes twice before `isPending` is on the screen.
  const underWay = useRef(false);
  const write = useMutation({
    mutationFn: props.act,
    onSuccess: (result) => {
      // A write may show in several lists (balance, timeline, audit log): all that is on screen is asked for again.
      void queries.invalidateQueries({ predicate: ({ queryKey }) => queryKey[0] !== "session" });
      if (props.done) notifications.show({ color: "teal", message: props.done(result) });
      props.onClose();
      props.onDone?.(result);
    },
    onError: (error) => {
      // The page behind the dialog, and the dialog with it, shows what is there now.
      if (isStale(error)) void queries.invalidateQueries({ predicate: ({ queryKey }) => queryKey[0] !== "session" });
      props.onFailed?.(error);
    },
    onSettled: () => {
      underWay.current = false;
    },
  });
  const why = useId();
  const [confirmed, setConfirmed] = useState<string | null>(null);
  const unusual = props.unusual ?? null;
  const blocked =
    props.blocked ?? (unusual !== null && confirmed !== unusual ? `Confirm that you mean ${unusual}` : null);
  const close = () => {
    if (!write.isPending) props.onClose();
  };
  return (
    <Modal opened onClose={close} title={props.title} classNames={{ title: classes.title }} centered closeButtonProps={{ "aria-label": "Close" }}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (underWay.current || blocked !== null) return;
          underWay.current = true;
          write.mutate();
        }}
      >
        <Stack gap="md">
          {typeof props.children === "function" ? props.children(problemsOf(write.error)) : props.children}
          {unusual !== null && (
            <Checkbox
              label={`I mean ${unusual}: this is unusually much`}
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
                // aria-disabled and not disabled, so that the keyboard reaches it and the reason is read out.
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
