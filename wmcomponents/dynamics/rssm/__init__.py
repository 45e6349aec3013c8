"""The recurrent state-space model and its parts."""
