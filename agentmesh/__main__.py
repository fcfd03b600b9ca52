"""`python -m agentmesh`."""

from agentmesh.cli import main

if __name__ == "__main__":
    main()
