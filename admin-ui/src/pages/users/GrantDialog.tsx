import { SegmentedControl, Select, Text, TextInput } from "@mantine/core";
import { useState } from "react";

import { api, bodyOf } from "../../api/client";
import type { User } from "../../api/models";
import { useMe } from "../../api/session";
import { ActionDialog } from "../../components/ActionDialog";
import { AmountField } from "../../components/AmountField";
import { NumberField } from "../../components/NumberField";
import { reasonProblem, ReasonField } from "../../components/ReasonField";
import { useIdempotencyKey } from "../../components/useIdempotencyKey";
import { fromLocalInput } from "../../logic/dates";
import { keysOf, oneOf } from "../../logic/filters";
import { CATEGORIES, draftOf, grantAmount, GRANTED_CREDITS, limitText, PRIORITY, type GrantCategory, type GrantUnit } from "../../logic/grants";
import { nameOf } from "../../logic/names";
import { readWhole } from "../../logic/numbers";

const UNITS: Record<GrantUnit, string> = { credits: "Credits", money: "Money" };

export function GrantDialog({ user, onClose }: { user: User; onClose: () => void }) {
  const [unit, setUnit] = useState<GrantUnit>("credits");
  const [amount, setAmount] = useState("");
  const [category, setCategory] = useState<GrantCategory>("compensation");
  const [priority, setPriority] = useState("50");
  const [expires, setExpires] = useState("");
  const [reason, setReason] = useState("");
  const [key, onFailed] = useIdempotencyKey();
  const me = useMe();
  const currency = user.currency.toUpperCase();
  const limit = unit === "credits" ? me.credit_limit : me.money_limit;
  const draft = draftOf(unit, amount, currency, limit);
  const rank = readWhole(priority, PRIORITY);
  const blocked = draft.problem ?? (rank.problem === null ? reasonProblem(reason) : `Priority: ${rank.problem.toLowerCase()}`);
  return (
    <ActionDialog
      title="Give grant"
      confirmLabel={draft.amount === null ? "Give grant" : `Give ${draft.amount}`}
      blocked={blocked}
      unusual={draft.unusual}
      onClose={onClose}
      onFailed={onFailed}
      act={() =>
        bodyOf(
          api.POST("/admin/users/{account_id}/grants", {
            params: { path: { account_id: user.account_id } },
            body: {
              ...(unit === "credits" ? { credits: readWhole(amount, GRANTED_CREDITS).value } : { money: amount, currency }),
              category,
              priority: rank.value ?? 50,
              expires_at: fromLocalInput(expires),
              reason: reason.trim(),
              idempotency_key: key,
            },
          }),
        )
      }
      done={({ grant, replayed }) =>
        `${replayed ? "Already given before" : `${nameOf(user)} received a grant`}: ${grantAmount(grant.amount, grant.unit)}`
      }
    >
      {(problemOf) => (
        <>
          <SegmentedControl
            fullWidth
            aria-label="Unit of the grant"
            value={unit}
            onChange={(chosen) => setUnit(oneOf(chosen, keysOf(UNITS)) ?? unit)}
            data={keysOf(UNITS).map((value) => ({ value, label: UNITS[value] }))}
          />
          {unit === "credits" ? (
            <NumberField
              {...GRANTED_CREDITS}
              label="Credits"
              data-autofocus
              value={amount}
              onChange={setAmount}
              description={limitText(unit, currency, limit)}
              error={draft.amount === null ? problemOf("credits") : (draft.problem ?? problemOf("credits"))}
            />
          ) : (
            <AmountField
              label={`Amount in ${currency}`}
              description={limitText(unit, currency, limit) ?? "With at most 9 decimals"}
              required
              value={amount}
              onChange={setAmount}
              error={amount === "" ? undefined : (draft.problem ?? problemOf("money") ?? problemOf("currency"))}
            />
          )}
          <Select
            label="Category"
            data={keysOf(CATEGORIES).map((value) => ({ value, label: CATEGORIES[value] }))}
            value={category}
            allowDeselect={false}
            onChange={(value) => setCategory(oneOf(value, keysOf(CATEGORIES)) ?? category)}
            error={problemOf("category")}
          />
          <NumberField
            {...PRIORITY}
            label="Priority"
            description="0 to 100. The lowest number is spent first; then the grant that expires first"
            value={priority}
            onChange={setPriority}
            error={problemOf("priority")}
          />
          <TextInput
            label="Expires"
            description="In your time zone. Empty: never"
            type="datetime-local"
            value={expires}
            onChange={({ currentTarget }) => setExpires(currentTarget.value)}
            error={problemOf("expires_at")}
          />
          <ReasonField value={reason} onChange={setReason} error={problemOf("reason")} placeholder="Reason or ticket number" />
          <Text size="sm">A grant pays no debt. It is recorded in the ledger and the audit log.</Text>
        </>
      )}
    </ActionDialog>
  );
}
