"""The clauses of the world-model protocol, one file a rule."""
