/* The kernels' tables that were built, and which of them this processor can run. */
#ifndef FRN_DISPATCH_H
#define FRN_DISPATCH_H

#include "kernels.h"

typedef struct {
    const char *name;
    int tuned;                   /* the packed engine is fast with it: the default product engine */
    int (*usable)(void);         /* by processor and operating system */
    const frn_kernels *table[2]; /* float32, float64 */
} frn_isa;

/* Best first; the entry with name NULL ends it. */
extern const frn_isa frn_isas[];

/* The compiler of the kernels, as it names itself. */
extern const char frn_compiler[];

#endif
