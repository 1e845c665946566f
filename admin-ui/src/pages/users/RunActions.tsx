import { SegmentedControl, Text, TextInput } from "@mantine/core";
import { useState } from "react";

import { api, bodyOf } from "../../api/client";
import type { Run, RunBody, RunReceipt } from "../../api/models";
import { ActionDialog } from "../../components/ActionDialog";
import { ReasonDialog, type ReasonTexts } from "../../components/ReasonDialog";
import { reasonProblem, ReasonField } from "../../components/ReasonField";
import { RoleButton } from "../../components/RoleButton";
import { readAmount } from "../../logic/amounts";
import { readWhole } from "../../logic/numbers";
import { amountsText } from "../../logic/runs";

interface Props {
  accountId: string;
  runUuid: string;
  run: RunReceipt;
  currency: string;
}

const CREDITS = { least: 0, most: 9_999_999_999_999 };
const CHANGES: Record<Run["status"], ReasonTexts> = {
  paused: {
    title: "Pause run",
    confirm: "Pause",
    danger: true,
    consequences: "No work starts in the run or below it. Open holds and cost records are settled.",
    done: "The run is paused",
  },
  open: {
    title: "Resume run",
    confirm: "Resume",
    danger: false,
    consequences: "Work can start in the run again, within its budget.",
    done: "The run is open again",
  },
  closed: {
    title: "Close run",
    confirm: "Close run",
    danger: true,
    consequences: "No work starts in the run or below it, permanently. Open holds and cost records are settled.",
    done: "The run is closed",
  },
};

/** Buttons that pause, resume and close a run, and set its budget. */
export function RunActions({ accountId, runUuid, run, currency }: Props) {
  const [to, setTo] = useState<Run["status"] | null>(null);
  const [budgeting, setBudgeting] = useState(false);
  const blocked = run.status === "closed" ? "A closed run stays closed" : null;
  const send = (body: RunBody) =>
    bodyOf(api.PATCH("/admin/users/{account_id}/runs/{run_uuid}", { params: { path: { account_id: accountId, run_uuid: runUuid } }, body }));
  return (
    <>
      <RoleButton needs="support" blocked={blocked} onClick={() => setBudgeting(true)}>
        Set budget
      </RoleButton>
      <RoleButton needs="support" blocked={blocked} onClick={() => setTo(run.status === "paused" ? "open" : "paused")}>
        {run.status === "paused" ? "Resume" : "Pause"}
      </RoleButton>
      <RoleButton needs="support" blocked={blocked} onClick={() => setTo("closed")}>
        Close run
      </RoleButton>
      {to !== null && <ReasonDialog texts={CHANGES[to]} onClose={() => setTo(null)} act={(reason) => send({ status: to, reason })} />}
      {budgeting && <BudgetDialog run={run} currency={currency} onClose={() => setBudgeting(false)} send={send} />}
    </>
  );
}

type Unit = "credits" | "money" | "none";

interface BudgetProps {
  run: RunReceipt;
  currency: string;
  onClose: () => void;
  send: (body: RunBody) => Promise<Run>;
}

function BudgetDialog({ run, currency, onClose, send }: BudgetProps) {
  const [unit, setUnit] = useState<Unit>(run.budget !== null && run.budget.amount !== null ? "money" : "credits");
  const [amount, setAmount] = useState("");
  const [reason, setReason] = useState("");
  const problem = problemOfAmount(unit, amount);
  return (
    <ActionDialog
      title="Set budget"
      confirmLabel={unit === "none" ? "Remove budget" : "Set budget"}
      blocked={problem ?? reasonProblem(reason)}
      onClose={onClose}
      act={() => send({ budget: bodyOfBudget(unit, amount), reason: reason.trim() })}
      done={({ budget }) => (budget === null ? "The run has no budget" : `Budget: ${amountsText(budget, currency)}`)}
    >
      {(problemOf) => (
        <>
          <Text size="sm">
            Now {run.budget === null ? "without a budget" : amountsText(run.budget, currency)}, {amountsText(run.spent, currency)} spent. The
            budgets of the runs above it bound this run, too.
          </Text>
          <SegmentedControl
            aria-label="Unit of the budget"
            data={[
              { value: "credits", label: "Credits" },
              { value: "money", label: currency.toUpperCase() },
              { value: "none", label: "No budget" },
            ]}
            value={unit}
            onChange={setUnit}
          />
          {unit !== "none" && (
            <TextInput
              label={unit === "credits" ? "Credits" : `Amount in ${currency.toUpperCase()}`}
              required
              data-autofocus
              inputMode={unit === "money" ? "decimal" : "numeric"}
              autoComplete="off"
              value={amount}
              onChange={({ currentTarget }) => setAmount(currentTarget.value)}
              error={amount === "" ? undefined : (problem ?? problemOf("budget"))}
            />
          )}
          <ReasonField value={reason} onChange={setReason} error={problemOf("reason")} placeholder="Reason or ticket number" />
        </>
      )}
    </ActionDialog>
  );
}

function problemOfAmount(unit: Unit, amount: string): string | null {
  if (unit === "none") return null;
  if (amount === "") return "Enter an amount";
  return unit === "money" ? readAmount(amount).problem : readWhole(amount, CREDITS).problem;
}

function bodyOfBudget(unit: Unit, amount: string): RunBody["budget"] {
  if (unit === "none") return null;
  return unit === "money" ? { amount } : { amount_minor: Number(amount) * 100 };
}
