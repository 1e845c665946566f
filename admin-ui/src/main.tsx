import "@mantine/core/styles.css";
import "@mantine/notifications/styles.css";
import "@mantine/spotlight/styles.css";
import "./app.css";

import { MantineProvider } from "@mantine/core";
import { Notifications } from "@mantine/notifications";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { RouterProvider } from "react-router";

import { setCsrfToken, whenForbidden, whenSignedOut } from "./api/client";
import { isRetryable } from "./api/errors";
import { SESSION } from "./api/session";
import { router } from "./routes";
import { readableColors, theme } from "./theme";

const RELOADED = "reloaded";
// Send requests while offline, too: otherwise a click is queued silently and takes effect when the network returns.
const networkMode = "always";
const queries = new QueryClient({
  defaultOptions: {
    queries: { networkMode, staleTime: 10_000, retry: (failures, error) => failures < 2 && isRetryable(error) },
    mutations: { networkMode, retry: false },
  },
});
whenSignedOut(() => {
  setCsrfToken(null);
  queries.setQueryData(SESSION, null);
});
// The role may have changed: reload the session, so that the page disables actions that the role no longer permits.
whenForbidden(() => void queries.invalidateQueries({ queryKey: SESSION }));

// A chunk of the previous version is missing after a deployment: reload the page, at most once in 10 seconds.
window.addEventListener("vite:preloadError", (event) => {
  const last = Number(sessionStorage.getItem(RELOADED) ?? 0);
  if (Date.now() - last < 10_000) return;
  sessionStorage.setItem(RELOADED, String(Date.now()));
  event.preventDefault();
  window.location.reload();
});

const root = document.getElementById("root");
if (root === null) throw new Error("the page has no #root");
createRoot(root).render(
  <StrictMode>
    <MantineProvider theme={theme} cssVariablesResolver={readableColors} defaultColorScheme="auto">
      <QueryClientProvider client={queries}>
        <Notifications position="bottom-right" />
        <RouterProvider router={router} />
      </QueryClientProvider>
    </MantineProvider>
  </StrictMode>,
);
