"""How each library's kind of environment is played and what its own contract adds, one file a library."""
