"""Untrusted programs run here and nowhere else; `judge.py` says what holds them and what does not."""
