"""A device that loses nothing: it publishes ECG packets, and keeps each until the monitor acknowledges it.

python examples/device.py [DEVICE [HOST [PORT]]]
"""

import json
import math
import signal
import sys
import time
from typing import Any

import paho.mqtt.client as mqtt

device, host, port = (*sys.argv[1:], *("my-device", "127.0.0.1", "1883")[len(sys.argv) - 1 :])
RATE_HZ, TOPIC = 250, f"ecg/v1/{device}"
WAVES = [(-0.20, 120, 0.035), (-0.035, -120, 0.014), (0.0, 1000, 0.016), (0.035, -200, 0.014), (0.25, 300, 0.07)]
# P, Q, R, S and T of a healthy beat: s from its R peak, microvolts, width in s
kept: dict[int, str] = {}  # packets that the monitor may still need, by sequence number


def on_connect(client: mqtt.Client, *_: Any) -> None:
    """Subscribe, say what the device is, and send again what the monitor may not have."""
    client.subscribe([(f"{TOPIC}/ack", 0), (f"{TOPIC}/error", 0)])  # first: what is wrong with the rest comes there
    client.publish(f"{TOPIC}/info", json.dumps({"rate_hz": RATE_HZ, "lead": "II", "resolution_uv": 1.0}), 1, True)
    client.publish(f"{TOPIC}/status", '{"state": "online"}', 1, True)
    for seq in sorted(kept):
        client.publish(f"{TOPIC}/samples", kept[seq], qos=1)


def on_message(_client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
    """Drop what the monitor has committed; print what it could not use."""
    content = json.loads(message.payload)
    if message.topic.endswith("/error"):
        print(f"the monitor cannot use what was sent: {content['text']}", file=sys.stderr)
    else:
        for seq in [seq for seq in kept if seq < content["seq"]]:  # `seq` is the first packet still needed
            del kept[seq]


client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, device)
client.on_connect, client.on_message = on_connect, on_message
client.will_set(f"{TOPIC}/status", '{"state": "offline"}', qos=1, retain=True)
try:
    client.connect(host, int(port))
except OSError as error:
    sys.exit(f"no broker at {host}:{port}: {error}")
signal.signal(signal.SIGINT, signal.SIG_DFL)  # end at Ctrl-C without a traceback
client.loop_start()
begin_s = time.time()
for seq in range(10**9):
    phases_s = [(seq + i / RATE_HZ) % 0.8 - 0.4 for i in range(RATE_HZ)]  # a second of 75 beats a minute
    samples = [round(sum(h * math.exp(-(((t - at) / w) ** 2)) for at, h, w in WAVES)) for t in phases_s]
    packet = {"seq": seq, "start_s": begin_s + seq, "rate_hz": RATE_HZ, "samples": samples}
    kept[seq] = json.dumps(packet)
    client.publish(f"{TOPIC}/samples", kept[seq], qos=1)
    time.sleep(max(0.0, begin_s + seq + 1 - time.time()))
