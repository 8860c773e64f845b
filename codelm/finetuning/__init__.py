"""Prompts and solutions: read, encoded with the loss on solutions alone, and packed."""
