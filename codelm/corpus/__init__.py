"""From source files to a clean, deduplicated corpus."""
