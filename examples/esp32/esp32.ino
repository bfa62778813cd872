// ECG from an ADC pin of an ESP32 to ecgwatch, with PubSubClient (which publishes QoS 0 only: what is sent while the
// connection is down is lost). Not compiled by our tests; packet.c is.
#include <PubSubClient.h>
#include <WiFi.h>
#include <time.h>
extern "C" {
#include "packet.h"
}

const int RATE_HZ = 250, PIN = 34;
WiFiClient net;
PubSubClient mqtt(net);
int16_t samples[RATE_HZ];
uint8_t packet[ECG_PACKET_SIZE(RATE_HZ)];
uint32_t seq = 0;

void setup() {
    WiFi.begin("network", "password");
    while (WiFi.status() != WL_CONNECTED) delay(100);
    configTime(0, 0, "pool.ntp.org");  // start_ms needs a clock; without one any steady count of milliseconds will do
    mqtt.setServer("broker.example.org", 1883);
    mqtt.setBufferSize(sizeof packet + 64);  // 256 bytes by default: larger packets are dropped in silence
}

void loop() {
    while (!mqtt.connected()) {
        mqtt.connect("my-device", "ecg/v1/my-device/status", 1, true, "{\"state\": \"offline\"}");
        mqtt.publish("ecg/v1/my-device/info", "{\"rate_hz\": 250, \"lead\": \"I\", \"resolution_uv\": 0.8}", true);
    }
    struct timeval now;
    gettimeofday(&now, nullptr);
    uint64_t start_ms = now.tv_sec * 1000ULL + now.tv_usec / 1000;
    uint32_t due_us = micros();
    for (int i = 0; i < RATE_HZ; i++, due_us += 1000000 / RATE_HZ) {
        while ((int32_t)(micros() - due_us) < 0) {}
        samples[i] = analogRead(PIN);
    }
    size_t size = ecg_packet(packet, seq++, start_ms, RATE_HZ, samples, RATE_HZ);
    mqtt.publish("ecg/v1/my-device/samples", packet, size);
    mqtt.loop();
}
