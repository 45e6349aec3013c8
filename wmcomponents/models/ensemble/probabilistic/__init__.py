"""An ensemble of probabilistic networks over numbers: PETS, MBPO, MOPO."""
