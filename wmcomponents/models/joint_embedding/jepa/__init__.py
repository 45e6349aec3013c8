"""A joint-embedding world model with actions: encoder, predictor, terms against collapse."""
