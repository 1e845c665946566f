import { Badge, NavLink, VisuallyHidden } from "@mantine/core";
import {
  IconActivityHeartbeat,
  IconAdjustments,
  IconAlertTriangle,
  IconBan,
  IconChartBar,
  IconCoins,
  IconCopy,
  IconCreditCard,
  IconGauge,
  IconHistory,
  IconKey,
  IconLayoutDashboard,
  IconRepeat,
  IconScale,
  IconShieldLock,
  IconUserCheck,
  IconUsers,
} from "@tabler/icons-react";
import { Link, useLocation } from "react-router";

import { useOpenAlerts } from "../api/openAlerts";

const PAGES = [
  { to: "/", label: "Overview", icon: IconLayoutDashboard },
  { to: "/users", label: "Users", icon: IconUsers },
  { to: "/purchases", label: "Purchases", icon: IconCreditCard },
  { to: "/subscriptions", label: "Subscriptions", icon: IconRepeat },
  { to: "/alerts", label: "Alerts", icon: IconAlertTriangle },
  { to: "/approvals", label: "Approvals", icon: IconUserCheck },
  { to: "/refusals", label: "Refused requests", icon: IconBan },
  { to: "/double-charges", label: "Double charges", icon: IconCopy },
  { to: "/api-keys", label: "API keys", icon: IconKey },
  { to: "/analytics", label: "Analytics", icon: IconChartBar },
  { to: "/usage", label: "Usage", icon: IconGauge },
  { to: "/price-books", label: "Price books", icon: IconCoins },
  { to: "/margins", label: "Margins", icon: IconScale },
  { to: "/configuration", label: "Configuration", icon: IconAdjustments },
  { to: "/audit", label: "Audit log", icon: IconHistory },
  { to: "/system", label: "System", icon: IconActivityHeartbeat },
  { to: "/admins", label: "Admins", icon: IconShieldLock },
];

export function Navigation({ onNavigate }: { onNavigate: () => void }) {
  const { pathname } = useLocation();
  return (
    <nav aria-label="Main">
      {PAGES.map(({ to, label, icon: Icon }) => {
        const active = pathname === to || pathname.startsWith(`${to}/`);
        return (
          <NavLink
            key={to}
            component={Link}
            to={to}
            label={label}
            active={active}
            aria-current={active ? "page" : undefined}
            onClick={onNavigate}
            leftSection={<Icon size={18} stroke={1.6} aria-hidden />}
            rightSection={to === "/alerts" && <OpenAlerts />}
            style={{ borderRadius: "var(--mantine-radius-md)" }}
          />
        );
      })}
    </nav>
  );
}

/** The number of open alerts; hidden when it is 0 or unknown. */
function OpenAlerts() {
  const { data: open = 0 } = useOpenAlerts();
  if (open === 0) return null;
  return (
    <Badge color="red.8" variant="filled" size="sm" circle={open < 10}>
      {open > 99 ? "99+" : open}
      <VisuallyHidden> open</VisuallyHidden>
    </Badge>
  );
}
