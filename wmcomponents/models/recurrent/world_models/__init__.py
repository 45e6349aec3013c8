"""World Models (Ha and Schmidhuber, 2018)."""
