"""Masked pretraining: the numbers of the authors' own codes."""

import torch
from tensordict import TensorDict
from torch import nn

from tests.support import golden_vectors
from tests.support.golden_features import close, load, weights_of
from wmcomponents.functional import Masks, patchify, take_tokens
from wmcomponents.models import IJEPA, IJEPALoss, ijepa_from_official, vit_from_official, vjepa2_from_official
from wmcomponents.models.joint_embedding.mae.objective import hidden_patch_errors, patch_targets
from wmcomponents.nn import NormalizePixels


def i_jepa() -> tuple[dict, dict, IJEPA, nn.Module]:
    """The vector's description and tensors, the model with its weights, and the encoder's average."""
    info, tensors = golden_vectors.load("ijepa_train_step")
    parts = {"encoder": "enc", "target_encoder": "target", "predictor": "pred"}
    checkpoint = {
        name: {f"module.{key}": value for key, value in weights_of(tensors, f"w.{part}.").items()}
        for name, part in parts.items()
    }
    model = ijepa_from_official(checkpoint, heads=4)
    model.pixels = NormalizePixels((0.0,) * 3, (1 / 255,) * 3)  # the vector's images are normalised already
    return info, tensors, model, vit_from_official("ijepa", checkpoint, heads=4)


def test_i_jepas_step_is_its_own():
    info, tensors, model, average = i_jepa()
    masks = Masks(tensors["in.mask_enc_0"], torch.stack([tensors[f"in.mask_pred_{i}"] for i in range(4)], 1))
    loss = IJEPALoss(model)
    loss.target_world_model_params.get("encoder").flatten_keys(".").update_(
        {name: value.detach() for name, value in [*average.named_parameters(), *average.named_buffers()]}
    )
    pixels = tensors["in.x"].movedim(1, -1).unsqueeze(1)
    drawn = {name: index.unsqueeze(1) for name, index in masks._asdict().items()}
    out = loss(TensorDict({"pixels": pixels, "masks": {"0": drawn}}, [3, 1]))
    out["loss_prediction"].backward()
    weights = loss.world_model_params
    close(info, weights.get(("predictor", "mask_tokens")).grad, tensors["grad.pred.mask_token"][0])
    close(
        info,
        weights.get(("encoder", "patches", "proj", "weight")).grad,
        tensors["grad.enc.patch_embed.proj.weight"],
    )
    targets = IJEPA(average, model.predictor, (48, 48)).targets(tensors["in.x"])
    # The official order: the first set of all images, then the second.
    wanted = torch.cat([take_tokens(targets, masks.target[:, number]) for number in range(4)])
    close(info, wanted, tensors["out.target"])
    close(info, model.predictions(tensors["in.x"], masks).transpose(0, 1).flatten(0, 1), tensors["out.pred"])


def test_v_jepa_2s_predictor_is_its_own_with_each_mask_token():
    info, tensors, weights = load("vjepa2_predictor_rope")
    encoder = load("vjepa2_encoder_rope")[2]
    checkpoint = {"encoder": encoder, "predictor": {f"module.backbone.{key}": one for key, one in weights.items()}}
    sizes = {"clip_size": (4, 32, 32), "heads": 2, "predictor_heads": 2}
    net = vjepa2_from_official(checkpoint, **sizes).predictor
    for kind in (0, 1, 4):
        predicted = net(tensors["in.ctx"], tensors["in.mask_ctx"], tensors["in.mask_tgt"], kind)
        close(info, predicted, tensors[f"out.pred_idx{kind}"])


def test_maes_loss_is_over_hidden_patches_alone():
    info, tensors = golden_vectors.load("mae_masking_loss")
    patches = patchify(tensors["in.img"], info["config"]["patch"])
    hidden = tensors["out.mask"].nonzero()[:, 1].view(2, -1)
    for name, target in (("norm_pix", patch_targets(patches)), ("raw", patches)):
        close(info, hidden_patch_errors(tensors["in.pred"], target, hidden).mean(), tensors[f"out.loss_{name}"])
