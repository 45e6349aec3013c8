"""Terms against collapse, exchangeable: of two views, and of sequences of embeddings."""
