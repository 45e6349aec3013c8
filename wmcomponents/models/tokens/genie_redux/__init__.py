"""GenieRedux and GenieRedux-G: Genie built anew for CoinRun, with latent actions and with given ones."""
