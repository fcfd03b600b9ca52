"""What a long session costs: ours next to a LangChain agent, billed by the same rules."""
