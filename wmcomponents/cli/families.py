"""The families and their presets by name: what a mistyped one is compared with before anything heavy is imported."""

PRESETS: dict[str, tuple[str, ...]] = {
    "AVID": ("tiny", "procgen22m", "procgen71m"),
    "CausVid": ("tiny", "video"),
    "DINOWM": ("tiny", "official"),
    "DeltaIRIS": ("tiny", "pong", "atari", "crafter"),
    "Diamond": ("tiny", "pong", "atari", "csgo", "gamengen"),
    "DiffusionForcing": ("tiny", "video"),
    "DreamerV1": ("tiny", "official", "discrete"),
    "DreamerV2": ("tiny", "atari", "crafter", "dmc_vision", "dmc_proprio"),
    "DreamerV3": ("tiny", "size1m", "size12m", "size25m", "size50m", "size100m", "size200m", "size400m"),
    "DreamerV3Preprint": ("tiny", "xs", "s", "m", "l", "xl"),
    "EfficientZero": ("tiny", "atari", "state"),
    "GAIA1": ("tiny", "paper"),
    "Genie": (
        "tiny",
        "coinrun",
        "dynamics41m",
        "dynamics96m",
        "dynamics192m",
        "dynamics404m",
        "dynamics811m",
        "dynamics1600m",
        "dynamics2700m",
        "platformers",
    ),
    "GenieRedux": ("tiny", "coinrun"),
    "GenieReduxG": ("tiny", "coinrun", "autoexplore"),
    "IRIS": ("tiny", "pong", "atari"),
    "JEPA": ("tiny", "two_rooms"),
    "JEPAWM": ("tiny", "simulation", "robot"),
    "LWM": ("tiny", "size200m", "size1b", "size3b", "size7b", "size13b"),
    "LeWM": ("tiny", "official"),
    "MuZero": ("tiny", "atari", "cartpole", "board_game"),
    "NWM": ("tiny", "cdit_s", "cdit_b", "cdit_l", "cdit_xl"),
    "Oasis": ("tiny", "oasis_500m"),
    "OpenSora": ("tiny", "tiny_two_streams", "open_sora_1_2", "open_sora_2_0"),
    "PLDM": ("tiny", "official"),
    "PlaNet": ("tiny", "official"),
    "ProbabilisticEnsemble": ("tiny", "mbpo", "pets"),
    "STORM": ("tiny", "atari"),
    "TDMPC2": ("tiny", "size1", "size5", "size19", "size48", "size317"),
    "VJEPA2AC": ("tiny", "official"),
    "WorldModels": ("tiny", "carracing", "doom"),
}
"""Presets of each family, as :func:`wmcomponents.models.presets` gives them; a test compares the two."""

PRETRAINING: dict[str, tuple[str, ...]] = {
    "IJEPA": ("tiny", "huge", "huge448", "giant"),
    "MAE": ("tiny", "base", "large", "huge"),
    "VJEPA": ("tiny", "large", "huge", "second_large", "second_huge", "second_giant"),
}
"""The same of what pretrains an encoder and is no world model."""
