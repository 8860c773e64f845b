"""The completion endpoint: OpenAI's completions API on Ray Serve, in front of `codelm.inference`."""
