"""`make bench`: requests per second and latency of the hot paths, beside their ceilings, in one run."""
