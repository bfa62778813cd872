"""From recorded beats to device streams over MQTT, with their ground truth."""
