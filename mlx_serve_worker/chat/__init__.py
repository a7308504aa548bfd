"""What a chat model needs around its layers: prompts, sampling, batching, and its words."""
