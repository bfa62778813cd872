/* One packet of ECG samples as ecgwatch reads it: MessagePack, a map of four fields. Plain C99, no allocation. */
#ifndef ECGWATCH_PACKET_H
#define ECGWATCH_PACKET_H
#include <stddef.h>
#include <stdint.h>

/* Bytes that a packet of n samples needs. */
#define ECG_PACKET_SIZE(n) (60 + 2 * (size_t)(n))

/* Write a packet into `out`; return its size in bytes.
 *   seq      counts the packets, from 0
 *   start_ms time of the first sample, milliseconds since 1970 (UTC)
 *   rate_hz  sampling rate
 *   samples  n of them, in ADC counts; INT16_MIN where there is none */
size_t ecg_packet(uint8_t *out, uint32_t seq, uint64_t start_ms, float rate_hz, const int16_t *samples, uint16_t n);

#endif
