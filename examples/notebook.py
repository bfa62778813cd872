# %% [markdown]
# # From beats to alerts: a notebook
#
# Two networks are trained on heartbeats as most publications do it, looked at, compared, exported, and put into the
# running monitor. It is plain Python: run it as it is, open it as a notebook with Jupytext or an editor that knows `#
# %%`, or read it.
#
# Data: the PTB heartbeat files in the layout of Kaggle's, below the folder that `ECGWATCH_DATA` names. Without them a
# few beats are drawn from the model that the simulator brings; then every figure is about beats that nobody ever had.
#
# Research software, not a medical device.

# %%
import os
import tempfile
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg" if os.environ.get("ECGWATCH_NOTEBOOK_QUIET") else mpl.get_backend())
from matplotlib import pyplot as plt

from monitor.classify import Classifier
from training import data, metrics
from training.fit import fit, read_history
from training.models import probabilities
from training.evaluate import load_run
from training.run import Recipe
from training.split import split_beats

EPOCHS = int(os.environ.get("ECGWATCH_NOTEBOOK_EPOCHS", "20"))
OUT = Path(os.environ.get("ECGWATCH_NOTEBOOK_OUT") or tempfile.mkdtemp(prefix="ecgwatch-"))

# %% [markdown]
# ## 1. Beats, loaded and looked at
#
# A row of the files is one beat: 187 samples at 125 Hz, scaled to 0..1, from its R peak on to 1.2 median RR intervals
# later, padded with zeros; then its label.


# %%
def find_beats() -> Path:
    """The PTB files, or a folder with drawn beats."""
    given = os.environ.get("ECGWATCH_DATA")
    if given and (Path(given) / "ptbdb" / "ptbdb_normal.csv").is_file():
        return Path(given) / "ptbdb"
    from simulator.beat_model import BeatModel

    folder = OUT / "beats"
    folder.mkdir(parents=True, exist_ok=True)
    model = BeatModel.load()
    for label, number in (("normal", 0), ("abnormal", 1)):
        rows, patients = [], []
        for patient in range(12):
            drawn = model.draw("normal" if number == 0 else "abnormal", 20, patient)
            rows += [",".join([*(f"{value:.5f}" for value in window), str(number)]) for window in drawn.windows]
            patients += [f"{label}{patient}"] * 20
        (folder / f"drawn_{label}.csv").write_text("\n".join(rows) + "\n")
        (folder / f"drawn_{label}_rows.csv").write_text("\n".join(["patient", *patients]) + "\n")
    return folder


folder = find_beats()
beats = data.load_beats([folder])
print(f"{len(beats)} beats of {len(set(beats.patients))} people from {folder}")

figure, axes = plt.subplots(1, 2, figsize=(9, 3), sharey=True)
for number, name in enumerate(beats.classes):
    of_class = beats.windows[beats.labels == number]
    axes[number].plot(np.arange(187) / 125, of_class[:30].T, color="#888888", linewidth=0.4)
    axes[number].plot(np.arange(187) / 125, of_class.mean(axis=0), color="#1a4e8a")
    axes[number].set(title=f"{name}: {len(of_class)} beats", xlabel="s after the R peak")
figure.savefig(OUT / "beats.png")

# %% [markdown]
# ## 2. Balance, and who may be on which side
#
# If beats of one person are on both sides of a split, a network is asked about people whom it knows: figures get far
# too good. Here no person is on two sides.

# %%
parts = split_beats(beats, "patient", 0, "70/15/15")
for part in ("train", "val", "test"):
    labels = beats.labels[parts == part]
    people = len(set(beats.patients[parts == part]))
    print(f"{part:<6} {labels.size:>6} beats of {people:>4} people, {labels.mean():.0%} abnormal")

# %% [markdown]
# ## 3. Two networks, by the classic recipe
#
# Adam at 1e-3, batches of 64, classes balanced in the training part, the learning rate halved when the validation
# loss stops falling, early stopping. The same as `ecgwatch train fit --recipe classic --net cnn` and `--net cnn-
# lstm`.

