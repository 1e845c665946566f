import { NavLink } from "@mantine/core";
import {
  IconActivityHeartbeat,
  IconAdjustments,
  IconChartBar,
  IconCreditCard,
  IconHistory,
  IconKey,
  IconLayoutDashboard,
  IconScale,
  IconShieldLock,
  IconUsers,
} from "@tabler/icons-react";
import { Link, useLocation } from "react-router";

const PAGES = [
  { to: "/", label: "Overview", icon: IconLayoutDashboard },
  { to: "/users", label: "Users", icon: IconUsers },
  { to: "/purchases", label: "Purchases", icon: IconCreditCard },
  { to: "/api-keys", label: "API keys", icon: IconKey },
  { to: "/analytics", label: "Analytics", icon: IconChartBar },
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
            style={{ borderRadius: "var(--mantine-radius-md)" }}
          />
        );
      })}
    </nav>
  );
}
