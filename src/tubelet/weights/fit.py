"""Looking up a value for each parameter of a model among published weights, and keeping the account of it."""

import difflib
import re
from collections.abc import Callable, Collection
from typing import cast

import torch
from torch import Tensor, nn

from tubelet.layers.attention import TimeAttention
from tubelet.layers.embed import Size3
from tubelet.layers.position import OneTable, SpaceTime
from tubelet.layers.readout import Attentive, NormedMean
from tubelet.weights.account import Account, grouped
from tubelet.weights.checks import advice, check_shapes, note_of_heads
from tubelet.weights.positions import Positions
from tubelet.weights.resample import resize_rows
from tubelet.weights.source import PATCHES, Source

OWN = re.compile(r"^encoder\.")  # of JointSpaceTime and of vivit.Joint; published names have none
POSITION = re.compile(r"^(?:encoder\.)?(space\.|time\.|)pos_embed(?:\.(table|space|time))?$")
BLOCK = re.compile(r"^(space\.|time\.|)blocks\.(\d+)\.(.+)$")
# Attention over space and attention over time in one block, from the one attention of an image's block.
OF_SPACE = {"norm_space.": "norm1.", "attn_space.": "attn.", "norm_mlp.": "norm2."}
OF_TIME = {"temporal_norm1.": "norm1.", "temporal_attn.": "attn.", "norm_time.": "norm1.", "attn_time.": "attn."}
READOUT = "model.readout._target_=tubelet.layers.readout."
HEAD = ("head.weight", "head.bias")
OF_READOUT = re.compile(r"(^|\.)readout\.")  # parameters of Attentive, which no published model has
STOPPED = ("temporal_fc.", "attn_time.proj.")  # zero, so that attention over time begins by adding nothing


