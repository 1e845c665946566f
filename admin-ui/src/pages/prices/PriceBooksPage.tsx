import { Anchor, Stack, Text } from "@mantine/core";
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { Link, useNavigate } from "react-router";

import { api, bodyOf } from "../../api/client";
import type { PriceBook } from "../../api/models";
import { ActionDialog } from "../../components/ActionDialog";
import { type Column } from "../../components/DataTable";
import { EmptyState } from "../../components/EmptyState";
import { useFilters } from "../../components/Filters";
import { Page } from "../../components/Page";
import { Pager } from "../../components/Pager";
import { QueryTable } from "../../components/QueryTable";
import { reasonProblem, ReasonField } from "../../components/ReasonField";
import { RoleButton } from "../../components/RoleButton";
import { Section } from "../../components/Section";
import { Tag } from "../../components/Tag";
import { Timestamp } from "../../components/Timestamp";
import { UrlTabs } from "../../components/UrlTabs";
import { Calculator } from "./Calculator";
import { STATES } from "./labels";
import { UnknownModels } from "./UnknownModels";

const TABS = { versions: "Versions", unknown: "Unknown models", calculator: "Calculator" };
const CONTENT = { versions: <Versions />, unknown: <UnknownModels />, calculator: <Calculator /> };

export function PriceBooksPage() {
  const [importing, setImporting] = useState(false);
  return (
    <Page
      title="Price books"
      subtitle="Prices of metered usage. A version never changes. Stored events keep the price that they had."
      actions={
        <RoleButton needs="admin" onClick={() => setImporting(true)}>
          Import shipped prices
        </RoleButton>
      }
    >
      <UrlTabs param="tab" label="Parts of the price books" tabs={TABS} first="versions" content={CONTENT} />
      {importing && <ImportDialog onClose={() => setImporting(false)} />}
    </Page>
  );
}

function Versions() {
  const { get } = useFilters();
  const cursor = get("cursor");
  const query = { limit: 25, cursor: cursor !== null && /^\d{1,15}$/.test(cursor) ? Number(cursor) : null };
  const { data, error, refetch, isPlaceholderData } = useQuery({
    queryKey: ["price-books", query],
    queryFn: ({ signal }) => bodyOf(api.GET("/admin/price-books", { params: { query }, signal })),
    placeholderData: keepPreviousData,
  });
  return (
    <Section title="Versions">
      <QueryTable
        error={error}
        onRetry={() => void refetch()}
        label="Versions"
        columns={COLUMNS}
        rows={data?.price_books}
        rowKey={({ version }) => String(version)}
        busy={isPlaceholderData}
        empty={
          <EmptyState title="No price books">
            Import the shipped prices, or run ciris-billing prices import. Nothing is in force until an admin decides.
          </EmptyState>
        }
      />
      <Pager nextCursor={data?.next_cursor?.toString()} />
    </Section>
  );
}

const COLUMNS: Column<PriceBook>[] = [
  { name: "Version", cell: (book) => <Version book={book} /> },
  { name: "State", cell: ({ state }) => <Tag tone={STATES[state].tone}>{STATES[state].label}</Tag> },
  { name: "Currency", cell: ({ currency }) => currency, from: "sm" },
  { name: "In force from", cell: ({ effective_at }) => <Timestamp at={effective_at} />, from: "sm" },
  { name: "Proposed", cell: (book) => <Proposed book={book} />, from: "md" },
];

function Version({ book }: { book: PriceBook }) {
  return (
    <Stack gap={0}>
      <Anchor component={Link} to={`/price-books/${String(book.version)}`} size="sm" fw={600}>
        {book.name}, version {book.version}
      </Anchor>
      <Text size="xs" c="dimmed" style={{ overflowWrap: "anywhere" }}>
        {book.reason}
      </Text>
    </Stack>
  );
}

function Proposed({ book }: { book: PriceBook }) {
  return (
    <Stack gap={0}>
      <Timestamp at={book.created_at} />
      <Text size="xs" c="dimmed">
        {book.proposed_by}
      </Text>
    </Stack>
  );
}

function ImportDialog({ onClose }: { onClose: () => void }) {
  const [reason, setReason] = useState("");
  const navigate = useNavigate();
  return (
    <ActionDialog
      title="Import shipped prices"
      confirmLabel="Propose prices"
      blocked={reasonProblem(reason)}
      onClose={onClose}
      act={() => bodyOf(api.POST("/admin/price-books/import", { body: { reason: reason.trim() } }))}
      done={({ version }) =>
        version === null ? "The shipped prices change nothing: no version was proposed" : `Version ${String(version)} proposed`
      }
      onDone={({ version }) => version !== null && void navigate(`/price-books/${String(version)}`)}
    >
      {(problemOf) => (
        <>
          <Text size="sm">
            Proposes a version from the price data that this release ships. It keeps the markups and other rules of the version in
            force. Nothing changes until you put the proposal in force.
          </Text>
          <ReasonField value={reason} onChange={setReason} error={problemOf("reason")} />
        </>
      )}
    </ActionDialog>
  );
}
