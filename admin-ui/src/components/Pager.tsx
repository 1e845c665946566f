import { Button, Group } from "@mantine/core";
import { IconChevronLeft, IconChevronRight } from "@tabler/icons-react";
import { useLocation, useNavigate, useSearchParams } from "react-router";

import { withCursor } from "../logic/filters";

interface Props {
  nextCursor: string | null | undefined;
  /** The first page, the one before, the next one. */
  words?: [string, string, string];
}

/** Turns the pages of a list whose cursor stands in the address. */
export function Pager({ nextCursor, words = ["Newest", "Newer", "Older"] }: Props) {
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
          {words[0]}
        </Button>
        {/* Cursors lead one way only: the way back is the browser's own. */}
        <Button
          variant="default"
          size="xs"
          disabled={turned === 0}
          leftSection={<IconChevronLeft size={14} aria-hidden />}
          onClick={() => void navigate(-1)}
        >
          {words[1]}
        </Button>
      </Group>
      <Button
        variant="default"
        size="xs"
        disabled={nextCursor === null || nextCursor === undefined}
        rightSection={<IconChevronRight size={14} aria-hidden />}
        onClick={() => turn(nextCursor ?? null, { turned: turned + 1 })}
      >
        {words[2]}
      </Button>
    </Group>
  );
}

function pagesTurned(state: unknown): number {
  return typeof state === "object" && state !== null && "turned" in state && typeof state.turned === "number"
    ? state.turned
    : 0;
}
