"""The protocols that editors and clients speak, a module each."""
