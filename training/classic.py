"""The recipe that most publications on these beats use, to repeat what they did.

Adam at 1e-3, batches of 64, binary cross-entropy on one sigmoid, classes balanced by drawing rows of the smaller one
again, in the training part only; the learning rate is halved when the validation loss stops falling, training ends when
it has not fallen for longer, and the weights of the best epoch are kept. No augmentation. A beat counts as abnormal
from a probability of one half.

After Kachuee, Fazeli and Sarrafzadeh, "ECG Heartbeat Classification: A Deep Transferable Representation" (2018), for
data and windows; the networks and the schedule are those of the public notebooks on these data.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as f

from training import data, metrics, models

BATCH = 64
EPOCHS = 60
LEARNING_RATE = 1e-3
PLATEAU_EPOCHS = 3
"""Epochs without a lower validation loss after which the learning rate is halved."""
STOP_EPOCHS = 10
"""Epochs without one after which training ends."""
THRESHOLD = 0.5

Ints = npt.NDArray[np.int64]


def train_classic(
    network: models.BeatNetwork,
    beats: data.Beats,
    train: Ints,
    val: Ints,
    epochs: int,
    seed: int,
    on_epoch: Callable[[dict[str, float]], None],
) -> models.BeatNetwork:
    """Train a network of `training.models.CLASSIC`.

    Parameters
    ----------
    network
        Untrained, on the device to train on.
    beats
        n beats of two classes.
    train, val
        Row numbers: the beats it learns from, and those that decide on learning rate, end, and best epoch.
    epochs
        At most.
    seed
        Of the order of the rows.
    on_epoch
        Called after each epoch with its row of `history.csv`.

    Returns
    -------
    BeatNetwork
        As it was after the best epoch, in evaluation mode, on the CPU.
    """
    device = next(network.parameters()).device
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=PLATEAU_EPOCHS)
    windows = torch.from_numpy(beats.windows).to(device)  # (n, 187)
    targets = torch.from_numpy((beats.labels > 0).astype(np.float32)).to(device)  # (n,)
    best, best_loss, best_epoch = copy.deepcopy(network.state_dict()), math.inf, 0
    started = time.monotonic()
    for epoch in range(1, epochs + 1):
        network.train()
        losses, predicted, true = [], [], []
        order = torch.from_numpy(rng.permutation(balance(beats.labels, train, rng))).to(device)
        for rows in torch.split(order, BATCH):
            if len(rows) < 2:
                continue  # batch normalisation needs two
            logits = network(windows[rows])  # (64, 2)
            loss = f.binary_cross_entropy_with_logits(logits[:, 1] - logits[:, 0], targets[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call] # torch leaves it untyped
            optimizer.step()
            losses.append(loss.item())
            predicted.append(logits.detach().softmax(1)[:, 1].cpu())
            true.append(targets[rows].cpu() > 0)
        val_loss, val_auc = _validate(network, beats, val)
        schedule.step(val_loss)
        row = {
            "epoch": float(epoch),
            "loss": float(np.mean(losses)),
            "train_auc": metrics.auc(torch.cat(true).numpy(), torch.cat(predicted).numpy()),
            "val_loss": val_loss,
            "val_auc": val_auc,
            "seconds": time.monotonic() - started,
        }
        on_epoch(row)
        if val_loss < best_loss:
            best, best_loss, best_epoch = copy.deepcopy(network.state_dict()), val_loss, epoch
        elif epoch - best_epoch >= STOP_EPOCHS:
            break
    network.load_state_dict(best)
    return network.cpu().eval()


def balance(labels: Ints, rows: Ints, rng: np.random.Generator) -> Ints:
    """Return the rows, and as many rows of the smaller classes drawn again as make all equally large.

    Parameters
    ----------
    labels
        (n,) of all beats.
    rows
        (k,) row numbers.
    """
    of_class = [rows[labels[rows] == label] for label in np.unique(labels[rows])]
    most = max(len(one) for one in of_class)
    return np.concatenate([np.concatenate([one, rng.choice(one, most - len(one))]) for one in of_class])


def _validate(network: models.BeatNetwork, beats: data.Beats, val: Ints) -> tuple[float, float]:
    """Return loss and ROC-AUC on the validation part."""
    logits = models.logits(network, torch.from_numpy(beats.windows[val]), torch.from_numpy(beats.rr[val]))
    true = torch.from_numpy(beats.labels[val] > 0)
    loss = f.binary_cross_entropy_with_logits(logits[:, 1] - logits[:, 0], true.float())
    return float(loss), metrics.auc(true.numpy(), logits.softmax(1)[:, 1].numpy())
