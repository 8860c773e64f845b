"""Runs untrusted programs in processes of their own."""
