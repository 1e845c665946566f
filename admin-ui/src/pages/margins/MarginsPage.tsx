import { SegmentedControl, SimpleGrid, Text } from "@mantine/core";

import { api, bodyOf } from "../../api/client";
import { ErrorAlert } from "../../components/ErrorAlert";
import { useFilters } from "../../components/Filters";
import { Page } from "../../components/Page";
import { FigureSkeletons } from "../../reports/Figure";
import { RangeBar } from "../../reports/RangeBar";
import { useReport } from "../../reports/useReport";
import { Agents } from "./Agents";
import { Interactions } from "./Interactions";
import { MarginDaily } from "./MarginDaily";
import { Definitions, MarginFigures, Prices } from "./MarginFigures";
import { Models } from "./Models";
import { Tools } from "./Tools";
import { UsageModels } from "./UsageModels";

const DEFAULT_CURRENCY = "USD";

export function MarginsPage() {
  const { get, set } = useFilters();
  const { data, error, onRetry } = useReport(["margins", "overview"], (query, signal) =>
    bodyOf(api.GET("/admin/analytics/margin/overview", { params: { query }, signal })),
  );
  const currencies = [...new Set([...(data?.period ?? []), ...(data?.previous ?? []), ...(data?.prices ?? [])].map((one) => one.currency))];
  const requested = get("currency");
  const currency = currencies.find((one) => one === requested) ?? (currencies.includes(DEFAULT_CURRENCY) ? DEFAULT_CURRENCY : (currencies[0] ?? DEFAULT_CURRENCY));
  return (
    <Page
      title="Margins"
      subtitle="Revenue, LLM cost and margin by model, agent and tool. Currencies are not converted."
    >
      <RangeBar />
      {currencies.length > 1 && (
        <SegmentedControl
          aria-label="Account currency"
          data={currencies}
          value={currency}
          onChange={(value) => set("currency", value)}
          style={{ alignSelf: "flex-start" }}
        />
      )}
      {error ? (
        <ErrorAlert error={error} onRetry={onRetry} />
      ) : data === undefined ? (
        <SimpleGrid cols={{ base: 2, md: 5 }} spacing="sm" aria-busy aria-label="Loading">
          <FigureSkeletons count={5} />
        </SimpleGrid>
      ) : (
        <>
          <MarginFigures overview={data} currency={currency} />
          <Definitions overview={data} currency={currency} />
          {currency !== DEFAULT_CURRENCY && (
            <Text size="sm">
              LLM cost is reported in USD, so there is no margin for accounts in {currency}, only revenue and cost.
            </Text>
          )}
        </>
      )}
      <MarginDaily currency={currency} />
      <Models />
      <UsageModels />
      <Agents />
      <Tools />
      <Interactions />
      {data !== undefined && data.prices.length > 0 && <Prices prices={data.prices} />}
    </Page>
  );
}
