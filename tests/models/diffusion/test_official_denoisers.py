"""Published networks of diffusion read from files."""

import pytest
import torch

from tests.support.golden_vectors import load
from wmcomponents.models.official import DENOISERS, load_official_denoiser
from wmcomponents.pretrained import BadModelError

FILES = {
    "dit": ("dit_tiny", {"heads": 4}),
    "nwm": ("cdit_tiny", {"heads": 4}),
    "oasis": ("oasis_dit_tiny", {"latent": (4, 6), "frames": 4}),
    "oasis-autoencoder": ("oasis_vit_vae_tiny", {"image_size": (8, 12), "heads": (2, 2)}),
    "open-sora-1.2": ("opensora12_stdit3_tiny", {}),
    "open-sora-2.0": ("opensora2_mmdit_tiny", {"shares": (4, 6, 6)}),
}


@pytest.mark.parametrize("name", DENOISERS)
def test_a_file_is_read_by_its_name_without_a_trace_in_the_process(name, tmp_path):
    vector, details = FILES[name]
    _, tensors = load(vector)
    torch.save({key[2:]: value for key, value in tensors.items() if key.startswith("w/")}, tmp_path / "net.pt")
    before = torch.random.get_rng_state()
    net = load_official_denoiser(name, tmp_path / "net.pt", **details)
    assert not net.training and torch.equal(torch.random.get_rng_state(), before)
    with pytest.raises(TypeError):
        load_official_denoiser(name, tmp_path / "net.pt", depth=3)
    with pytest.raises(BadModelError, match="is not a network of"):
        load_official_denoiser("dit" if name != "dit" else "nwm", tmp_path / "net.pt")


def test_an_unknown_name_is_refused():
    with pytest.raises(BadModelError, match="known here are dit, nwm, oasis"):
        load_official_denoiser("sora", "nothing.pt")
