"""`python -m agentmesh.examples.customer_support "Where is my order?"`."""

from __future__ import annotations

import sys

from agentmesh.examples.customer_support.main import main

if __name__ == "__main__":
    sys.exit(main())
