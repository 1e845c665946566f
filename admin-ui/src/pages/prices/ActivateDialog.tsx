import { Text, TextInput } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";

import { api, bodyOf } from "../../api/client";
import type { PriceBookDetail } from "../../api/models";
import { ActionDialog } from "../../components/ActionDialog";
import { reasonProblem, ReasonField } from "../../components/ReasonField";
import { formatLocal, fromLocalInput } from "../../logic/dates";
import { formatCount } from "../../logic/format";

export function ActivateDialog({ book, onClose }: { book: PriceBookDetail; onClose: () => void }) {
  const [from, setFrom] = useState("");
  const [reason, setReason] = useState("");
  const path = { version: book.version };
  const { data: compared } = useQuery({
    queryKey: ["price-book", book.version, "difference", "summary"],
    queryFn: ({ signal }) =>
      bodyOf(api.GET("/admin/price-books/{version}/difference", { params: { path, query: { limit: 1 } }, signal })),
  });
  const at = fromLocalInput(from);
  const disputed = book.rows.disputed ?? 0;
  return (
    <ActionDialog
      title={`Put version ${String(book.version)} in force`}
      confirmLabel={at === null ? "Put in force now" : "Put in force"}
      blocked={compared === undefined ? "Comparing with the version in force" : reasonProblem(reason)}
      unusual={disputed > 0 ? `${formatCount(disputed, "disputed row")} without a price` : null}
      onClose={onClose}
      act={() =>
        bodyOf(
          api.POST("/admin/price-books/{version}/activate", {
            params: { path },
            body: {
              effective_at: at,
              seen_in_force: compared?.before ?? null,
              seen_none_in_force: compared?.before === null,
              reason: reason.trim(),
            },
          }),
        )
      }
      done={({ state, effective_at }) =>
        state === "scheduled" && effective_at !== null
          ? `Version ${String(book.version)} is in force from ${formatLocal(effective_at)}`
          : `Version ${String(book.version)} is in force`
      }
    >
      {(problemOf) => (
        <>
          <Text size="sm">
            {compared === undefined
              ? "Comparing with the version in force."
              : compared.before === null
                ? `No version is in force for ${book.currency}.`
                : `Replaces version ${String(compared.before)} for ${book.currency}: ${formatCount(compared.added, "row")} added, ${String(compared.removed)} removed, ${formatCount(compared.changed, "value")} changed.`}{" "}
            Events from this time on have the new prices. Stored events keep theirs.
          </Text>
          <TextInput
            label="In force from"
            description="In your time zone. Empty: now"
            type="datetime-local"
            value={from}
            onChange={({ currentTarget }) => setFrom(currentTarget.value)}
            error={problemOf("effective_at")}
          />
          <ReasonField value={reason} onChange={setReason} error={problemOf("reason")} />
        </>
      )}
    </ActionDialog>
  );
}
