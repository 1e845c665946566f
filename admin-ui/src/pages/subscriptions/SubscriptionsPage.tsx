import { Page } from "../../components/Page";
import { UrlTabs } from "../../components/UrlTabs";
import { PlansTab } from "../plans/PlansTab";
import { FailedPayments } from "./FailedPayments";
import { FiguresTab } from "./FiguresTab";
import { SubscriptionList } from "./SubscriptionList";

type Tab = "subscribers" | "failed" | "plans" | "figures";

const TABS: Record<Tab, string> = { subscribers: "Subscribers", failed: "Failed payments", plans: "Plans", figures: "Figures" };

export function SubscriptionsPage() {
  return (
    <Page title="Subscriptions" subtitle="Subscriptions of all users by Stripe’s facts, their plans and their payments.">
      <UrlTabs<Tab>
        param="tab"
        label="Subscriptions"
        tabs={TABS}
        first="subscribers"
        content={{ subscribers: <SubscriptionList />, failed: <FailedPayments />, plans: <PlansTab />, figures: <FiguresTab /> }}
      />
    </Page>
  );
}