# %%
runs = {}
for net in ("cnn", "cnn-lstm"):
    recipe = Recipe(net, augment=False, epochs=EPOCHS, classic=True, shares="70/15/15")
    runs[net] = fit(recipe, [str(folder)], "patient", OUT / net, "examples/notebook.py")

figure, axes = plt.subplots(1, 2, figsize=(9, 3))
for axis, net in zip(axes, runs, strict=True):
    history = read_history(OUT / net)
    for key in ("loss", "val_loss"):
        if key in history[0]:
            axis.plot([row["epoch"] for row in history], [row[key] for row in history], label=key)
    axis.set(title=net, xlabel="epoch")
    axis.legend()
figure.savefig(OUT / "curves.png")

# %% [markdown]
# ## 4. What they do on people they have never met

# %%
test = parts == "test"
answers = {}
for net in runs:
    _, network = load_run(OUT / net)
    answers[net] = metrics.abnormal(probabilities(network, beats.windows[test], beats.rr[test]))

print(f"\n{'':<10}{'ROC-AUC':>9}{'sens.':>8}{'spec.':>8}{'parameters':>12}")
for net, p in answers.items():
    sick = beats.labels[test] > 0
    called = p >= 0.5
    area = metrics.auc(sick, p)
    sensitivity, specificity = (called & sick).sum() / sick.sum(), (~called & ~sick).sum() / (~sick).sum()
    print(f"{net:<10}{area:>9.3f}{sensitivity:>8.3f}{specificity:>8.3f}{runs[net].parameters:>12}")
    print(f"{'':<10}confusion: normal {(~called & ~sick).sum()} right, {(called & ~sick).sum()} wrong; "
          f"abnormal {(called & sick).sum()} right, {(~called & sick).sum()} wrong")  # fmt: skip

# %% [markdown]
# ## 5. One of them as a file that describes itself
#
# The export proves that ONNX Runtime answers as PyTorch does before it writes anything. The same as `ecgwatch export
# onnx`.

# %%
from export.__main__ import main as export_main

best = max(answers, key=lambda net: metrics.auc(beats.labels[test] > 0, answers[net]))
model = OUT / f"{best}.onnx"
assert export_main(["onnx", str(OUT / best), "--out", str(model)]) == 0

# %% [markdown]
# ## 6. One beat, judged with its confidence

# %%
classifier = Classifier(model)
window = beats.windows[test][:1]
p = float(classifier.abnormal(classifier.probabilities(window))[0])
verdict = "abnormal" if p >= classifier.info.threshold else "normal"
truth = beats.classes[int(beats.labels[test][0])]
print(f"the beat is {truth}; the model says {verdict}, with confidence {p if verdict == 'abnormal' else 1 - p:.3f}")

# %% [markdown]
# ## 7. The model in the running monitor
#
# On the command line: `ecgwatch run --model MODEL.onnx`. Here the monitor's engine, without a broker, on a minute of
# signal.

# %%
from analysis.examine import examine
from recordings.recording import make_recording

rate_hz = 250.0
seconds = np.arange(0, 60, 1 / rate_hz)
signal_uv = sum(
    height * np.exp(-(((seconds % 0.8) - 0.4 - offset) ** 2) / (2 * width**2))
    for offset, height, width in [(-0.2, 120, 0.025), (0, 1000, 0.011), (0.03, -200, 0.01), (0.25, 300, 0.05)]
)
found = examine(make_recording("minute", rate_hz, "II", np.asarray(signal_uv), []), classifier)
named = {label: found.labels.count(label) for label in dict.fromkeys(found.labels)}
print(f"{len(found.beats)} beats: {named}; alerts: {[alert.kind for alert in found.alerts if alert.state == 'new']}")
print(f"\nfiles of this notebook: {OUT}")
