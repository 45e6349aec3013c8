"""AVID (Rigter et al., 2024): an adapter that takes actions, beside a frozen video model that knows none."""
