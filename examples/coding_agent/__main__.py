"""`python -m agentmesh.examples.coding_agent`."""

from agentmesh.examples.coding_agent.main import main

if __name__ == "__main__":
    main()
