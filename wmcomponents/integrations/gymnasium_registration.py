"""Registers ``wmcomponents/Dream-v0`` with Gymnasium; loaded through the entry-point group ``gymnasium.envs``."""


def register() -> None:
    """Register the dream environment, once.

    After it ``gymnasium.make("wmcomponents/Dream-v0", model=PATH)`` and ``gymnasium.make_vec`` build dreams of a saved
    model. Importing this module registers nothing, and registering imports no environment.
    """
    import gymnasium

    if "wmcomponents/Dream-v0" not in gymnasium.registry:
        gymnasium.register(
            "wmcomponents/Dream-v0",
            entry_point="wmcomponents.integrations.gymnasium:DreamEnv",
            vector_entry_point="wmcomponents.integrations.gymnasium:DreamVectorEnv",
        )
