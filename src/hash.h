#ifndef FRN_HASH_H
#define FRN_HASH_H

#include <stddef.h>
#include <stdint.h>

/* A 64-bit hash of bytes, to see whether weights have changed. */
uint64_t frn_hash(const void *data, size_t bytes, uint64_t seed);

#endif
