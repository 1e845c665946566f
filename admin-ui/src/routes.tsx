import type { ComponentType } from "react";
import { createBrowserRouter } from "react-router";

import { noAnswer } from "./api/client";
import { RouteError } from "./shell/RouteError";
import { SessionGate } from "./shell/SessionGate";

/** The page, once its part of the code is here. Rejects when a server that hangs does not send it. */
async function page(load: Promise<ComponentType>): Promise<{ Component: ComponentType }> {
  return { Component: await Promise.race([load, noAnswer()]) };
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
            { index: true, lazy: () => page(import("./pages/overview/OverviewPage").then(({ OverviewPage }) => OverviewPage)) },
            { path: "users", lazy: () => page(import("./pages/users/UsersPage").then(({ UsersPage }) => UsersPage)) },
            { path: "users/:accountId", lazy: () => page(import("./pages/users/UserPage").then(({ UserPage }) => UserPage)) },
            { path: "purchases", lazy: () => page(import("./pages/purchases/PurchasesPage").then(({ PurchasesPage }) => PurchasesPage)) },
            { path: "purchases/:purchaseId", lazy: () => page(import("./pages/purchases/PurchasePage").then(({ PurchasePage }) => PurchasePage)) },
            { path: "alerts", lazy: () => page(import("./pages/alerts/AlertsPage").then(({ AlertsPage }) => AlertsPage)) },
            { path: "alerts/:alertId", lazy: () => page(import("./pages/alerts/AlertPage").then(({ AlertPage }) => AlertPage)) },
            { path: "api-keys", lazy: () => page(import("./pages/keys/KeysPage").then(({ KeysPage }) => KeysPage)) },
            { path: "analytics", lazy: () => page(import("./pages/analytics/AnalyticsPage").then(({ AnalyticsPage }) => AnalyticsPage)) },
            { path: "margins", lazy: () => page(import("./pages/margins/MarginsPage").then(({ MarginsPage }) => MarginsPage)) },
            { path: "configuration", lazy: () => page(import("./pages/configuration/ConfigurationPage").then(({ ConfigurationPage }) => ConfigurationPage)) },
            { path: "audit", lazy: () => page(import("./pages/audit/AuditPage").then(({ AuditPage }) => AuditPage)) },
            { path: "admins", lazy: () => page(import("./pages/admins/AdminsPage").then(({ AdminsPage }) => AdminsPage)) },
            { path: "system", lazy: () => page(import("./pages/system/SystemPage").then(({ SystemPage }) => SystemPage)) },
            { path: "*", element: <RouteError missing /> },
          ],
        },
      ],
    },
  ],
  { basename: "/admin-ui" },
);