class Fit:
    """Looks up a value for each parameter of a model, and keeps the account."""

    def __init__(self, model: nn.Module, source: Source, inflate: Callable, accept: Collection[str]):
        self.model, self.source, self.inflate, self.accept = model, source, inflate, accept
        self.theirs, self.used = source.weights, set[str]()
        self.account = Account(source.layout, notes=[*source.notes, *note_of_heads(model, source)])
        self.has_readout = any(OF_READOUT.search(name) for name in self.theirs)
        self.probed = any(isinstance(module, Attentive) for module in model.modules())
        self.of_time = {  # blocks of our own that only attend over time; an image model has none
            name for name, module in model.named_modules() if isinstance(getattr(module, "attn", None), TimeAttention)
        }
        check_shapes(model, source, self.of_time)
        stride = cast(Size3, model.get_submodule("patch_embed.proj").stride)  # of MViT's overlapping patches too
        self.positions = Positions(source, cast(Size3, model.size), stride, accept)

    def value(self, name: str, ours: Tensor) -> Tensor:
        """What the parameter `name` begins with; the account says where it is from."""
        position = POSITION.match(name)
        if position:
            return self._position(name, ours, position[1], position[2] or "space")
        if OF_READOUT.search(name):
            return self._readout(name, ours)
        if name.startswith("head."):
            return self._head(name, ours)
        if name == PATCHES:
            return self._patches(name, ours)
        plain = OWN.sub("", name)
        if plain.startswith("time.") and not any(key.startswith("time.") for key in self.theirs):
            return self._new(
                name, ours, "as at the start of training: a temporal encoder that these weights do not have"
            )
        if plain.endswith(("norm.weight", "norm.bias")) and "blocks." not in plain:
            return self._last_norm(name, plain, ours)
        return self._plain(name, plain, ours)

    def _plain(self, name: str, plain: str, ours: Tensor) -> Tensor:
        block = BLOCK.match(plain)
        if not block:
            return self._found(name, ours, plain, plain.removeprefix("space."))
        stem, index, rest = block[1], int(block[2]), block[3]
        if not self.source.exact:
            if block_of(name) in self.of_time:
                return self._new(
                    name, ours, "as at the start of training: blocks over time that these weights do not have"
                )
            index -= sum(number(block) < index for block in self.of_time)
        stems = [f"{s}blocks.{index}." for s in dict.fromkeys((stem, "" if stem == "space." else stem))]
        keys = [f"{s}{rest}" for s in stems]
        if self.source.exact or any(key in self.theirs for key in keys):
            return self._found(name, ours, *keys)
        if rest.endswith("qkv.bias") and not any(key.endswith("qkv.bias") for key in self.theirs):
            return self._new(name, torch.zeros_like(ours), "zero: these weights have no bias of queries, keys, values")
        if rest.startswith(STOPPED) and not self.source.of_time:
            return self._new(name, torch.zeros_like(ours), "zero, so that attention over time begins by adding nothing")
        for copy, image in OF_TIME.items():
            if rest.startswith(copy) and not self.source.of_time:
                keys = [f"{s}{rest.replace(copy, image)}" for s in stems]
                return self._new(name, self._taken(name, ours, *keys), f"copied from {image.rstrip('.')}")
        for own, image in OF_SPACE.items():
            if rest.startswith(own):
                keys = [f"{s}{rest.replace(own, image)}" for s in stems]
        return self._found(name, ours, *keys)

    def _position(self, name: str, ours: Tensor, prefix: str, part: str) -> Tensor:
        owner = None if name.endswith("pos_embed") else self.model.get_submodule(name.rpartition(".")[0])
        module = cast(OneTable | SpaceTime | None, owner)
        found = self.positions.table(prefix, part, module, ours.shape[1])
        self.used |= self.positions.used
        if found is None and part == "time":
            return self._new(name, torch.zeros_like(ours), "zero: these weights have no times, so frames begin alike")
        if found is None:
            return self._new(name, ours, "as at the start of training: these weights have no positions in time")
        if found.shape != ours.shape:
            raise ValueError(f"its positions give {tuple(found.shape)} for {name}, which has {tuple(ours.shape)}")
        if self.positions.done:
            self.account.note(self.account.resized, "; ".join(self.positions.done), name)
        else:
            self.account.loaded.append(name)
        return found

    def _readout(self, name: str, ours: Tensor) -> Tensor:
        if self.has_readout:
            return self._found(name, ours, OWN.sub("", name))
        return self._new(name, ours, "as at the start of training: a readout that these weights do not have")

    def _head(self, name: str, ours: Tensor) -> Tensor:
        theirs = self.theirs.get(name)
        self.used.add(name)
        if theirs is None and any(key in self.theirs for key in HEAD):
            raise ValueError(f"it has a head, but not its {name}: the file is cut")
        if theirs is None:
            return self._new(
                name, ours, f"for {len(ours)} classes, as at the start of training: theirs is not in the file"
            )
        if self.probed and not self.has_readout:
            return self._new(name, ours, f"for {len(ours)} classes, as at the start of training: its readout is new")
        if self.source.other_classes and theirs.shape == ours.shape:
            return self._new(name, ours, f"for {len(ours)} classes, as at the start of training: theirs are others")
        if self.source.image or theirs.shape != ours.shape:
            whose = "theirs is an image model's" if len(theirs) == len(ours) else f"theirs has {len(theirs)}"
            return self._new(name, ours, f"for {len(ours)} classes, as at the start of training: {whose}")
        self.account.loaded.append(name)
        return theirs

    def _patches(self, name: str, ours: Tensor) -> Tensor:
        theirs = self.theirs[name]
        self.used.add(name)
        if theirs.ndim == ours.ndim:
            return self._found(name, ours, name)
        frames = ours.shape[2]
        if frames > 1:
            how = self.inflate.__name__.replace("_", " ")
            self.account.note(self.account.resized, f"inflated to {frames} frames, {how}", name)
        else:
            self.account.loaded.append(name)
        return self.inflate(theirs, frames)

    def _last_norm(self, name: str, plain: str, ours: Tensor) -> Tensor:
        """VideoMAE's `fc_norm` comes after the mean, and other models' `norm` before: neither can be the other."""
        stem = plain.removesuffix("weight").removesuffix("bias").removesuffix("norm.")
        readout = getattr(self.model.get_submodule(name.rsplit("norm.", 1)[0].rstrip(".")), "readout", None)
        part = plain.removeprefix(stem)
        if isinstance(readout, NormedMean) and not self.source.exact:
            if not any(key.startswith("fc_norm.") for key in self.theirs):
                return self._new(
                    name, ours, "as at the start of training: the norm of the mean, which these weights do not have"
                )
            part = f"fc_{part}"
        elif f"fc_{part}" in self.theirs:
            override = advice(self.model, self.source, f"{READOUT}NormedMean")
            raise ValueError(f"its last norm comes after the mean; {override}")
        return self._found(name, ours, f"{stem}{part}", part)

    def _new(self, name: str, value: Tensor, reason: str) -> Tensor:
        self.account.note(self.account.new, reason, name)
        return value

    def _found(self, name: str, ours: Tensor, *keys: str) -> Tensor:
        value = self._taken(name, ours, *keys)
        if ".rel_pos_" in name and len(value) != len(ours) and value.shape[1:] == ours.shape[1:]:
            first = re.sub(r"blocks\.\d+", "blocks.0", name)
            same_clip = len(self.theirs.get(first, value)) == len(self.model.get_parameter(first))
            if same_clip and "strides" not in self.accept:
                raise ValueError(
                    f"its {name} has {len(value)} rows, the model's {len(ours)}, but as many in the first block: "
                    "the clip is the same, the pooling is not; type the model.q_strides of the weights"
                )
            word, clip = ("frames", "num_frames") if "rel_pos_t" in name else ("crop", "crop")
            if not same_clip and word not in self.accept:
                step = cast(Size3, self.model.get_submodule("patch_embed.proj").stride)[0 if word == "frames" else 1]
                size = (
                    (len(self.theirs.get(first, value)) + 1) // 2 * step
                )  # 2 n - 1 rows for n tokens of a first block
                raise ValueError(
                    f"its {name} has {len(value)} rows, the model's {len(ours)}; type clip.{clip}={size}, "
                    f"or model.accept=[{word}] to resample it"
                )
            self.account.note(self.account.resized, "relative positions, linear", name)
            return resize_rows(value, len(ours))
        if ".rel_pos_" in name and value.shape[1:] != ours.shape[1:]:
            d, mine = value.shape[-1], ours.shape[-1]
            raise ValueError(f"its heads have {d} channels, the model's {mine}; type the model.heads of the weights")
        self.account.loaded.append(name)
        return self._checked(name, next(key for key in keys if key in self.theirs), ours)

    def _taken(self, name: str, ours: Tensor, *keys: str) -> Tensor:
        for key in keys:
            if key in self.theirs:
                self.used.add(key)
                return self.theirs[key]
        if name.endswith("cls_token"):
            override = advice(self.model, self.source, f"{READOUT}Mean (of VideoMAE: NormedMean)")
            if self.probed:
                override = "type +model.readout.class_token=false"
            raise ValueError(f"it has no class token, and the model reads one out; {override}")
        strange = self.theirs.keys() - {OWN.sub("", own) for own, _ in self.model.named_parameters()}
        near = difflib.get_close_matches(keys[0], strange, n=1, cutoff=0.8)
        looked = " or ".join(dict.fromkeys(keys)) + (f"; what is near is {near[0]}" if near else "")
        raise ValueError(f"it holds nothing for the model's {name} (looked for {looked})")

    def _checked(self, name: str, key: str, ours: Tensor) -> Tensor:
        value = self.theirs[key]
        if value.shape != ours.shape:
            raise ValueError(f"its {key} is {tuple(value.shape)}, the model's {name} {tuple(ours.shape)}")
        return value

    def account_for_unused(self) -> None:
        """Raises ValueError at a published parameter that nothing took and no rule explains."""
        has_token = any(name.endswith("cls_token") for name, _ in self.model.named_parameters())
        normed_mean = any(isinstance(module, NormedMean) for module in self.model.modules())
        left = []
        for key in sorted(self.theirs.keys() - self.used):
            reasons = [reason for start, reason in self.source.expected_unused.items() if key.startswith(start)]
            if key.endswith("cls_token") and not has_token:
                reasons.append("the model has no class token; nor is its row of positions used")
            if key.startswith("norm.") and normed_mean:
                reasons.append("it comes before the mean of the tokens, the model's after")
            if not reasons:
                left.append(key)
                continue
            self.account.note(self.account.unused, reasons[0], key)
        if left:
            shown = ", ".join(grouped(left)[:4] if len(left) > 1 else left)
            raise ValueError(
                f"{len(left)} of its parameters {'have' if len(left) > 1 else 'has'} no place in "
                f"{type(self.model).__name__}: {shown}; the layout is that of {self.source.layout}"
            )


def block_of(name: str) -> str:
    """`encoder.blocks.3.attn.proj.bias` -> `encoder.blocks.3`."""
    return re.sub(r"(blocks\.\d+)\..*$", r"\1", name)


def number(block: str) -> int:
    """`blocks.3` -> 3."""
    return int(block.rpartition(".")[2])
