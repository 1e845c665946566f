import { Anchor } from "@mantine/core";
import { Link } from "react-router";

import { api, bodyOf } from "../../api/client";
import type { TopUser } from "../../api/models";
import { Breakable } from "../../components/Breakable";
import { AccountTag } from "../../components/states";
import { nameOf } from "../../logic/names";
import { ReportTable } from "../../reports/ReportTable";
import { count } from "../../reports/usage";
import { useReport } from "../../reports/useReport";

const MOST = 100;

export function TopUsers() {
  const { data, ...state } = useReport(["analytics", "users"], (query, signal) =>
    bodyOf(api.GET("/admin/analytics/users", { params: { query: { ...query, limit: MOST } }, signal })),
  );
  return (
    <ReportTable
      title="Top users"
      note="Users who spent the most credits in this period. Balances are current."
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
        { ...count<TopUser>("Paid balance", ({ paid }) => paid), from: "sm" },
        { ...count<TopUser>("Debt", ({ debt }) => debt), from: "md" },
      ]}
      {...state}
      empty={["No usage", "No charges or tool uses in this period."]}
    />
  );
}
