"""AVID's U-Net over films and its adapter against the numbers of their authors' code."""

import torch
from torch.nn.functional import one_hot

from tests.support.golden_features import close
from tests.support.golden_vectors import load
from wmcomponents.denoisers import OutputAdapter, VideoUNet
from wmcomponents.models.diffusion.official_avid import adapter_rules, video_unet_rules
from wmcomponents.pretrained import load_mapped


def films(x):
    """``[B, C, T, H, W]``, as the code has films, as ours."""
    return x.transpose(1, 2)


@torch.no_grad()
def test_avids_base_adapter_and_mask_are_its_own():
    info, tensors = load("avid_pixel")
    weights = {key[2:]: value for key, value in tensors.items() if key.startswith("w/")}
    shape = {"width": 8, "mults": (1, 2), "heads": 2, "head_dim": 8}
    base = VideoUNet(3, 5, context=2, **shape)
    load_mapped(
        base, {k.removeprefix("model."): v for k, v in weights.items() if k.startswith("model.")}, video_unet_rules(2)
    )
    part = OutputAdapter.beside(3, 5, context=2, **shape)
    load_mapped(part, {k: v for k, v in weights.items() if not k.startswith("model.")}, adapter_rules(2))
    noisy, past = films(tensors["out/x_t"]), films(tensors["in/cond_frames"])
    level = tensors["in/t"].unsqueeze(1).expand(-1, 3)
    action = one_hot(tensors["in/act"], 5).float()
    of_base = base(noisy, level, past)
    close(info, films(of_base), tensors["out/base_output"])
    raw = part.network.output(torch.cat([noisy, of_base], 2), level, past, action)
    close(info, films(raw), tensors["out/adapter_output_raw"])
    output, mask = part(of_base, noisy, level, past, action)
    close(info, films(output), tensors["out/model_output"])
    close(info, films(mask), tensors["out/mask"])
