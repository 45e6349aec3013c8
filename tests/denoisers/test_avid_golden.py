"""AVID's U-Net over films and its adapter against the numbers of their authors' code."""

import torch
from torch.nn.functional import one_hot

from tests.support.golden_features import close
from tests.support.golden_vectors import load
from wmcomponents.denoisers import FilmUNet, OutputAdapter, beside_context
from wmcomponents.models.diffusion.official_avid import ADAPTER_RULES, FILM_UNET_RULES
from wmcomponents.pretrained import load_mapped


def films(x):
    """``[B, C, T, H, W]``, as the code has films, as ours."""
    return x.transpose(1, 2)


@torch.no_grad()
def test_avids_base_adapter_and_mask_are_its_own():
    info, tensors = load("avid_pixel")
    weights = {key[2:]: value for key, value in tensors.items() if key.startswith("w/")}
    shape = {"dim": 8, "multiples": (1, 2), "heads": 2, "head_dim": 8, "frames": 3}
    base = FilmUNet((9, 8, 8), 5, is_causal=False, relative=True, out_channels=3, **shape)
    of_model = {key.removeprefix("model."): value for key, value in weights.items() if key.startswith("model.")}
    load_mapped(base, of_model, FILM_UNET_RULES)
    part = OutputAdapter.beside((3, 8, 8), 5, context=2, **shape)
    load_mapped(part, {key: value for key, value in weights.items() if not key.startswith("model.")}, ADAPTER_RULES)
    noisy, past = films(tensors["out/x_t"]), films(tensors["in/cond_frames"])
    level = tensors["in/t"].unsqueeze(1).expand(-1, 3)
    action = one_hot(tensors["in/act"], 5).float()
    of_base = base(beside_context(noisy, past), level)
    close(info, films(of_base), tensors["out/base_output"])
    raw = part.network(torch.cat([beside_context(noisy, past), of_base], 2), level, action)
    close(info, films(raw), tensors["out/adapter_output_raw"])
    output, mask = part(of_base, noisy, level, past, action)
    close(info, films(output), tensors["out/model_output"])
    close(info, films(mask), tensors["out/mask"])
