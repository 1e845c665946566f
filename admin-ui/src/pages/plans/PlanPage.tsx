import { Anchor, SimpleGrid, Skeleton, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { Link, useParams } from "react-router";

import { api, bodyOf } from "../../api/client";
import { ApiError } from "../../api/errors";
import type { KeptTerms, PlanDetails } from "../../api/models";
import { AuditLink } from "../../components/AuditLink";
import { BackLink } from "../../components/BackLink";
import { type Column } from "../../components/DataTable";
import { DetailSkeleton } from "../../components/DetailSkeleton";
import { EmptyState } from "../../components/EmptyState";
import { ErrorAlert } from "../../components/ErrorAlert";
import { Facts } from "../../components/Facts";
import { Page } from "../../components/Page";
import { ReasonDialog } from "../../components/ReasonDialog";
import { RoleButton } from "../../components/RoleButton";
import { Section } from "../../components/Section";
import { EnvironmentTag } from "../../components/states";
import { TableSection } from "../../components/TableSection";
import { Tag } from "../../components/Tag";
import { Timestamp } from "../../components/Timestamp";
import { pathWith } from "../../logic/filters";
import { formatCount, formatNumber } from "../../logic/format";
import { planSentence, pricesOf } from "../../logic/plans";
import { PlanTags } from "./PlanTags";
import { PlanVersions } from "./PlanVersions";
import { useEnvironment } from "./PlansTab";

export function PlanPage() {
  const { name = "" } = useParams();
  const environment = useEnvironment();
  const { data, error, refetch } = useQuery({
    queryKey: ["plan", name, environment],
    queryFn: ({ signal }) =>
      bodyOf(api.GET("/admin/plans/{name}", { params: { path: { name }, query: { environment } }, signal })),
  });
  const back = <BackLink to="/subscriptions?tab=plans">All plans</BackLink>;
  if (error instanceof ApiError && (error.status === 404 || error.status === 422)) {
    return (
      <Page title="Plan not found" subtitle={back}>
        <EmptyState title="No plan has this name">Plans are withdrawn, never deleted: check the name for typing errors.</EmptyState>
      </Page>
    );
  }
  if (error) return <ErrorAlert error={error} onRetry={() => void refetch()} />;
  if (data === undefined) {
    return (
      <DetailSkeleton label="Loading plan">
        <Skeleton height={200} />
      </DetailSkeleton>
    );
  }
  return (
    <Page
      title={data.plan.title}
      marks={
        <>
          <PlanTags plan={data.plan} />
          <EnvironmentTag environment={environment} />
        </>
      }
      subtitle={back}
      actions={<Withdraw details={data} />}
    >
      <SimpleGrid cols={{ base: 1, lg: 2 }} spacing="lg">
        <Terms details={data} />
        <Subscribers details={data} />
      </SimpleGrid>
      <TableSection
        title="Kept terms"
        aside={
          <Text size="xs" c="dimmed">
            A subscriber keeps the terms of the version that was in force at the start
          </Text>
        }
        rows={data.kept}
        rowKey={({ plan, first_at }) => `${first_at} ${planSentence(plan)}`}
        columns={keptColumns(data)}
        empty={<EmptyState title="No subscribers">No subscription in this environment has this plan.</EmptyState>}
      />
      <PlanVersions name={name} environment={environment} />
    </Page>
  );
}

function Terms({ details: { plan } }: { details: PlanDetails }) {
  return (
    <Section title="Terms in force" aside={<AuditLink targetType="plan" targetId={plan.name} />}>
      <Facts
        facts={[
          ["Name", plan.name],
          ["Prices", pricesOf(plan)],
          ["Document", <span key="document" style={{ overflowWrap: "anywhere" }}>{planSentence(plan)}</span>],
        ]}
      />
    </Section>
  );
}

function Subscribers({ details }: { details: PlanDetails }) {
  const list = pathWith("/subscriptions", { plan: details.plan.name, view: "subscribed", environment: details.environment });
  return (
    <Section
      title="Subscribers"
      aside={
        <Anchor component={Link} to={list} size="sm" underline="always">
          List subscribers
        </Anchor>
      }
    >
      <Facts
        facts={[
          ["Subscribers", formatNumber(details.subscribers)],
          ["Past due", formatNumber(details.past_due)],
          ["On earlier terms", formatNumber(details.on_earlier_terms)],
        ]}
      />
    </Section>
  );
}

function keptColumns(details: PlanDetails): Column<KeptTerms>[] {
  const inForce = planSentence(details.plan);
  return [
    {
      name: "Terms",
      cell: ({ plan }) => (
        <>
          {planSentence(plan) === inForce && <Tag tone="good">In force</Tag>}{" "}
          <Text span size="sm" style={{ overflowWrap: "anywhere" }}>
            {planSentence(plan)}
          </Text>
        </>
      ),
    },
    { name: "Subscribers", cell: ({ subscribers }) => formatNumber(subscribers), numeric: true },
    { name: "Past due", cell: ({ past_due }) => formatNumber(past_due), numeric: true, from: "sm" },
    { name: "First kept", cell: ({ first_at }) => <Timestamp at={first_at} />, from: "md" },
    { name: "Last kept", cell: ({ last_at }) => <Timestamp at={last_at} />, from: "lg" },
  ];
}

function Withdraw({ details: { plan, version, subscribers } }: { details: PlanDetails }) {
  const [open, setOpen] = useState(false);
  return (
    <>
      <RoleButton needs="admin" blocked={plan.withdrawn ? "The plan is withdrawn already" : null} onClick={() => setOpen(true)}>
        Withdraw
      </RoleButton>
      {open && (
        <ReasonDialog
          texts={{
            title: `Withdraw ${plan.title}`,
            confirm: "Withdraw plan",
            danger: true,
            consequences: `The plan is no longer sold or listed. ${formatCount(subscribers, "subscriber")} keep their terms, and their subscriptions still renew. To sell it again, edit it in the configuration.`,
            done: `${plan.title} is withdrawn`,
          }}
          onClose={() => setOpen(false)}
          act={(reason) =>
            bodyOf(api.POST("/admin/plans/{name}/withdraw", { params: { path: { name: plan.name } }, body: { reason, version } }))
          }
        />
      )}
    </>
  );
}
