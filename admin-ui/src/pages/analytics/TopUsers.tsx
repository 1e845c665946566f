import { Anchor } from "@mantine/core";
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { Link } from "react-router";

import { api, bodyOf } from "../../api/client";
import type { TopUser } from "../../api/models";
import { Breakable } from "../../components/Breakable";
import { AccountTag } from "../../components/states";
import { nameOf } from "../../logic/names";
import { ReportTable } from "../../reports/ReportTable";
import { count } from "../../reports/usage";
import { useRange } from "../../reports/useRange";

const MOST = 100;

export function TopUsers() {
  const { query } = useRange();
  const { data, error, refetch, isPlaceholderData } = useQuery({
    queryKey: ["analytics", "users", query],
    queryFn: ({ signal }) =>
      bodyOf(api.GET("/admin/analytics/users", { params: { query: { ...query, limit: MOST } }, signal })),
    placeholderData: keepPreviousData,
  });
  return (
    <ReportTable
      title="Top users"
      note="Who spent the most credits in these days; what they have left is as of now."
      rows={data?.users}
      rowKey={({ account_id }) => account_id}
      columns={[
        {
          name: "User",
          cell: (user) => (
            <Anchor component={Link} to={`/users/${user.account_id}`} size="sm" fw={600} style={{ overflowWrap: "anywhere" }}>
              <Breakable text={nameOf(user)} />
            </Anchor>
          ),
          csv: nameOf,
        },
        { name: "Account", cell: () => null, csv: ({ account_id }) => account_id, exportOnly: true },
        { name: "Status", cell: ({ status }) => <AccountTag status={status} />, csv: ({ status }) => status, from: "sm" },
        count<TopUser>("Credits", ({ credits }) => credits),
        count<TopUser>("Uses", ({ uses }) => uses),
        { ...count<TopUser>("Paid left", ({ paid }) => paid), from: "sm" },
        { ...count<TopUser>("Debt", ({ debt }) => debt), from: "md" },
      ]}
      busy={isPlaceholderData}
      error={error}
      onRetry={() => void refetch()}
      empty={["Nobody spent anything", "No charge and no tool use in these days."]}
    />
  );
}
