"""World models, one file a paper."""

MODELS: dict = {}
