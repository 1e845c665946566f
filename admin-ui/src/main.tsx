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
// Without a network too: otherwise a click waits in silence, and is carried out whenever the network is back.
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
// The role may have been changed: then the page greys out what it no longer allows.
whenForbidden(() => void queries.invalidateQueries({ queryKey: SESSION }));

// Parts of a page are fetched when they are needed, and a new version has other ones: then the page is loaded anew, once.
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
