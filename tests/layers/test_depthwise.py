"""Letters: B clips, C channels, t h w places along each axis. All sizes differ."""

import pytest
import torch
import torch.nn.functional as F

from tubelet.layers.depthwise import depthwise

STRIDES = [(1, 1, 1), (1, 2, 2), (2, 1, 3), (3, 2, 1), (1, 3, 3), (4, 8, 8)]
every_stride = pytest.mark.parametrize("stride", STRIDES)
GRIDS = [(5, 4, 7), (2, 9, 6), (1, 3, 2)]


def inputs(grid, dtype):
    """x (B, C, t, h, w), channels last as in a model, and weights (C, 1, 3, 3, 3)."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, *grid, 6, dtype=dtype, generator=generator).permute(0, 4, 1, 2, 3)
    return x.requires_grad_(), torch.randn(6, 1, 3, 3, 3, dtype=dtype, generator=generator).requires_grad_()


@every_stride
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])  # sums of up to 280
def test_gradients_are_those_of_autograd(stride, grid, dtype, atol):
    of = inputs(grid, dtype)
    ours, plain = depthwise(*of, stride), F.conv3d(*of, None, stride, 1, groups=6)
    torch.testing.assert_close(ours, plain, rtol=0, atol=atol)
    generator = torch.Generator().manual_seed(1)
    upstream = torch.randn(ours.shape, dtype=dtype, generator=generator)
    gradients = [torch.autograd.grad(out, of, upstream) for out in (ours, plain)]
    torch.testing.assert_close(*gradients, rtol=0, atol=atol)


@pytest.mark.parametrize("stride", [(1, 1, 1), (1, 2, 2)])
def test_the_gradient_of_one_clip_keeps_its_layout(stride):
    """Also where the upstream gradient has any stride along its axis of one clip, as a slice of a sequence has."""
    x = torch.randn(1, 1 + 2 * 3 * 4, 6, requires_grad=True)
    places = x[:, 1:].unflatten(1, (2, 3, 4)).permute(0, 4, 1, 2, 3)
    out = depthwise(places, torch.randn(6, 1, 3, 3, 3), stride)
    sequence = torch.cat([x[:, :1], out.flatten(2).transpose(1, 2)], dim=1)
    (gradient,) = torch.autograd.grad(sequence.square().sum(), places)
    assert gradient.stride() == (2 * 3 * 4 * 6, 1, 3 * 4 * 6, 4 * 6, 6)


def test_gradients_have_gradients():
    x, weight = inputs((2, 3, 4), torch.float64)
    assert torch.autograd.gradgradcheck(lambda *of: depthwise(*of, (1, 2, 2)), (x, weight))


def test_an_input_without_gradient_gets_none_and_its_weights_do():
    x, weight = inputs((5, 4, 7), torch.float64)
    depthwise(x.detach(), weight, (1, 2, 2)).sum().backward()
    assert x.grad is None
    assert weight.grad.abs().min() > 0


def test_autocast_gives_gradients_in_the_types_of_what_they_are_for():
    x, weight = inputs((5, 4, 7), torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = depthwise(x, weight, (1, 2, 2))
    assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    assert x.grad.dtype == weight.grad.dtype == torch.float32
    plain = torch.autograd.grad(F.conv3d(x, weight, None, (1, 2, 2), 1, groups=6).sum(), (x, weight))
    torch.testing.assert_close((x.grad, weight.grad), plain, rtol=0.02, atol=0.1)  # bfloat16 has 8 bits


def test_a_training_step_compiles_without_a_graph_break():
    of = inputs((5, 4, 7), torch.float32)
    traced = torch.compile(depthwise, fullgraph=True, backend="aot_eager")
    gradients = [torch.autograd.grad(f(*of, (1, 2, 2)).square().sum(), of) for f in (traced, depthwise)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-5)
