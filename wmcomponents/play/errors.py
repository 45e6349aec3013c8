"""What a player is told in place of a step."""


class PlayError(ValueError):
    """What was asked for cannot be done; nothing changed. The message is shown on the page."""
