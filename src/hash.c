/* A 64-bit hash of weights, to see whether they have changed since they were packed.
 *
 * Not for adversaries: whoever can write the weights needs no collision.  Four independent lanes of
 * 64 x 64 -> 128-bit products, folded, keep up with L2; the lanes meet in the same mixer.
 */
#include "hash.h"

#include <string.h>

#define PRIME_A UINT64_C(0x9E3779B97F4A7C15)
#define PRIME_B UINT64_C(0xD6E8FEB86659FD93)

static inline uint64_t fold(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t load(const unsigned char *p)
{
    uint64_t word;
    memcpy(&word, p, sizeof word);
    return word;
}

uint64_t frn_hash(const void *data, size_t bytes, uint64_t seed)
{
    const unsigned char *p = data;
    uint64_t lane[4] = {seed ^ PRIME_A, seed + PRIME_B, seed ^ PRIME_B, seed + PRIME_A};
    size_t left = bytes;
    for (; left >= 64; left -= 64, p += 64)
        for (int i = 0; i < 4; i++)
            /* the lane is added back: a zero factor must not wipe out what came before it */
            lane[i] = fold(load(p + 16 * i) ^ lane[i], load(p + 16 * i + 8) ^ PRIME_A) +
                      (lane[i] << 1 | lane[i] >> 63);
    unsigned char tail[64] = {0};
    memcpy(tail, p, left);
    for (int i = 0; i < 4; i++)
        lane[i] = fold(load(tail + 16 * i) ^ lane[i], load(tail + 16 * i + 8) ^ PRIME_A) +
                  (lane[i] << 1 | lane[i] >> 63);
    uint64_t hash = bytes ^ PRIME_B;
    for (int i = 0; i < 4; i++) hash = fold(hash ^ lane[i], PRIME_A + 2 * (uint64_t)i);
    return hash;
}
