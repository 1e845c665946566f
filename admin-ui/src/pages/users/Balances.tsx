import { Paper, SimpleGrid, Text } from "@mantine/core";

import type { User } from "../../api/models";
import { TableSection } from "../../components/TableSection";
import { formatNumber, humanize } from "../../logic/format";

/** The pools in the order in which charges spend them, and the balances of products. */
export function Balances({ user }: { user: User }) {
  return (
    <>
      <SimpleGrid cols={{ base: 2, sm: 4 }} spacing="sm">
        <Pool name="Daily free" value={user.daily_free} hint="Spent first; resets daily (UTC)" />
        <Pool name="Free" value={user.free} hint="Spent after credit grants" />
        <Pool name="Paid" value={user.paid} hint="Spent last" />
        <Pool name="Debt" value={user.debt} hint="Deducted from the next purchase" alarming={user.debt > 0} />
      </SimpleGrid>
      {user.products.length > 0 && <Products user={user} />}
    </>
  );
}

interface PoolProps {
  name: string;
  value: number;
  hint: string;
  alarming?: boolean;
}

function Pool({ name, value, hint, alarming = false }: PoolProps) {
  return (
    <Paper withBorder p="sm">
      <Text size="sm" c="dimmed">
        {name}
      </Text>
      <Text size="xl" fw={650} className="numeric" c={alarming ? "var(--mantine-color-error)" : undefined}>
        {formatNumber(value)}
      </Text>
      <Text size="xs" c="dimmed">
        {hint}
      </Text>
    </Paper>
  );
}

function Products({ user }: { user: User }) {
  return (
    <TableSection
      title="Products"
      rows={user.products}
      rowKey={(product) => product.product_type}
      columns={[
        { name: "Product", cell: (product) => humanize(product.product_type) },
        { name: "Free", cell: (product) => formatNumber(product.free), numeric: true },
        { name: "Paid", cell: (product) => formatNumber(product.paid), numeric: true },
        { name: "Main pool", cell: (product) => formatNumber(product.main_pool), numeric: true },
        { name: "Uses", cell: (product) => formatNumber(product.total_uses), numeric: true },
      ]}
    />
  );
}
