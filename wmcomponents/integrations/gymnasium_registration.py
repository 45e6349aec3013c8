"""Registers ``wmcomponents/Dream-v0`` with Gymnasium when it is imported; nothing else in the library imports it.

So both work: ``import wmcomponents.integrations.gymnasium_registration`` followed by
``gymnasium.make("wmcomponents/Dream-v0", model=PATH)``, and in one string
``gymnasium.make("wmcomponents.integrations.gymnasium_registration:wmcomponents/Dream-v0", model=PATH)``.
"""


def register() -> None:
    """Register the dream environment, if it is not registered yet.

    After it ``gymnasium.make("wmcomponents/Dream-v0", model=PATH)`` and ``gymnasium.make_vec`` build dreams of a saved
    model.
    """
    import gymnasium

    if "wmcomponents/Dream-v0" not in gymnasium.registry:
        gymnasium.register(
            "wmcomponents/Dream-v0",
            entry_point="wmcomponents.integrations.gymnasium:DreamEnv",
            vector_entry_point="wmcomponents.integrations.gymnasium:DreamVectorEnv",
        )


register()
