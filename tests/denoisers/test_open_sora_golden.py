"""Open-Sora's networks against the numbers of their authors' code."""

import torch

from tests.support.golden_features import close
from tests.support.golden_vectors import load as load_vector
from wmcomponents.denoisers import MMDiT
from wmcomponents.denoisers.mmdit import packed, unpacked
from wmcomponents.models.diffusion.official_open_sora import mmdit_from_official, stdit3_from_official
from wmcomponents.nn import UnevenAxialRoPE, cosine_sine


def load(name):
    info, tensors = load_vector(name)
    return info, tensors, {key[2:]: value for key, value in tensors.items() if key.startswith("w/")}


def film(x):
    """``[B, C, T, H, W]``, as the code has films, as ours."""
    return x.transpose(1, 2)


@torch.no_grad()
def test_stdit3_is_its_own_with_known_frames_too():
    info, tensors, weights = load("opensora12_stdit3_tiny")
    net = stdit3_from_official(weights)
    size = torch.stack([tensors["in/height"], tensors["in/width"]], -1)
    text = tensors["in/y"].squeeze(1)
    told = film(tensors["in/x"]), tensors["in/timestep"], text, tensors["in/fps"], size, tensors["in/text_mask"]
    close(info, film(net(*told)), tensors["out/y"])
    close(info, film(net(*told, tensors["in/x_mask"] == 0)), tensors["out/y_with_x_mask"])


@torch.no_grad()
def test_the_two_stream_transformer_is_its_own():
    info, tensors, weights = load("opensora2_mmdit_tiny")
    net = mmdit_from_official(weights, shares=info["config"]["axes_dim"])
    x = film(tensors["in/z_latent"])
    close(info, packed(x, 2), tensors["out/packed_img"])
    assert torch.equal(unpacked(packed(x, 2), (3, 2, 3), 2), x)
    close(info, cosine_sine(1000 * tensors["in/timesteps"], 256), tensors["out/timestep_embedding"])
    given = unpacked(tensors["in/cond"], (3, 2, 3), 2)
    y = net(x, tensors["in/timesteps"], tensors["in/txt"], tensors["in/y_vec"], given)
    close(info, packed(y, 2), tensors["out/pred"])
    place = torch.cat([tensors["out/txt_ids"], tensors["out/img_ids"]], 1)
    turned = UnevenAxialRoPE((4, 6, 6))(torch.eye(16)[:, None, None, None].expand(-1, 2, 1, 23, -1), place)
    table = tensors["out/rope_table"]  # (B, 1, N, pairs, 2, 2)
    ours = turned[..., ::2].movedim(0, -1)[..., ::2]
    close(info, ours.diagonal(dim1=-2, dim2=-1), table[..., 0, 0])


def split(weights):
    """The same network as the published file has it: queries, keys and values apart, pairs half a head apart."""
    found = {}
    order = torch.cat([torch.arange(0, 16, 2), torch.arange(1, 16, 2)])

    def halves(value):
        return value.unflatten(0, (-1, 16))[:, order].flatten(0, 1)

    for key, value in weights.items():
        if ".qkv." in key:
            q, k, v = value.chunk(3)
            found |= {key.replace("qkv", f"{n}_proj"): y for n, y in (("q", halves(q)), ("k", halves(k)), ("v", v))}
        elif ".linear1." in key:
            q, k, v = value.split([32, 32, 96])
            names = zip(("q_proj", "k_proj", "v_mlp"), (halves(q), halves(k), v), strict=True)
            found |= {key.replace("linear1", name): y for name, y in names}
        else:
            found[key] = halves(value) if "_norm.scale" in key else value
    return found


@torch.no_grad()
def test_files_with_queries_keys_and_values_apart_are_the_same_network():
    info, tensors, weights = load("opensora2_mmdit_tiny")
    one, other = (mmdit_from_official(w, shares=info["config"]["axes_dim"]) for w in (weights, split(weights)))
    assert isinstance(other, MMDiT)
    for key, value in one.state_dict().items():
        assert torch.equal(other.state_dict()[key], value), key


@torch.no_grad()
def test_image_to_video_sampling_is_its_own():
    info, tensors, weights = load("opensora2_i2v_denoise")
    net = mmdit_from_official(weights, shares=info["config"]["model"]["axes_dim"])
    cond = film(torch.cat([tensors["in/masks"], tensors["in/masked_ref"]], 1))
    given = torch.cat([cond, cond, torch.zeros_like(cond)])
    times = tensors["in/timesteps"].tolist()
    for key in ("plain", "osci"):
        x = film(tensors["in/z"])
        for step, (now, after) in enumerate(zip(times, times[1:], strict=False)):
            three = x.expand(3, *x.shape[1:])
            out = net(three, torch.full((3,), now), tensors["in/txt"], tensors["in/y_vec"], given)
            both, image, neither = out.chunk(3)
            scale = info["config"]["guidance_img"]
            if key == "osci":  # less with every step, more with every frame
                last = torch.linspace(scale, 1.0, len(times))[step]
                scale = torch.linspace(1.0, float(last), x.shape[1]).view(-1, 1, 1, 1)
            x = x + (after - now) * (neither + scale * (image - neither) + info["config"]["guidance"] * (both - image))
        close(info, packed(x, 2), tensors[f"out/{key}"])
