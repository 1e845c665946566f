import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// Where `npm run dev` finds the API.
const api = process.env.API_URL ?? "http://127.0.0.1:8000";

// What the server sends with these pages; `npm run preview` does too, so that what breaks it is seen here.
// Mantine puts its colours and breakpoints into <style> elements as it runs: hence 'unsafe-inline', for styles only.
const CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self' 'unsafe-inline'",
  "img-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'self'",
  "frame-ancestors 'none'",
].join("; ");

export default defineConfig({
  base: "/admin-ui/",
  plugins: [react()],
  build: {
    // Everything is a file of its own: a data: URL would need an exception in the content security policy.
    assetsInlineLimit: 0,
    rollupOptions: {
      output: {
        manualChunks: {
          react: ["react", "react-dom", "react-router", "@tanstack/react-query"],
          mantine: ["@mantine/core", "@mantine/hooks", "@mantine/form", "@mantine/notifications"],
        },
      },
    },
  },
  server: {
    host: "127.0.0.1",
    // "/admin" alone would match this page's own "/admin-ui/" as well.
    proxy: { "^/admin/": api, "^/v1/": api },
  },
  preview: {
    host: "127.0.0.1",
    proxy: { "^/admin/": api, "^/v1/": api },
    headers: { "Content-Security-Policy": CONTENT_SECURITY_POLICY },
  },
});
