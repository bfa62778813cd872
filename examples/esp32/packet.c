#include "packet.h"
#include <string.h>

static uint8_t *key(uint8_t *p, const char *name) { /* fixstr */
    size_t n = strlen(name);
    *p++ = (uint8_t)(0xa0 | n);
    memcpy(p, name, n);
    return p + n;
}

static uint8_t *big_endian(uint8_t *p, uint8_t tag, uint64_t value, int bytes) {
    *p++ = tag;
    while (bytes-- > 0) *p++ = (uint8_t)(value >> (8 * bytes));
    return p;
}

size_t ecg_packet(uint8_t *out, uint32_t seq, uint64_t start_ms, float rate_hz, const int16_t *samples, uint16_t n) {
    uint8_t *p = out;
    uint32_t rate_bits;
    memcpy(&rate_bits, &rate_hz, sizeof rate_bits);
    *p++ = 0x84; /* a map of four */
    p = big_endian(key(p, "seq"), 0xce, seq, 4);
    p = big_endian(key(p, "start_ms"), 0xcf, start_ms, 8);
    p = big_endian(key(p, "rate_hz"), 0xca, rate_bits, 4);
    p = big_endian(key(p, "samples"), 0xc5, 2u * n, 2); /* bin: int16, little-endian */
    for (uint16_t i = 0; i < n; i++) {
        *p++ = (uint8_t)((uint16_t)samples[i] & 0xff);
        *p++ = (uint8_t)((uint16_t)samples[i] >> 8);
    }
    return (size_t)(p - out);
}
