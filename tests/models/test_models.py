"""What holds for every model: letters B clips, C channels, T frames, H W pixels, t h w tokens, s = h * w, D width."""

import importlib
import inspect
import pkgutil
from functools import partial

import pytest
import torch
from torch import nn

import tubelet.models
from tubelet.models.grid import Grid
from tubelet.models.mvit import MViT
from tubelet.models.timesformer import Alternating, Divided, JointSpaceTime, SpaceOnly
from tubelet.models.vivit import (
    FactorisedAttention,
    FactorisedDotProduct,
    FactorisedEncoder,
    FactorisedStaged,
    FrameMean,
    Joint,
)
from tubelet.models.vivit_compressed import Compressed, FewTokens, Tubelets
from tubelet.models.vivit_hierarchical import Hierarchical, Pool

# Tiny models of depth 2. All end with t x h x w = 3 x 2 x 5 tokens; some begin with more. Sizes differ from each other.
NUM_CLASSES, CROP, B, D, HEADS = 7, (8, 20), 4, 48, 6
STD = D**-0.5  # of random weights, with which activations keep their size

STAGES = dict(depths=(1, 1), q_strides=[(1, 1, 1), (1, 2, 2)], kv_strides=[(1, 2, 2), (1, 1, 1)])
STAGES |= dict(patch_kernel=(3, 3, 3), patch_stride=(2, 2, 2))
SHAPE = dict(dim=D, depth=2, heads=HEADS)
VIVIT = (
    *(Joint, FactorisedEncoder, FactorisedAttention, FactorisedStaged, FactorisedDotProduct, FrameMean),
    *(Tubelets, Compressed, FewTokens),
)
TIMESFORMER = (Divided, JointSpaceTime, SpaceOnly, Alternating)
TINY: dict[type, partial] = {
    **{model: partial(model, NUM_CLASSES, 6, CROP, tubelet=(2, 4, 4), **SHAPE) for model in VIVIT},
    Compressed: partial(Compressed, NUM_CLASSES, 12, CROP, tau=2, tubelet=(2, 4, 4), **SHAPE),
    FewTokens: partial(FewTokens, NUM_CLASSES, 6, CROP, regions=(2, 1), tubelet=(2, 4, 4), **SHAPE),
    Hierarchical: partial(
        *(Hierarchical, NUM_CLASSES, 12, CROP, (2, 2, 2), (D, 2 * D), (1, 1), (HEADS, 8)), windows=[(2, 2, 2)]
    ),
    **{model: partial(model, NUM_CLASSES, 3, CROP, tubelet=(1, 4, 4), **SHAPE) for model in TIMESFORMER},
    MViT: partial(MViT, NUM_CLASSES, 6, CROP, dim=D, heads=HEADS, **STAGES),
}
# What the logits cannot depend on, in published models too. A bias that all keys share changes no softmax. Of the last
# block only the class token is read, and it attends with a query that is neither pooled nor placed.
LAST = ("norm_k.bias", "pool_q.weight", "rel_pos_t", "rel_pos_h", "rel_pos_w")
UNREAD = {MViT: {"blocks.0.attn.norm_k.bias", *(f"blocks.1.attn.{name}" for name in LAST)}}
BLIND_TO_ORDER = {FrameMean, SpaceOnly}  # of tubelets
WITHOUT_POSITIONS = {MViT}  # those of MViTv2 are in its attention
NUM_FRAMES = {model: build.args[1] for model, build in TINY.items()}

every_model = pytest.mark.parametrize("model", TINY, ids=lambda model: f"{model.__module__}.{model.__name__}")


