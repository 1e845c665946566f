import { Button, Group } from "@mantine/core";
import { IconChevronLeft, IconChevronRight } from "@tabler/icons-react";
import { useLocation, useNavigate, useSearchParams } from "react-router";

import { withCursor } from "../logic/filters";

interface Props {
  nextCursor: string | null | undefined;
  /** Button labels for lists that are not ordered by time. */
  labels?: typeof BY_TIME;
}

const BY_TIME = { first: "Newest", back: "Newer", next: "Older" };
export const BY_PAGE: typeof BY_TIME = { first: "First", back: "Previous", next: "Next" };

/** Page navigation for a list whose cursor is in the URL. */
export function Pager({ nextCursor, labels = BY_TIME }: Props) {
  const [params, setParams] = useSearchParams();
  const navigate = useNavigate();
  const turned = pagesTurned(useLocation().state);
  const onLaterPage = params.has("cursor");
  if (!onLaterPage && (nextCursor === null || nextCursor === undefined)) return null;
  const turn = (cursor: string | null, state: { turned: number }) => {
    setParams((now) => withCursor(now, cursor), { state });
    window.scrollTo({ top: 0 });
  };
  return (
    <Group justify="space-between" component="nav" aria-label="Pages" mt="sm">
      <Group gap="xs">
        <Button variant="default" size="xs" disabled={!onLaterPage} onClick={() => turn(null, { turned: 0 })}>
          {labels.first}
        </Button>
        {/* Cursors only lead forward: going back uses the browser's history. */}
        <Button
          variant="default"
          size="xs"
          disabled={turned === 0}
          leftSection={<IconChevronLeft size={14} aria-hidden />}
          onClick={() => void navigate(-1)}
        >
          {labels.back}
        </Button>
      </Group>
      <Button
        variant="default"
        size="xs"
        disabled={nextCursor === null || nextCursor === undefined}
        rightSection={<IconChevronRight size={14} aria-hidden />}
        onClick={() => turn(nextCursor ?? null, { turned: turned + 1 })}
      >
        {labels.next}
      </Button>
    </Group>
  );
}

function pagesTurned(state: unknown): number {
  return typeof state === "object" && state !== null && "turned" in state && typeof state.turned === "number"
    ? state.turned
    : 0;
}
