"""Letters: N rows, D inputs, D' outputs. All sizes differ."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import tubelet.layers.linear
from tubelet.layers.linear import Linear, linear

needs_onednn = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"),
    reason="this torch has no oneDNN",
)
SHAPES = [((3, 5, 7), 11), ((40, 24), 8), ((9, 33, 16), 96), ((1, 64), 32)]  # of x (..., D), and D'


@pytest.fixture
def by_onednn(monkeypatch):
    """As on an AMD processor, whatever this one is, and for small products too."""
    monkeypatch.setattr(tubelet.layers.linear, "AMD", True)
    monkeypatch.setattr(tubelet.layers.linear, "LEAST", 0)


def random(*shape, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=dtype).requires_grad_()


@needs_onednn
@pytest.mark.parametrize(("shape", "dim_out"), SHAPES)
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("turned", [False, True], ids=["as it lies", "turned"])
def test_products_and_gradients_are_those_of_torch(shape, dim_out, has_bias, turned, by_onednn):
    x = random(*shape).transpose(0, -2) if turned else random(*shape)
    of = [x, random(dim_out, shape[-1])] + ([random(dim_out)] if has_bias else [])
    ours, expected = linear(*of), F.linear(*of)
    assert type(ours.grad_fn).__name__ == "ByOneDNNBackward"
    # Float32 on sums of at most 300 products of size 1, added in another order.
    torch.testing.assert_close(ours, expected, rtol=0, atol=2e-4)
    gradients = [torch.autograd.grad(out.square().sum(), of) for out in (ours, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=2e-3)


@needs_onednn
def test_a_gradient_of_one_number_for_all_is_right(by_onednn):
    """The gradient of a sum is one number, seen as a matrix by strides of zero."""
    x, weight = random(6, 5), random(4, 5)
    gradients = torch.autograd.grad(linear(x, weight).sum(), [x, weight])
    torch.testing.assert_close(gradients, torch.autograd.grad(F.linear(x, weight).sum(), [x, weight]))


@needs_onednn
def test_gradients_have_gradients(by_onednn):
    of, second = [random(6, 5), random(4, 5), random(4)], []
    for product in (linear, F.linear):
        (first,) = torch.autograd.grad(product(*of).pow(3).sum(), of[:1], create_graph=True)
        second.append(torch.autograd.grad(first.square().sum(), of[:2]))
    torch.testing.assert_close(*second, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("why", ["float64", "autocast", "small", "another processor"])
def test_elsewhere_the_product_is_torchs_own(why, monkeypatch):
    monkeypatch.setattr(tubelet.layers.linear, "AMD", why != "another processor")
    monkeypatch.setattr(tubelet.layers.linear, "LEAST", 6 * 5 * 4 + (why == "small"))
    dtype = torch.float64 if why == "float64" else torch.float32
    x, weight = random(6, 5, dtype=dtype), random(4, 5, dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=why == "autocast"):
        ours, expected = linear(x, weight), F.linear(x, weight)
    assert type(ours.grad_fn).__name__ != "ByOneDNNBackward"
    assert torch.equal(ours, expected)


def test_compiled_layers_leave_their_products_to_the_compiler(by_onednn):
    layer, x = Linear(5, 4), random(6, 5)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), F.linear(x, layer.weight, layer.bias))


def test_the_layer_has_the_names_and_the_start_of_torchs():
    torch.manual_seed(0)
    ours = Linear(5, 4)
    torch.manual_seed(0)
    theirs = nn.Linear(5, 4)
    torch.testing.assert_close(dict(ours.state_dict()), dict(theirs.state_dict()), rtol=0, atol=0)
