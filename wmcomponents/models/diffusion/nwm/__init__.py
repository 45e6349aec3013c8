"""Navigation World Models (Bar et al., 2024): what stands before a robot after it has gone somewhere."""
