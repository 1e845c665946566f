"""Prices: versioned price books, and the pure code that prices usage with one."""
