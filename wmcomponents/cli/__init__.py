"""The `wmc` command."""
