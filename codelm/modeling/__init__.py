"""Model shapes and their export in Hugging Face format."""
