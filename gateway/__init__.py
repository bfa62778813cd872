"""Wearables that do not speak MQTT, brought to the wire: a gateway reads one and publishes as its device."""
