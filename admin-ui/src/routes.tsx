import { createBrowserRouter } from "react-router";

import { RouteError } from "./shell/RouteError";
import { SessionGate } from "./shell/SessionGate";

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
            { index: true, lazy: async () => ({ Component: (await import("./pages/overview/OverviewPage")).OverviewPage }) },
            { path: "users", lazy: async () => ({ Component: (await import("./pages/users/UsersPage")).UsersPage }) },
            {
              path: "users/:accountId",
              lazy: async () => ({ Component: (await import("./pages/users/UserPage")).UserPage }),
            },
            {
              path: "purchases",
              lazy: async () => ({ Component: (await import("./pages/purchases/PurchasesPage")).PurchasesPage }),
            },
            {
              path: "purchases/:purchaseId",
              lazy: async () => ({ Component: (await import("./pages/purchases/PurchasePage")).PurchasePage }),
            },
            { path: "alerts", lazy: async () => ({ Component: (await import("./pages/alerts/AlertsPage")).AlertsPage }) },
            {
              path: "alerts/:alertId",
              lazy: async () => ({ Component: (await import("./pages/alerts/AlertPage")).AlertPage }),
            },
            { path: "api-keys", lazy: async () => ({ Component: (await import("./pages/keys/KeysPage")).KeysPage }) },
            {
              path: "analytics",
              lazy: async () => ({ Component: (await import("./pages/analytics/AnalyticsPage")).AnalyticsPage }),
            },
            {
              path: "margins",
              lazy: async () => ({ Component: (await import("./pages/margins/MarginsPage")).MarginsPage }),
            },
            {
              path: "configuration",
              lazy: async () => ({
                Component: (await import("./pages/configuration/ConfigurationPage")).ConfigurationPage,
              }),
            },
            { path: "audit", lazy: async () => ({ Component: (await import("./pages/audit/AuditPage")).AuditPage }) },
            { path: "admins", lazy: async () => ({ Component: (await import("./pages/admins/AdminsPage")).AdminsPage }) },
            { path: "system", lazy: async () => ({ Component: (await import("./pages/system/SystemPage")).SystemPage }) },
            { path: "*", element: <RouteError missing /> },
          ],
        },
      ],
    },
  ],
  { basename: "/admin-ui" },
);
