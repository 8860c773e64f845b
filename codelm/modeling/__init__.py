"""Model shapes: from the config to an initialised Hugging Face model."""
