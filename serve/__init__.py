"""The Ray Serve application: an OpenAI-compatible completion endpoint."""
