import { keepPreviousData, useQuery } from "@tanstack/react-query";

import { useRange, type Reported } from "./useRange";

interface Report<Data> {
  data: Data | undefined;
  /** The data are those of the previous range, until the new ones arrive. */
  busy: boolean;
  error: Error | null;
  onRetry: () => void;
}

/** Load a report for the days and the environment in the URL. */
export function useReport<Data>(
  key: string[],
  load: (query: Reported["query"], signal: AbortSignal) => Promise<Data>,
): Report<Data> {
  const { query } = useRange();
  const { data, error, refetch, isPlaceholderData } = useQuery({
    queryKey: [...key, query],
    queryFn: ({ signal }) => load(query, signal),
    placeholderData: keepPreviousData,
  });
  return { data, busy: isPlaceholderData, error, onRetry: () => void refetch() };
}
