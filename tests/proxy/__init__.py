"""The agent through a real LiteLLM proxy."""
