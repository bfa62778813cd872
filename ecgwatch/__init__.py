"""The one command, ``ecgwatch``: the verbs of monitor, simulator, training and export together."""
