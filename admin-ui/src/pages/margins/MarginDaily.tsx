
import { api, bodyOf } from "../../api/client";
import type { Margin, MarginDay } from "../../api/models";
import { formatCents, plainUnits } from "../../logic/decimals";
import { ChartSection } from "../../reports/ChartSection";
import type { Series } from "../../reports/series";
import { count, dayColumn } from "../../reports/usage";
import { useReport } from "../../reports/useReport";
import { centsColumn } from "./cents";
import { marginIn } from "./MarginFigures";

const COST = "USD";

export function MarginDaily({ currency }: { currency: string }) {
  const { data, error, onRetry } = useReport(["margins", "daily"], (query, signal) =>
    bodyOf(api.GET("/admin/analytics/margin/daily", { params: { query }, signal })),
  );
  const of = ({ margins }: MarginDay) => marginIn(margins, currency);
  const series = (name: string, color: string, centsOf: (margin: Margin) => string | null, unit: string): Series<MarginDay> => ({
    name,
    color,
    valueOf: (day) => Number(plainUnits(centsOf(of(day)) ?? "0", unit)),
    textOf: (day) => {
      const cents = centsOf(of(day));
      return cents === null ? "—" : formatCents(cents, unit);
    },
  });
  return (
    <ChartSection
      title={`By day, ${currency}`}
      note="Revenue of each day at the current average price per paid credit. The table includes tool revenue."
      kind="line"
      days={data?.days}
      dayOf={({ day }) => day}
      series={[
        series("Interaction revenue", "teal.6", ({ interaction_revenue_cents: cents }) => cents, currency),
        series("LLM cost", "orange.6", ({ cost_cents }) => cost_cents, COST),
        ...(currency === COST ? [series("Margin", "indigo.6", ({ margin_cents }) => margin_cents, currency)] : []),
      ]}
      columns={[
        dayColumn,
        { ...count<MarginDay>("Interactions", (day) => of(day).interactions), from: "sm" },
        { ...count<MarginDay>("Paid credits", (day) => of(day).paid_spent), from: "sm" },
        centsColumn<MarginDay>(`Revenue ${currency}`, (day) => of(day).revenue_cents, () => currency),
        { ...centsColumn<MarginDay>("Interaction revenue", (day) => of(day).interaction_revenue_cents, () => currency), from: "md" },
        { ...centsColumn<MarginDay>("Tool revenue", (day) => of(day).tool_revenue_cents, () => currency), from: "md" },
        centsColumn<MarginDay>("LLM cost USD", (day) => of(day).cost_cents, () => COST),
        centsColumn<MarginDay>(`Margin ${currency}`, (day) => of(day).margin_cents, () => currency),
      ]}
      error={error}
      onRetry={onRetry}
      empty={["No data", "No paid credits were spent and no LLM cost was reported in this period."]}
    />
  );
}
