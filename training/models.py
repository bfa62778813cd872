"""The networks: (n, 187) beat windows -> (n, 1) logits of being abnormal."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def _block(channels_in: int, channels_out: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(channels_in, channels_out, kernel, padding=kernel // 2),
        nn.BatchNorm1d(channels_out),
        nn.ReLU(),
        nn.MaxPool1d(2),
    )


class Cnn(nn.Module):
    """Four convolution blocks, global average pooling, a fully connected head: 184 thousand parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(_block(1, 32, 7), _block(32, 64, 5), _block(64, 128, 5), _block(128, 256, 3))
        self.head = nn.Sequential(nn.Linear(256, 128), nn.ReLU(), nn.Dropout(0.3), nn.Linear(128, 1))

    def forward(self, windows: Tensor) -> Tensor:
        """(n, 187) float32 in 0..1 -> (n, 1) logits."""
        x = self.blocks(windows.unsqueeze(1))  # (n, 256, 11)
        logits: Tensor = self.head(x.mean(dim=2))  # (n, 1)
        return logits


class CnnLstm(nn.Module):
    """Three convolution blocks, an LSTM over their 23 steps, a fully connected head: 102 thousand parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(_block(1, 32, 7), _block(32, 64, 5), _block(64, 128, 5))
        self.lstm = nn.LSTM(128, 64, batch_first=True)
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(64, 1))

    def forward(self, windows: Tensor) -> Tensor:
        """(n, 187) float32 in 0..1 -> (n, 1) logits."""
        x = self.blocks(windows.unsqueeze(1))  # (n, 128, 23)
        _, (last, _) = self.lstm(x.transpose(1, 2))  # (1, n, 64)
        logits: Tensor = self.head(last[0])  # (n, 1)
        return logits


NETWORKS: dict[str, type[Cnn] | type[CnnLstm]] = {"cnn": Cnn, "cnn-lstm": CnnLstm}


def count_parameters(network: nn.Module) -> int:
    """Trainable numbers in a network."""
    return sum(weights.numel() for weights in network.parameters())


def probabilities(network: nn.Module, windows: Tensor, batch: int = 1024) -> Tensor:
    """Probability of being abnormal, network in evaluation mode: (n, 187) -> (n,) on the CPU."""
    device = next(network.parameters()).device
    network.eval()
    with torch.no_grad():
        parts = [torch.sigmoid(network(part.to(device)))[:, 0].cpu() for part in torch.split(windows, batch)]
    return torch.cat(parts)
