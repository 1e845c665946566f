import { Alert, Anchor, SimpleGrid, Skeleton, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { useParams } from "react-router";

import { api, bodyOf } from "../../api/client";
import { ApiError } from "../../api/errors";
import type { Purchase } from "../../api/models";
import { AuditLink } from "../../components/AuditLink";
import { BackLink } from "../../components/BackLink";
import { Copyable } from "../../components/Copyable";
import { DetailSkeleton } from "../../components/DetailSkeleton";
import { EmptyState } from "../../components/EmptyState";
import { ErrorAlert } from "../../components/ErrorAlert";
import { Facts } from "../../components/Facts";
import { Page } from "../../components/Page";
import { PersonLink } from "../../components/PersonLink";
import { RoleButton } from "../../components/RoleButton";
import { Section } from "../../components/Section";
import { EnvironmentTag, PurchaseTag } from "../../components/states";
import { Timestamp } from "../../components/Timestamp";
import { formatMoney } from "../../logic/format";
import { cardOf } from "../../logic/names";
import {
  boughtBy,
  currencyOf,
  isUncredited,
  reviewAdvice,
  stripeUrl,
  takenByDisputes,
  takenByRefunds,
  titleOf,
} from "../../logic/purchases";
import { Disputes, Events } from "./History";
import { priceOf, refundable } from "./labels";
import { ReconcileDialog } from "./ReconcileDialogs";
import { RefundDialog } from "./RefundDialog";
import { Refunds } from "./Refunds";

export function PurchasePage() {
  const { purchaseId = "" } = useParams();
  const { data: purchase, error, refetch } = useQuery({
    queryKey: ["purchase", purchaseId],
    queryFn: ({ signal }) =>
      bodyOf(api.GET("/admin/purchases/{purchase_id}", { params: { path: { purchase_id: purchaseId } }, signal })),
  });
  if (error instanceof ApiError && (error.status === 404 || error.status === 422)) return <NoSuchPurchase />;
  if (error) return <ErrorAlert error={error} onRetry={() => void refetch()} />;
  if (purchase === undefined) return <Loading />;
  return (
    <Page
      title={`${titleOf(purchase)}, ${priceOf(purchase)}`}
      marks={
        <>
          <PurchaseTag state={purchase.state} />
          <EnvironmentTag environment={purchase.environment} />
        </>
      }
      subtitle={<BackLink to="/purchases">All purchases</BackLink>}
      actions={<Actions purchase={purchase} />}
    >
      <ReviewAlert purchase={purchase} />
      <SimpleGrid cols={{ base: 1, lg: 2 }} spacing="lg">
        <Money purchase={purchase} />
        <Ids purchase={purchase} />
      </SimpleGrid>
      <Refunds purchase={purchase} />
      <Events purchase={purchase} />
      <Disputes purchase={purchase} />
    </Page>
  );
}

function Actions({ purchase }: { purchase: Purchase }) {
  const [open, setOpen] = useState<"refund" | "reconcile" | null>(null);
  const close = () => setOpen(null);
  return (
    <>
      <RoleButton needs="support" onClick={() => setOpen("reconcile")}>
        Reconcile
      </RoleButton>
      {refundable(purchase) > 0 && (
        <RoleButton needs="admin" onClick={() => setOpen("refund")}>
          Refund
        </RoleButton>
      )}
      {open === "reconcile" && <ReconcileDialog purchase={purchase} onClose={close} />}
      {open === "refund" && <RefundDialog purchase={purchase} onClose={close} />}
    </>
  );
}

function ReviewAlert({ purchase }: { purchase: Purchase }) {
  const uncredited = isUncredited(purchase);
  if (purchase.review_reason === null && !uncredited) return null;
  return (
    <Alert color="red" variant="outline" title={uncredited ? "Paid, but not credited" : "Needs review"}>
      <Text size="sm">
        {purchase.review_reason === null ? "Reconcile to check with Stripe and book the missing credits." : reviewAdvice(purchase.review_reason)}
      </Text>
    </Alert>
  );
}

function Money({ purchase }: { purchase: Purchase }) {
  const money = (minor: number) => formatMoney(minor, currencyOf(purchase));
  return (
    <Section title="Money and credits">
      <Facts
        facts={[
          ["Price", priceOf(purchase)],
          ["Received", purchase.received_minor === null ? "Not yet" : money(purchase.received_minor)],
          ["Refunded", money(purchase.refunded_minor)],
          ["Refundable", money(refundable(purchase))],
          [purchase.money === null ? "Credits" : "Money", `${boughtBy(purchase)}, ${purchase.credited ? "booked" : "not booked"}`],
          ["Plan discount", purchase.money === null ? undefined : `${purchase.discount_percent} %`],
          ["Taken back", `${takenByRefunds(purchase)} by refunds, ${takenByDisputes(purchase)} by disputes`],
        ]}
      />
    </Section>
  );
}

function Ids({ purchase }: { purchase: Purchase }) {
  return (
    <Section
      title="Purchase"
      aside={<AuditLink targetType="purchase" targetId={purchase.purchase_id} />}
    >
      <Facts
        facts={[
          ["Buyer", <PersonLink key="buyer" person={purchase.buyer} accountId={purchase.account_id} />],
          ["Paid with", cardOf(purchase) ?? undefined],
          ["Stripe payment", <StripeLink key="stripe" purchase={purchase} />],
          ["Account id", <Copyable key="account" value={purchase.account_id} what="the account id" />],
          ["Purchase id", <Copyable key="id" value={purchase.purchase_id} what="the purchase id" />],
          ["Session id", purchase.session_id === null ? undefined : <Copyable value={purchase.session_id} what="the session id" />],
          ["Payment id", purchase.payment_id === null ? undefined : <Copyable value={purchase.payment_id} what="the payment id" />],
          ["Created", <Timestamp key="created" at={purchase.created_at} />],
          ["Last updated", <Timestamp key="updated" at={purchase.updated_at} />],
        ]}
      />
    </Section>
  );
}

function StripeLink({ purchase }: { purchase: Purchase }) {
  const url = stripeUrl(purchase);
  if (url === null) return "Not created yet";
  return (
    <Anchor href={url} target="_blank" rel="noreferrer" size="sm" underline="always">
      {purchase.environment === "live" ? "View in Stripe" : "View in Stripe (test mode)"}
    </Anchor>
  );
}

function NoSuchPurchase() {
  return (
    <Page title="Purchase not found" subtitle={<BackLink to="/purchases">All purchases</BackLink>}>
      <EmptyState title="No purchase has this id">Check the id for typing errors, or search for the payment id.</EmptyState>
    </Page>
  );
}

function Loading() {
  return (
    <DetailSkeleton label="Loading purchase">
      <Skeleton height={200} />
    </DetailSkeleton>
  );
}
