import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// The API to which `npm run dev` proxies requests.
const api = process.env.API_URL ?? "http://127.0.0.1:8000";

// The same policy as the server's. `npm run preview` sends it, so that violations show up during development.
// Mantine adds <style> elements at run time, which needs 'unsafe-inline' for styles.
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
    // Do not inline assets: data: URLs would need an exception in the content security policy.
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
