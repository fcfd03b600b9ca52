"""Complete programs built with AgentMesh; each runs offline."""
