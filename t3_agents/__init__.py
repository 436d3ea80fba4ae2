"""Turn a vision-language model into an agent that uses tools."""
