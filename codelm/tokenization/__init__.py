"""Byte-level BPE and the packing of documents into training sequences."""
