"""Several nodes on one machine without Docker: ``scripts/cluster``. The tests start theirs from the same parts."""
