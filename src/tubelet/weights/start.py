"""Starting a model from published weights: each of its parameters is looked up, and each published one must be used.

Images become clips as ViViT (Arnab et al. 2021, section 3.4) and TimeSformer (Bertasius et al. 2021, section 4) have
it: the model begins as the image model on every frame. The kernel of patches is inflated, positions are repeated over
time, and attention over time is copied from that over space, then stopped by a layer of zeros, which learns.
"""

from collections.abc import Callable, Collection

from torch import Tensor, nn

from tubelet.weights.account import Account
from tubelet.weights.fit import Fit
from tubelet.weights.resample import central_frame
from tubelet.weights.source import Source


def start_from(
    model: nn.Module,
    source: Source,
    inflate: Callable[[Tensor, int], Tensor] = central_frame,
    accept: Collection[str] = (),
) -> Account:
    """Load `source` into `model`, all of it or nothing. Raises ValueError where something does not fit or is left over.

    inflate: central_frame or average, of tubelet.weights.resample
    accept: what may be resampled of weights that were trained on clips: `frames`, `crop`
    """
    fit = Fit(model, source, inflate, accept)
    ours = model.state_dict()
    weights = {name: fit.value(name, value).to(value.dtype) for name, value in ours.items()}
    fit.account_for_unused()
    for name in sorted(fit.used & source.weights.keys()):
        if not source.weights[name].is_floating_point():
            kind = str(source.weights[name].dtype).removeprefix("torch.")
            raise ValueError(f"its {name} is of {kind}, not of floating point numbers: quantised, or damaged")
    for name, value in weights.items():
        check_value(name, value, ours[name])
    fit.account.notes += fit.positions.notes
    model.load_state_dict(weights)
    return fit.account


def check_value(name: str, value: Tensor, ours: Tensor) -> None:
    """Raises ValueError where a value could not be loaded, or would make every answer NaN."""
    if value.shape != ours.shape:
        raise ValueError(f"its {name} would be {tuple(value.shape)}, the model's is {tuple(ours.shape)}")
    broken = int((~value.isfinite()).sum())
    if broken:
        raise ValueError(
            f"{broken} of the {value.numel()} values for {name} are NaN or infinite: the file is damaged, or its "
            "training failed; take another one"
        )
