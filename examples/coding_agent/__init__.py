"""A coding agent: a task in, a patch and its test result out.

`python -m agentmesh.examples.coding_agent` repairs a small broken repository offline, with
stand-ins for models that are made of rules; `--repo` and `--task` name any other.
"""
