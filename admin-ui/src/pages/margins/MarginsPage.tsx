import { SegmentedControl, SimpleGrid, Text } from "@mantine/core";
import { keepPreviousData, useQuery } from "@tanstack/react-query";

import { api, bodyOf } from "../../api/client";
import { ErrorAlert } from "../../components/ErrorAlert";
import { useFilters } from "../../components/Filters";
import { Page } from "../../components/Page";
import { FigureSkeletons } from "../../reports/Figure";
import { RangeBar } from "../../reports/RangeBar";
import { useRange } from "../../reports/useRange";
import { Agents } from "./Agents";
import { Interactions } from "./Interactions";
import { MarginDaily } from "./MarginDaily";
import { Definitions, MarginFigures, Prices } from "./MarginFigures";
import { Models } from "./Models";
import { Tools } from "./Tools";

const USUAL = "USD";

export function MarginsPage() {
  const { query } = useRange();
  const { get, set } = useFilters();
  const { data, error, refetch } = useQuery({
    queryKey: ["margins", "overview", query],
    queryFn: ({ signal }) => bodyOf(api.GET("/admin/analytics/margin/overview", { params: { query }, signal })),
    placeholderData: keepPreviousData,
  });
  const currencies = [...new Set([...(data?.period ?? []), ...(data?.previous ?? []), ...(data?.prices ?? [])].map((one) => one.currency))];
  const asked = get("currency");
  const currency = currencies.find((one) => one === asked) ?? (currencies.includes(USUAL) ? USUAL : (currencies[0] ?? USUAL));
  return (
    <Page
      title="Margins"
      subtitle="Revenue, the cost of LLM calls, and which model, agent or tool earns what. No currency is ever converted."
    >
      <RangeBar />
      {currencies.length > 1 && (
        <SegmentedControl
          aria-label="Currency of the accounts"
          data={currencies}
          value={currency}
          onChange={(value) => set("currency", value)}
          style={{ alignSelf: "flex-start" }}
        />
      )}
      {error ? (
        <ErrorAlert error={error} onRetry={() => void refetch()} />
      ) : data === undefined ? (
        <SimpleGrid cols={{ base: 2, md: 5 }} spacing="sm" aria-busy aria-label="Loading">
          <FigureSkeletons count={5} />
        </SimpleGrid>
      ) : (
        <>
          <MarginFigures overview={data} currency={currency} />
          <Definitions overview={data} currency={currency} />
          {currency !== USUAL && (
            <Text size="sm">
              LLM cost is reported in US dollars, so accounts in {currency} have revenue and cost, but no margin.
            </Text>
          )}
        </>
      )}
      <MarginDaily currency={currency} />
      <Models />
      <Agents />
      <Tools />
      <Interactions />
      {data !== undefined && data.prices.length > 0 && <Prices prices={data.prices} />}
    </Page>
  );
}
