"""Engines that generate text, behind one protocol."""
