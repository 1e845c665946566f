"""Import of open price data: two sources, read by exact model ids, compared, and merged into a proposal."""
