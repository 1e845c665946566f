"""Live balance: event streams of an account's ledger entries, and the tickets that open them in browsers."""
