import { Alert, Box } from "@mantine/core";

import type { Calculation } from "../../api/models";
import { Facts } from "../../components/Facts";
import { formatAmount } from "../../logic/decimals";
import { reasonOf } from "./labels";
import { PriceLines } from "./PriceLines";

/** A calculated price with its breakdown, or the reason why there is none. */
export function CalculatedPrice({ found }: { found: Calculation }) {
  const { cost, provider_cost: listPrice, currency } = found;
  if (cost === null || listPrice === null) {
    return (
      <Alert mt="md" color="orange" variant="outline" title="This usage has no price" role="status">
        {reasonOf(found.problem ?? "")}.
      </Alert>
    );
  }
  return (
    <Box mt="md" role="status">
      <Facts
        facts={[
          ["Cost", <b key="cost">{formatAmount(cost, currency)}</b>],
          ["At list prices", formatAmount(listPrice, currency)],
          ["Markup rule", found.markup_rule],
          ["Model", found.unknown_model ? "Unknown: the stated price for unknown models applies" : null],
        ]}
      />
      <PriceLines lines={found.lines} currency={currency} />
    </Box>
  );
}
