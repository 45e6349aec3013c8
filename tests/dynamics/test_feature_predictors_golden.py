"""Predictors of features under actions: the numbers of their authors' own codes."""

import torch

from tests.support.golden_features import close, load
from wmcomponents.decoders import FeatureDecoder
from wmcomponents.dynamics import (
    AdaptiveFramePredictor,
    AsTokens,
    DINOWMPredictor,
    LeWMPredictor,
    VJEPA2ACPredictor,
)
from wmcomponents.functional import (
    block_causal_mask,
    feature_distances,
    growing_frame_cost,
    last_frame_cost,
    pose_after,
    pose_difference,
)
from wmcomponents.models.joint_embedding.official_predictors import (
    ADAPTIVE_RULES,
    DINO_WM_RULES,
    FRAME_CAUSAL_RULES,
    LEWM_RULES,
    VJEPA2_AC_RULES,
    feature_decoder_rules,
)
from wmcomponents.nn import FrameCausalTransformer, frame_causal_mask
from wmcomponents.objectives import feature_rollout
from wmcomponents.pretrained import load_mapped


def test_dino_wms_transformer_is_its_own_for_windows_of_any_length():
    info, tensors, weights = load("dinowm_vit_predictor")
    net = FrameCausalTransformer(3, 9, 28, depth=2, heads=4, head_dim=8, hidden=64)
    load_mapped(net, weights, FRAME_CAUSAL_RULES)
    x = tensors["in.x"].unflatten(1, (3, 9))
    close(info, net(x).flatten(1, 2), tensors["out.y"])
    close(info, net(x[:, :2]).flatten(1, 2), tensors["out.y_first2frames"])
    seen = frame_causal_mask(3, 9, 3, x.device) == 0
    assert torch.equal(seen.float(), tensors["out.mask"][0, 0])


def test_dino_wm_with_extra_tokens_predicts_and_rolls_out_as_its_own():
    info, tensors, weights = load("dinowm_world_model_concat0")
    net = DINOWMPredictor(9, 16, 4, 10, embedded=16, joining=AsTokens, depth=2, heads=4, head_dim=8, hidden=64)
    load_mapped(net, weights, DINO_WM_RULES).eval()
    frames = tensors["in.visual"]
    patches = torch.nn.functional.conv2d(
        frames.flatten(0, 1), weights["encoder.proj.weight"], weights["encoder.proj.bias"], stride=4
    )
    embed = patches.flatten(2).mT.unflatten(0, (2, 4))
    proprio, action = tensors["in.proprio"], tensors["in.action"]
    tokens = net.tokens(embed, proprio, action)
    close(info, tokens, tensors["out.z"])
    predicted = net.transformer(tokens[:, :3])
    close(info, predicted, tensors["out.z_pred"])
    visual, beside = net.compute(embed[:, :3], proprio[:, :3], action[:, :3])
    close(info, visual, tensors["out.z_pred"][:, :, :9])
    close(info, beside, tensors["out.z_pred"][:, :, 9])
    target = tokens[:, 1:].detach()
    loss = (net.joining.predicted(predicted) - net.joining.predicted(target)).square().mean()
    close(info, loss, tensors["out.loss"])
    now, then = net.joining.part(predicted), net.joining.part(target)
    close(info, (now.visual - then.visual).square().mean(), tensors["out.z_visual_loss"])
    close(info, (now.proprio - then.proprio).square().mean(), tensors["out.z_proprio_loss"])
    loss.backward()
    for part in ("action", "proprio"):
        weight = getattr(net, f"{part}_encoder").weight
        close(info, weight.grad.unsqueeze(-1), tensors[f"grad.{part}_encoder.patch_embed.weight"])
    rolled = net.rollout(embed[:, :1], proprio[:, :1], tensors["in.plan"])
    parts = net.joining.part(rolled)
    close(info, rolled, tensors["out.rollout_z"])
    close(info, parts.visual, tensors["out.rollout_visual"])
    close(info, parts.proprio, tensors["out.rollout_proprio"])
    goal = net.joining.part(tokens[:, -1:])
    near = feature_distances(parts.visual, goal.visual)
    beside = feature_distances(parts.proprio.unsqueeze(-2), goal.proprio.unsqueeze(-2))
    close(info, last_frame_cost(near), tensors["out.obj_last_alpha0"])
    close(info, last_frame_cost(near + 0.5 * beside), tensors["out.obj_last_alpha0.5"])
    close(info, growing_frame_cost(near + 0.5 * beside, 2.0), tensors["out.obj_all_alpha0.5_base2"])


def test_jepa_wms_predictor_is_its_own():
    info, tensors, weights = load("jepa_wm_adaln_predictor")
    net = AdaptiveFramePredictor((4, 4), 24, 10, proprio=12, width=36, depth=2, heads=2)
    load_mapped(net, weights, ADAPTIVE_RULES)
    embed, proprio = tensors["in.x"].flatten(2, 4), tensors["in.proprio_emb"][:, :, 0]
    predicted, beside = net.compute(embed, tensors["in.actions"], proprio)
    close(info, predicted, tensors["out.y"])
    close(info, beside, tensors["out.proprio"])
    close(info, net.compute(embed[:, :1], tensors["in.actions"][:, :1], proprio[:, :1])[0], tensors["out.y_T1"])


