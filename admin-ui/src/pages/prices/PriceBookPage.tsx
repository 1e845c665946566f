import { Alert, Anchor, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { Link, useParams } from "react-router";

import { api, bodyOf } from "../../api/client";
import { ApiError } from "../../api/errors";
import type { PriceBookDetail } from "../../api/models";
import { AuditLink } from "../../components/AuditLink";
import { BackLink } from "../../components/BackLink";
import { DetailSkeleton } from "../../components/DetailSkeleton";
import { EmptyState } from "../../components/EmptyState";
import { ErrorAlert } from "../../components/ErrorAlert";
import { Facts } from "../../components/Facts";
import { Page } from "../../components/Page";
import { RoleButton } from "../../components/RoleButton";
import { Section } from "../../components/Section";
import { Tag } from "../../components/Tag";
import { Timestamp } from "../../components/Timestamp";
import { UrlTabs } from "../../components/UrlTabs";
import { keysOf } from "../../logic/filters";
import { flatten, show, type Facts as Values } from "../../logic/diff";
import { formatCount, formatNumber, humanize } from "../../logic/format";
import { ActivateDialog } from "./ActivateDialog";
import { VersionCalculator } from "./Calculator";
import { Difference } from "./Difference";
import { fieldName, STATES, STATUSES } from "./labels";
import { ModelRows } from "./ModelRows";

export function PriceBookPage() {
  const { version = "" } = useParams();
  const number = /^\d{1,15}$/.test(version) ? Number(version) : 0;
  const { data: book, error, refetch } = useQuery({
    queryKey: ["price-book", number],
    queryFn: ({ signal }) => bodyOf(api.GET("/admin/price-books/{version}", { params: { path: { version: number } }, signal })),
    enabled: number > 0,
  });
  if (number === 0 || (error instanceof ApiError && error.status === 404)) return <NoSuchVersion />;
  if (error) return <ErrorAlert error={error} onRetry={() => void refetch()} />;
  if (book === undefined) return <DetailSkeleton label="Loading price book" />;
  return (
    <Page
      title={`${book.name}, version ${String(book.version)}`}
      marks={<Tag tone={STATES[book.state].tone}>{STATES[book.state].label}</Tag>}
      subtitle={<BackLink to="/price-books">All price books</BackLink>}
      actions={<Activate book={book} />}
    >
      <Disputed count={book.rows.disputed ?? 0} />
      <Summary book={book} />
      <Parts book={book} key={book.version} />
    </Page>
  );
}

const TABS = { changes: "Changes", models: "Models", rules: "Rules and other prices", calculator: "Calculator" };

function Parts({ book }: { book: PriceBookDetail }) {
  const content = {
    changes: <Difference version={book.version} />,
    models: <ModelRows version={book.version} />,
    rules: <Rules book={book} />,
    calculator: <VersionCalculator version={book.version} />,
  };
  return <UrlTabs param="tab" label="Parts of the price book" tabs={TABS} first="changes" content={content} />;
}

function Activate({ book }: { book: PriceBookDetail }) {
  const [open, setOpen] = useState(false);
  return (
    <>
      <RoleButton needs="admin" variant="filled" onClick={() => setOpen(true)}>
        Put in force
      </RoleButton>
      {open && <ActivateDialog book={book} onClose={() => setOpen(false)} />}
    </>
  );
}

function Disputed({ count }: { count: number }) {
  if (count === 0) return null;
  return (
    <Alert color="orange" variant="outline" title={`${formatCount(count, "disputed row")}: not priced`}>
      <Text size="sm">
        The sources state different prices. Choose the right source of{" "}
        <Anchor component={Link} to="?tab=models&status=disputed" inherit underline="always">
          the disputed rows
        </Anchor>
        . Confirming creates a new version.
      </Text>
    </Alert>
  );
}

function Summary({ book }: { book: PriceBookDetail }) {
  const statuses = keysOf(STATUSES).filter((status) => (book.rows[status] ?? 0) > 0);
  return (
    <Section title="Version" aside={<AuditLink targetType="price_book" targetId={String(book.version)} />}>
      <Facts
        facts={[
          ["Currency", book.currency],
          ["In force from", <Timestamp key="from" at={book.effective_at} missing="Not put in force" />],
          ["Put in force by", book.activated_by],
          ["Proposed", <Timestamp key="at" at={book.created_at} />],
          ["Proposed by", book.proposed_by],
          ["Reason", book.reason],
          ["Made from version", book.based_on === null ? null : String(book.based_on)],
          [
            "Models",
            statuses.map((status) => `${formatNumber(book.rows[status] ?? 0)} ${STATUSES[status].toLowerCase()}`).join(", ") || "None",
          ],
        ]}
      />
    </Section>
  );
}

const SHOWN_ABOVE = ["name", "currency", "notices"];

/** The rules, policies and prices other than those of models. */
function Rules({ book }: { book: PriceBookDetail }) {
  const facts = Object.entries(book.document).flatMap(([name, value]): [string, string][] => {
    if (SHOWN_ABOVE.includes(name)) return [];
    if (Array.isArray(value)) return value.map((row: Values, index) => [`${fieldName(name)} ${String(index + 1)}`, textOf(row)]);
    if (typeof value === "object" && value !== null) return [[fieldName(name), textOf(value as Values)]];
    return value === null || value === undefined ? [] : [[fieldName(name), valueText(value)]];
  });
  return (
    <Section title="Rules and other prices">
      <Facts facts={facts} />
    </Section>
  );
}

/** Words such as "up_to_minor" become readable; amounts and names stay as they are. */
function valueText(value: unknown): string {
  const text = show(value);
  return /^[a-z]+(_[a-z]+)*$/.test(text) ? humanize(text) : text;
}

function textOf(row: Values): string {
  const shown = flatten(row).filter(([name, value]) => name !== "source" && value !== "none");
  return shown.map(([name, value]) => `${fieldName(name).toLowerCase()} ${value}`).join(", ") || "None";
}

function NoSuchVersion() {
  return (
    <Page title="Price book not found" subtitle={<BackLink to="/price-books">All price books</BackLink>}>
      <EmptyState title="No price book has this version">Check the address for typing errors.</EmptyState>
    </Page>
  );
}
