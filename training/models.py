"""The networks: beat windows (n, 187), and for some the RR context (n, 3), to logits (n, classes).

`Cnn` and `CnnLstm` are what most publications on these data use, and the reference; `Transformer` follows the current
trend; `Compact` is ours. All have the same structure: an encoder of the window, pooled, concatenated with RR features
if the network takes them, and a fully connected head.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as f
from torch import Tensor, nn

from monitor import beat

Floats = npt.NDArray[np.float32]

RR_FEATURES = 5


def rr_features(rr: Tensor) -> Tensor:
    """Features that describe how premature a beat is: (n, 3) seconds -> (n, 5)."""
    previous, following, median = rr[:, 0:1], rr[:, 1:2], rr[:, 2:3]
    return torch.cat(
        [
            previous / median - 1,
            following / median - 1,
            (previous - following) / median,
            torch.minimum(previous, following) / median - 1,
            median - 0.8,
        ],
        dim=1,
    )


class BeatNetwork(nn.Module, ABC):
    """Base of all networks: turns features of the window and the RR context into logits.

    Parameters
    ----------
    width
        Number of features that `encode` returns.
    hidden
        Units of the head's hidden layer; 0 for none.
    classes
        Number of classes.
    rr
        Whether the network takes the RR context as well.
    dropout
        Before each layer of the head.
    """

    def __init__(self, width: int, hidden: int, classes: int, rr: bool, dropout: float) -> None:
        super().__init__()
        self.takes_rr, self.classes = rr, classes
        self.rr = nn.Sequential(nn.Linear(RR_FEATURES, 16), nn.ReLU()) if rr else None
        joined = width + (16 if rr else 0)
        if rr and not hidden:
            hidden = 32  # shape and prematurity of a beat are informative only in combination
        layers: list[nn.Module] = [nn.Dropout(dropout)]
        if hidden:
            layers += [nn.Linear(joined, hidden), nn.ReLU(), nn.Dropout(dropout)]
        self.head = nn.Sequential(*layers, nn.Linear(hidden or joined, classes))

    @abstractmethod
    def encode(self, windows: Tensor) -> Tensor:
        """(n, 187) -> (n, width)."""

    def forward(self, windows: Tensor, rr: Tensor | None = None) -> Tensor:
        """(n, 187) float32 in 0..1, (n, 3) float32 seconds if the network takes them -> (n, classes) logits."""
        x = self.encode(windows)
        if self.rr is not None:
            assert rr is not None
            x = torch.cat([x, self.rr(rr_features(rr))], dim=1)
        logits: Tensor = self.head(x)
        return logits


def _block(channels_in: int, channels_out: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(channels_in, channels_out, kernel, padding=kernel // 2),
        nn.BatchNorm1d(channels_out),
        nn.ReLU(),
        nn.MaxPool1d(2),
    )


class Cnn(BeatNetwork):
    """Four convolution blocks, global average pooling, a hidden layer of 128: 184 thousand parameters."""

    def __init__(self, classes: int, rr: bool) -> None:
        super().__init__(256, 128, classes, rr, dropout=0.3)
        self.blocks = nn.Sequential(_block(1, 32, 7), _block(32, 64, 5), _block(64, 128, 5), _block(128, 256, 3))

    def encode(self, windows: Tensor) -> Tensor:
        """(n, 187) -> (n, 256)."""
        x: Tensor = self.blocks(windows.unsqueeze(1))  # (n, 256, 11)
        return x.mean(dim=2)


class CnnLstm(BeatNetwork):
    """Three convolution blocks, an LSTM over their 23 steps: 102 thousand parameters."""

    def __init__(self, classes: int, rr: bool) -> None:
        super().__init__(64, 0, classes, rr, dropout=0.3)
        self.blocks = nn.Sequential(_block(1, 32, 7), _block(32, 64, 5), _block(64, 128, 5))
        self.lstm = nn.LSTM(128, 64, batch_first=True)

    def encode(self, windows: Tensor) -> Tensor:
        """(n, 187) -> (n, 64)."""
        x = self.blocks(windows.unsqueeze(1))  # (n, 128, 23)
        _, (last, _) = self.lstm(x.transpose(1, 2))  # (1, n, 64)
        features: Tensor = last[0]
        return features


class Transformer(BeatNetwork):
    """Patches of 11 samples, two encoder layers with four heads of attention: 70 thousand parameters.

    Pre-norm layers (Xiong et al. 2020), which train without an extra warm-up.
    """

    PATCH, WIDTH, HEADS, LAYERS = 11, 64, 4, 2

    def __init__(self, classes: int, rr: bool) -> None:
        super().__init__(self.WIDTH, 0, classes, rr, dropout=0.1)
        self.patches = nn.Linear(self.PATCH, self.WIDTH)
        self.places = nn.Parameter(0.02 * torch.randn(17, self.WIDTH))
        self.layers = nn.ModuleList(_Attention(self.WIDTH, self.HEADS) for _ in range(self.LAYERS))
        self.norm = nn.LayerNorm(self.WIDTH)

    def encode(self, windows: Tensor) -> Tensor:
        """(n, 187) -> (n, 64)."""
        x = self.patches(windows.reshape(-1, 17, self.PATCH)) + self.places  # (n, 17, 64)
        for layer in self.layers:
            x = layer(x)
        normed: Tensor = self.norm(x)
        return normed.mean(dim=1)


class _Attention(nn.Module):
    """One encoder layer of a transformer: attention, then a hidden layer of twice the width (Vaswani et al. 2017)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_hidden = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.hidden = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width), nn.Dropout(0.1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(n, places, width) -> the same shape."""
        _, places, width = x.shape
        packed = self.query_key_value(self.before_attention(x))  # (n, places, 3 width)
        query, key, value = packed.reshape(-1, places, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        attended = f.scaled_dot_product_attention(query, key, value)  # (n, heads, places, width / heads)
        x = x + self.out(attended.transpose(1, 2).reshape(-1, places, width))
        through: Tensor = self.hidden(self.before_hidden(x))
        return x + through


class Compact(BeatNetwork):
    """Four strided convolutions, mean and maximum over the window: designed for one core under ONNX Runtime.

    A strided convolution whose kernel is two strides long is a product of one matrix with pairs of neighbouring
    patches. In this form, a batch is one large matrix product per layer, which is compute-bound; as convolutions, the
    same arithmetic took twice as long.
    """

    CHANNELS, STRIDES = (24, 48, 72, 96), (4, 2, 2, 2)

    def __init__(self, classes: int, rr: bool) -> None:
        super().__init__(2 * self.CHANNELS[-1], 0, classes, rr, dropout=0.4)
        samples, layers = beat.LENGTH, []
        for before, after, stride in zip((1, *self.CHANNELS), self.CHANNELS, self.STRIDES, strict=False):
            layers.append(Pairs(samples, before, after, stride))
            samples = layers[-1].samples_out
        self.layers = nn.Sequential(*layers)

    def encode(self, windows: Tensor) -> Tensor:
        """(n, 187) -> (n, 192)."""
        x: Tensor = self.layers(windows.unsqueeze(2))  # (n, 4, 96)
        return torch.cat([x.mean(dim=1), x.amax(dim=1)], dim=1)


class Pairs(nn.Module):
    """A strided convolution with a kernel of two strides, batch normalisation, ReLU; see `Compact`."""

    def __init__(self, samples: int, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.padding = -samples % stride
        self.patches, self.width = (samples + self.padding) // stride, stride * channels_in
        self.samples_out = self.patches - 1
        self.linear = nn.Linear(2 * stride * channels_in, channels_out)
        self.norm = nn.BatchNorm1d(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        """(n, samples, channels) -> (n, samples / stride - 1, channels)."""
        if self.padding:
            x = f.pad(x, (0, 0, 0, self.padding))
        x = x.reshape(-1, self.patches, self.width)
        pairs = torch.cat([x[:, :-1], x[:, 1:]], dim=2)
        if self.training:
            normed: Tensor = self.norm(self.linear(pairs).transpose(1, 2)).transpose(1, 2)
            return f.relu(normed)
        return f.relu(f.linear(pairs, *self._folded()))

    def _folded(self) -> tuple[Tensor, Tensor]:
        """Weights and biases with batch normalisation, in evaluation mode, folded in."""
        norm, linear = self.norm, self.linear
        assert norm.running_mean is not None
        assert norm.running_var is not None
        gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        return linear.weight * gain[:, None], (linear.bias - norm.running_mean) * gain + norm.bias


class OneSigmoid(BeatNetwork):
    """Of two classes, with a single output unit: its logit stands beside a 0, so that the softmax is its sigmoid."""

    def forward(self, windows: Tensor, rr: Tensor | None = None) -> Tensor:
        """(n, 187) float32 in 0..1 -> (n, 2) logits, the first of them 0."""
        logit = super().forward(windows, rr)  # (n, 1)
        return torch.cat([torch.zeros_like(logit), logit], dim=1)


class ClassicCnn(OneSigmoid, Cnn):
    """`Cnn` with one sigmoid."""


class ClassicCnnLstm(OneSigmoid, CnnLstm):
    """`CnnLstm` with one sigmoid."""


def _make_classic(network: Callable[[int, bool], BeatNetwork], classes: int, rr: bool) -> BeatNetwork:
    if classes != 2 or rr:
        got = "the RR context" if rr else f"{classes} classes"
        raise ValueError(
            f"A network of the classic recipe takes windows of two classes, without RR context: got {got}."
        )
    made = network(1, False)
    made.classes = classes
    return made


CLASSIC: dict[str, Callable[[int, bool], BeatNetwork]] = {
    "cnn": partial(_make_classic, ClassicCnn),
    "cnn-lstm": partial(_make_classic, ClassicCnnLstm),
}
"""Networks of the classic recipe, as in `NETWORKS`."""

NETWORKS: dict[str, Callable[[int, bool], BeatNetwork]] = {
    "cnn": Cnn,
    "cnn-lstm": CnnLstm,
    "transformer": Transformer,
    "compact": Compact,
}
"""Name -> constructor, called with the number of classes and whether the network takes the RR context."""


def count_parameters(network: nn.Module) -> int:
    """Number of trainable parameters of a network."""
    return sum(weights.numel() for weights in network.parameters())


@torch.no_grad()
def logits(network: BeatNetwork, windows: Tensor, rr: Tensor, batch: int = 1024) -> Tensor:
    """Logits, network in evaluation mode: (n, 187), (n, 3) -> (n, classes) on the CPU."""
    device = next(network.parameters()).device
    network.eval()
    parts = [
        network(x.to(device), context.to(device) if network.takes_rr else None).float().cpu()
        for x, context in zip(torch.split(windows, batch), torch.split(rr, batch), strict=True)
    ]
    return torch.cat(parts)


def probabilities(network: BeatNetwork, windows: beat.Windows, rr: beat.RrContext) -> Floats:
    """Probability of each class, network in evaluation mode: (n, 187), (n, 3) -> (n, classes)."""
    p: Floats = logits(network, torch.from_numpy(windows), torch.from_numpy(rr)).softmax(1).numpy()
    return p