def test_leworldmodels_predictor_is_its_own():
    info, tensors, weights = load("lewm_predictor")
    net = LeWMPredictor(24, 10, depth=2, heads=4, head_dim=8, hidden=32, projection=48, dropout=0.0)
    load_mapped(net, weights, LEWM_RULES, keeps=[r"projection\.net\.1\.(running_.+|num_.+)"])
    embed, action = tensors["in.emb"], net.action_encoder(tensors["in.action"])
    close(info, action, tensors["out.act_emb"])
    hidden = net.hidden(embed, action)
    close(info, hidden, tensors["out.pred"])
    close(info, net.hidden(embed[:, :1], action[:, :1]), tensors["out.pred_T1"])
    close(info, net.train().compute(embed, tensors["in.action"]).flatten(0, 1), tensors["out.pred_proj_train"])
    close(info, net.projection.net[1].running_mean, tensors["out.bn_running_mean_after"])
    close(info, net.eval().compute(embed, tensors["in.action"]).flatten(0, 1), tensors["out.pred_proj_eval_after"])


def v_jepa_2_ac(weights) -> VJEPA2ACPredictor:
    net = VJEPA2ACPredictor((4, 4), 40, frames=4, width=56, depth=2, heads=2)
    return load_mapped(net, weights, VJEPA2_AC_RULES)


def test_v_jepa_2_acs_predictor_is_its_own():
    info, tensors, weights = load("vjepa2_ac_predictor")
    net, embed = v_jepa_2_ac(weights), tensors["in.z"].unflatten(1, (3, 16))
    action, pose = tensors["in.actions"], tensors["in.states"]
    close(info, net.compute(embed, action, pose).flatten(1, 2), tensors["out.pred"])
    close(info, net.compute(embed[:, :1], action[:, :1], pose[:, :1]).flatten(1, 2), tensors["out.pred_T1"])


def test_v_jepa_2_acs_predictor_reads_where_the_camera_is():
    info, tensors, weights = load("vjepa2_ac_predictor_extrinsics")
    net, embed = v_jepa_2_ac(weights), tensors["in.z"].unflatten(1, (3, 16))
    predicted = net.compute(embed, tensors["in.actions"], tensors["in.states"], tensors["in.extrinsics"])
    close(info, predicted.flatten(1, 2), tensors["out.pred"])


def test_v_jepa_2_acs_losses_are_its_own_with_their_gradient():
    info, tensors, weights = load("vjepa2_ac_loss_auto2")
    net, features = v_jepa_2_ac(weights), tensors["in.h"].unflatten(1, (4, 16))

    def predict(window: torch.Tensor) -> torch.Tensor:
        frames = window.shape[1]
        predicted = net.compute(window, tensors["in.actions"][:, :frames], tensors["in.states"][:, :frames])
        return torch.nn.functional.layer_norm(predicted, (40,))

    out = feature_rollout(predict, features, steps=info["config"]["auto_steps"])
    close(info, out.teacher_forced.flatten(1, 2), tensors["out.z_tf"])
    close(info, out.rolled_out.flatten(1, 2), tensors["out.z_ar"])
    forced = (out.teacher_forced - features[:, 1:]).abs().mean()
    rolled = (out.rolled_out - features[:, 1:3]).abs().mean()
    close(info, forced, tensors["out.loss_teacher"])
    close(info, rolled, tensors["out.loss_rollout"])
    (forced + rolled).backward()
    close(info, net.action_encoder.weight.grad, tensors["grad.action_encoder.weight"])
    close(info, net.blocks[1].mlp[3].weight.grad, tensors["grad.predictor_blocks.1.mlp.fc2.weight"])


def test_dino_wms_decoder_is_its_own():
    info, tensors, weights = load("dinowm_decoder")
    net = FeatureDecoder((3, 3), 16, channels=8, blocks=1, block_channels=4)
    load_mapped(net, weights, feature_decoder_rules(1))
    image = net.compute(tensors["in.z"])
    close(info, image.flatten(0, 1).movedim(-1, 1), tensors["out.image"])


def test_v_jepa_2_acs_mask_is_its_own():
    _, tensors = load("vjepa2_ac_causal_mask")[:2]
    assert torch.equal(block_causal_mask(18, 2 * 2 + 2), tensors["out.mask_T3_H2_W2_add2"])
    assert torch.equal(block_causal_mask(10, 2 * 1 + 3), tensors["out.mask_T2_H2_W1_add3"])


def test_v_jepa_2_acs_pose_arithmetic_is_its_own():
    info, tensors, _ = load("vjepa2_ac_pose")
    pose, action = tensors["in.pose"], tensors["in.action"]
    close(info, pose_after(pose, action), tensors["out.new_pose"])
    close(info, pose_difference(pose[:, 0], action[:, 0]), tensors["out.diff_pose_to_action_pose"])