@pytest.fixture(autouse=True)
def one_thread_and_a_fixed_seed():
    """Tensors this small are slower on many threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def classes_of_the_package():
    """Every module of `tubelet.models` that has a head: its constructor takes `num_classes`."""
    for found in pkgutil.iter_modules(tubelet.models.__path__, "tubelet.models."):
        for _, cls in inspect.getmembers(importlib.import_module(found.name), inspect.isclass):
            is_model = issubclass(cls, nn.Module) and "num_classes" in inspect.signature(cls).parameters
            if is_model and cls.__module__ == found.name:
                yield cls


def randomised(model):
    """A tiny model in evaluation mode with random values everywhere, where zeros would hide a part of it."""
    net = TINY[model]().eval()
    for name, parameter in net.named_parameters():
        nn.init.normal_(parameter, mean=1.0 if "norm" in name and name.endswith("weight") else 0.0, std=STD)
    return net


def clips(model, num_clips=B):
    """(B, C, T, H, W)."""
    return torch.randn(num_clips, 3, NUM_FRAMES[model], *CROP)


def test_every_model_of_the_package_is_tested_here():
    assert set(classes_of_the_package()) - {Grid} == set(TINY)  # Grid is what others are built on


@every_model
def test_a_model_takes_num_classes_num_frames_and_crop_first(model):
    assert list(inspect.signature(model).parameters)[:3] == ["num_classes", "num_frames", "crop"]


@every_model
def test_the_first_docstring_line_is_a_sentence_that_a_run_can_print(model):
    first = (model.__doc__ or "").splitlines()[0]
    assert first.endswith(".")
    assert len(first.split()) > 3


@every_model
def test_logits_have_one_row_a_clip_and_one_column_a_class(model):
    assert randomised(model)(clips(model)).shape == (B, NUM_CLASSES)


@every_model
@torch.no_grad()
def test_a_clip_of_another_size_is_refused_also_where_it_has_as_many_tokens(model):
    net, right = randomised(model), clips(model, 1)
    b, c, frames, height, width = right.shape
    others = [(frames * 2, height, width // 2), (frames, height // 2, width * 2), (frames, width, height)]
    others += [(1, height, width)]
    for wrong in [*(torch.zeros(b, c, *other) for other in others), right[0]]:
        with pytest.raises(ValueError, match=r"^clip: the model takes"):
            net(wrong)


@every_model
@torch.no_grad()
def test_the_order_of_tubelets_changes_the_logits_but_of_models_that_are_blind_to_it(model):
    net, video = randomised(model), clips(model)
    of_one_token = NUM_FRAMES[model] // (2 if model in VIVIT else 1)  # whole tubelets move
    turned = video.unflatten(2, (of_one_token, -1)).flip(2).flatten(2, 3)
    difference = (net(video) - net(turned)).abs().amax(1)
    # Logits are of size 1; float32 rounds at 1e-6.
    assert (difference.max() < 1e-5) if model in BLIND_TO_ORDER else (difference.min() > 1e-3)


@pytest.mark.parametrize("model", sorted(BLIND_TO_ORDER, key=lambda model: model.__name__))
@pytest.mark.parametrize(("frames", "blind"), [(1, True), (2, False)])
@torch.no_grad()
def test_models_that_are_blind_to_the_order_of_tubelets_see_that_of_frames_within_one(model, frames, blind):
    net, video = model(NUM_CLASSES, 6, CROP, tubelet=(frames, 4, 4), **SHAPE).eval(), torch.randn(B, 3, 6, *CROP)
    nn.init.normal_(net.head.weight)  # ViViT's starts at zero
    difference = (net(video) - net(video.flip(2))).abs().amax(1)
    assert (difference.max() < 1e-5) if blind else (difference.min() > 1e-3)  # as above


@every_model
@torch.no_grad()
def test_the_order_of_places_changes_the_logits(model):
    net, video = randomised(model), clips(model)
    for other in (video.flip(3), video.flip(4), video.roll(4, 3), video.roll(4, 4)):
        assert (net(video) - net(other)).abs().amax(1).min() > 1e-3  # as above


@every_model
def test_backward_reaches_every_parameter_and_every_pixel(model):
    net, video = randomised(model), clips(model).requires_grad_()
    nn.functional.cross_entropy(net(video), torch.tensor([2, 5, 0, 6])).backward()
    # A part that is cut off has no gradient or exactly zero; one that only rounding reaches stays below 1e-8.
    unreached = {name for name, p in net.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-6}
    assert unreached == UNREAD.get(model, set())
    assert (video.grad != 0).all()


@every_model
def test_every_row_of_a_position_table_is_used(model):
    net = randomised(model)
    net(clips(model)).square().sum().backward()
    tables = {name: table for name, table in net.named_parameters() if "pos_embed" in name}
    assert (tables == {}) == (model in WITHOUT_POSITIONS)
    for name, table in tables.items():
        assert (table.grad.abs().amax(-1) > 1e-6).all(), name


@every_model
@torch.no_grad()
def test_permuted_clips_give_permuted_logits(model):
    net, video, order = randomised(model), clips(model), [2, 0, 3, 1]
    # The same sums, possibly in another order: float32 on logits of size 1.
    torch.testing.assert_close(net(video[order]), net(video)[order], rtol=0, atol=1e-5)


@every_model
@torch.no_grad()
def test_a_clip_has_the_same_logits_alone_as_in_a_batch(model):
    net, video = randomised(model), clips(model)
    alone = torch.cat([net(clip[None]) for clip in video])
    torch.testing.assert_close(net(video), alone, rtol=0, atol=1e-5)  # float32 on logits of size 1


@every_model
def test_bfloat16_autocast_gives_logits_and_gradients_near_those_of_float32(model):
    net, video = randomised(model), clips(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = net(video)
    expected, of = net(video), list(net.parameters())
    # bfloat16 has 8 bits: 0.4 % a step, some twenty steps deep, on logits of size 1.
    torch.testing.assert_close(logits.float(), expected, rtol=0, atol=0.1)
    gradients, exact = (torch.autograd.grad(out.float().square().mean(), of) for out in (logits, expected))
    assert all(gradient.dtype == torch.float32 for gradient in gradients)
    # All of them as one vector, since some are near zero and nothing but rounding.
    apart = sum((a - b).square().sum() for a, b in zip(gradients, exact, strict=True)).sqrt()
    assert apart < 0.1 * sum(gradient.square().sum() for gradient in exact).sqrt()


@every_model
def test_bfloat16_autocast_trains_with_drop_path(model):
    net = TINY[model](drop_path=0.5).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = nn.functional.cross_entropy(net(clips(model)), torch.tensor([2, 5, 0, 6]))
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in net.parameters())


@every_model
@torch.no_grad()
def test_torch_compile_traces_a_model_whole(model):
    net, video = randomised(model), clips(model)
    traced = torch.compile(net, fullgraph=True, backend="eager")  # tracing alone: no code is generated
    torch.testing.assert_close(traced(video), net(video), rtol=0, atol=1e-5)  # float32 on logits of size 1


@every_model
@torch.no_grad()
def test_head_dropout_takes_from_what_the_head_reads_in_training_only(model):
    net, video = TINY[model](head_dropout=0.4, drop_path=0.0), clips(model)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=STD)
    read = []
    net.head.register_forward_hook(lambda _, given, __: read.append(given[0]))
    net.train()(video), net.eval()(video)
    dropped = read[0] == 0
    assert 0.1 < dropped.float().mean() < 0.8  # of 4 clips of at least 12 values
    torch.testing.assert_close(read[0][~dropped], read[1][~dropped] / 0.6)
    assert read[1].count_nonzero() == read[1].numel()


@every_model
@torch.no_grad()
def test_drop_path_acts_in_training_only(model):
    net, video = TINY[model](drop_path=0.5), clips(model, 16)  # 16 clips: that two draws agree has chance 4 ** -16
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=STD)
    assert not torch.equal(net.train()(video), net(video))
    assert torch.equal(net.eval()(video), net(video))


@pytest.mark.parametrize(
    ("model", "num_frames", "exact", "paper"),
    [
        # D = 768. Tubelets 3*2*16*16*D + D = 1,180,416; class token D; positions (1 + 16*14*14) * D = 2,409,216;
        # 12 blocks of 12 D^2 + 13 D = 7,087,872; norm 2 D; head 400 D + 400 = 307,600.
        # Arnab et al., table 2, ViViT-B/16x2 "spatio-temporal": 88.9 M.
        pytest.param(Joint, 32, 88_954_000, 88.9e6, id="vivit_joint"),
        # Patches 3*16*16*D + D = 590,592; class token D; positions 197 D + 8 D = 157,440; 12 blocks of
        # 17 D^2 + 20 D = 10,042,368 (a second attention, its norm, and temporal_fc); norm 2 D; head 307,600.
        # Bertasius et al., table 1: 121.4 M, which is what 174 classes (SSv2) give: 121,392,558.
        pytest.param(Divided, 8, 121_566_352, 121.4e6, id="timesformer"),
        # Patches 3*3*7*7 D + D = 42,432; class token D, with D = 96. A block from width D to E on n x n queries: norms
        # 2 D + 2 E; qkv and proj (D + 1) 3 E + (E + 1) E; three pools with norms 3 * (27 + 2) * 96; tables
        # (2 * 8 - 1 + 2 * (2 n - 1)) * 96, but with n = 14 where 14 keys meet 7 queries; MLP 8 E^2 + 5 E; and, where
        # D != E, a skip path (D + 1) E: 142,944; 428,352 and 465,216; 1,641,984 and 10 times 1,789,440; 6,513,024 and
        # 7,100,160. Norm 2 * 768; head 307,600. SlowFast's projects/mvitv2: 34.5 M.
        pytest.param(MViT, 16, 34_537_744, 34.5e6, id="mvit_v2_s"),
    ],
)
def test_the_default_model_has_the_number_of_parameters_of_its_paper(model, num_frames, exact, paper):
    with torch.device("meta"):
        net = model(num_classes=400, num_frames=num_frames, crop=224)
    count = sum(parameter.numel() for parameter in net.parameters())
    assert count == exact
    assert count == pytest.approx(paper, rel=0.01)  # papers round, and do not say which head they count


@pytest.mark.parametrize("model", [*TIMESFORMER, MViT])
def test_matrices_start_at_deviation_002(model):
    net = TINY[model](dim=96)
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv3d) and model is not MViT:  # as torch starts it: uniform within 1 / sqrt(fan in)
            bound = module.weight[0].numel() ** -0.5
            assert 0.95 * bound < module.weight.abs().max() <= bound
            assert module.bias.any()
        elif isinstance(module, nn.Linear | nn.Conv3d) and "temporal_fc" not in name and name != "head":
            tolerance = 5 / (2 * module.weight.numel()) ** 0.5  # five times the deviation of the deviation of the draws
            assert module.weight.std().item() == pytest.approx(0.02, rel=tolerance), name


@pytest.mark.parametrize("model", VIVIT)
def test_vivit_starts_as_its_official_code_does(model):
    net = TINY[model](dim=96)
    widths = {"fc1": 96 + 384, "fc2": 384 + 96}  # in and out; 96 + 96 for the others
    for name, module in net.named_modules():
        kind = name.split(".")[-1]
        if isinstance(module, nn.Conv3d):
            assert module.weight.std().item() == pytest.approx((3 * 2 * 4 * 4) ** -0.5, rel=0.05)
        if isinstance(module, nn.Linear) and kind != "head":
            bound = (6 / widths.get(kind, 96 + 96)) ** 0.5  # Glorot's uniform; its deviation is the bound / sqrt(3)
            for weight in module.weight.chunk(3 if kind == "qkv" else 1):
                assert weight.abs().max() <= bound, name
                assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05), name
    assert not net.head.weight.any()


def test_no_width_passes_for_queries_keys_and_values_but_theirs():
    """An MLP of ratio 3 and a pooling that widens threefold have the shape of the three matrices in one."""
    joint = Joint(NUM_CLASSES, 6, CROP, (2, 4, 4), dim=D, depth=1, heads=HEADS, mlp_ratio=3.0)
    sizes = dict(dims=(D, 3 * D), depths=(1, 1), heads=(HEADS, HEADS), windows=[(1, 1, 1)], merge=Pool)
    pooled = Hierarchical(NUM_CLASSES, 6, CROP, (2, 4, 4), **sizes)
    for linear in (joint.encoder.blocks[0].mlp.fc1, pooled.blocks[1].widen[1]):
        assert linear.weight.shape == (3 * D, D)
        bound = (6 / (D + 3 * D)) ** 0.5  # of one matrix; three would have the larger (6 / (D + D)) ** 0.5
        assert 0.98 * bound < linear.weight.abs().max() <= bound
    assert joint.encoder.blocks[0].attn.qkv.weight.abs().max() > (6 / (D + 3 * D)) ** 0.5


@pytest.mark.parametrize("model", [*VIVIT, *TIMESFORMER])  # MViT's start elsewhere: see test_mvit.py
def test_biases_start_at_zero(model):
    for name, module in TINY[model]().named_modules():
        of_patches = isinstance(module, nn.Conv3d) and model in TIMESFORMER  # whose official code leaves them to torch
        if isinstance(module, nn.Linear | nn.Conv3d | nn.LayerNorm) and not of_patches:
            assert not module.bias.any(), name


@pytest.mark.parametrize("model", [Divided, JointSpaceTime, SpaceOnly])
def test_the_class_token_of_timesformer_starts_at_deviation_002(model):
    names = dict(TINY[model](dim=96).named_parameters())
    token = next(value for name, value in names.items() if name.endswith("cls_token"))
    assert token.std().item() == pytest.approx(0.02, rel=0.3)


def test_timesformer_starts_with_temporal_fc_zero_in_every_block():
    net = TINY[Divided](depth=3)
    assert [name for name, p in net.named_parameters() if "temporal_fc" in name and p.any()] == []
    assert sum("temporal_fc" in name for name, _ in net.named_parameters()) == 2 * 3


@torch.no_grad()
def test_timesformer_starts_as_an_image_model_that_is_blind_to_order():
    """With temporal_fc and the table of time at zero, frames meet only in the mean of the class token's copies."""
    net, video = TINY[Divided]().eval(), clips(Divided)
    shuffled = video[:, :, [2, 0, 1]]
    # Only the mean over frames adds in another order: float32 on logits of size 0.1.
    torch.testing.assert_close(net(video), net(shuffled), rtol=0, atol=1e-6)
    assert (net(video) - net(video.flip(4))).abs().max() > 1e-3


@torch.no_grad()
def test_the_class_token_of_timesformer_takes_no_part_in_time():
    """Equation 10: attention over time sees the grid of patches, and nothing else."""
    net = randomised(Divided)
    seen = []
    for block in net.blocks:
        block.temporal_norm1.register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape)))
    net(clips(Divided))
    assert seen == [(B, 3, 10, D)] * 2  # (B, t, s, D): no 1 + s and no 1 + t
