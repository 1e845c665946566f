"""Members of a request's scope for answers without an end, such as event streams."""

ABORT = "ciris_billing.abort"
"""A function that drops the connection at once, with all that the client has not read. Set for GET requests."""
IS_HEAD = "ciris_billing.is_head"
"""Whether the client asked by HEAD, so that no body is sent."""
