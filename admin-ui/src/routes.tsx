import type { ComponentType } from "react";
import { createBrowserRouter } from "react-router";

import { requestTimeout } from "./api/client";
import { RouteError } from "./shell/RouteError";
import { SessionGate } from "./shell/SessionGate";

/** A lazily loaded page. Rejects when its chunk does not arrive within the time limit. */
function page<Name extends string>(name: Name, load: () => Promise<Record<Name, ComponentType>>) {
  return async () => ({ Component: (await Promise.race([load(), requestTimeout()]))[name] });
}

export const router = createBrowserRouter(
  [
    {
      element: <SessionGate />,
      errorElement: <RouteError />,
      hydrateFallbackElement: <></>,
      children: [
        {
          errorElement: <RouteError />,
          children: [
            { index: true, lazy: page("OverviewPage", () => import("./pages/overview/OverviewPage")) },
            { path: "users", lazy: page("UsersPage", () => import("./pages/users/UsersPage")) },
            { path: "users/spellings", lazy: page("SpellingsPage", () => import("./pages/users/SpellingsPage")) },
            { path: "users/:accountId", lazy: page("UserPage", () => import("./pages/users/UserPage")) },
            { path: "users/:accountId/runs/:runUuid", lazy: page("RunPage", () => import("./pages/users/RunPage")) },
            { path: "purchases", lazy: page("PurchasesPage", () => import("./pages/purchases/PurchasesPage")) },
            { path: "purchases/:purchaseId", lazy: page("PurchasePage", () => import("./pages/purchases/PurchasePage")) },
            { path: "subscriptions", lazy: page("SubscriptionsPage", () => import("./pages/subscriptions/SubscriptionsPage")) },
            { path: "subscriptions/plans/:name", lazy: page("PlanPage", () => import("./pages/plans/PlanPage")) },
            {
              path: "subscriptions/:accountId/:subscriptionId",
              lazy: page("SubscriptionPage", () => import("./pages/subscriptions/SubscriptionPage")),
            },
            { path: "alerts", lazy: page("AlertsPage", () => import("./pages/alerts/AlertsPage")) },
            { path: "alerts/:alertId", lazy: page("AlertPage", () => import("./pages/alerts/AlertPage")) },
            { path: "approvals", lazy: page("ApprovalsPage", () => import("./pages/approvals/ApprovalsPage")) },
            { path: "refusals", lazy: page("RefusalsPage", () => import("./pages/refusals/RefusalsPage")) },
            { path: "double-charges", lazy: page("DoubleChargesPage", () => import("./pages/doubles/DoubleChargesPage")) },
            { path: "api-keys", lazy: page("KeysPage", () => import("./pages/keys/KeysPage")) },
            { path: "analytics", lazy: page("AnalyticsPage", () => import("./pages/analytics/AnalyticsPage")) },
            { path: "usage", lazy: page("UsagePage", () => import("./pages/usage/UsagePage")) },
            { path: "usage/:accountId/:usageId", lazy: page("UsageEventPage", () => import("./pages/usage/UsageEventPage")) },
            { path: "price-books", lazy: page("PriceBooksPage", () => import("./pages/prices/PriceBooksPage")) },
            { path: "price-books/:version", lazy: page("PriceBookPage", () => import("./pages/prices/PriceBookPage")) },
            { path: "margins", lazy: page("MarginsPage", () => import("./pages/margins/MarginsPage")) },
            { path: "configuration", lazy: page("ConfigurationPage", () => import("./pages/configuration/ConfigurationPage")) },
            { path: "audit", lazy: page("AuditPage", () => import("./pages/audit/AuditPage")) },
            { path: "admins", lazy: page("AdminsPage", () => import("./pages/admins/AdminsPage")) },
            { path: "system", lazy: page("SystemPage", () => import("./pages/system/SystemPage")) },
            { path: "*", element: <RouteError missing /> },
          ],
        },
      ],
    },
  ],
  { basename: "/admin-ui" },
);
