/* The kernels of steps.cu for the processor, and the launches of its two kinds of kernels. */
#include "on_cpu.h"

#include "steps.cu"

template <typename... Types>
static void run(void (*kernel)(Types...), unsigned blocks, unsigned threads, Types... arguments)
{
    blockDim.x = threads;
    for (blockIdx.x = 0; blockIdx.x < blocks; blockIdx.x++)
        for (threadIdx.x = 0; threadIdx.x < threads; threadIdx.x++) kernel(arguments...);
}

extern "C" void launch_forward(void (*kernel)(FORWARD_ARGUMENTS), unsigned blocks, unsigned threads,
                               FORWARD_ARGUMENTS)
{
    run(kernel, blocks, threads, rows, units, z, bias, h_prev, c_prev, c, h, mask, masked,
        masked_rows);
}

extern "C" void launch_backward(void (*kernel)(BACKWARD_ARGUMENTS), unsigned blocks,
                                unsigned threads, BACKWARD_ARGUMENTS)
{
    run(kernel, blocks, threads, rows, units, z, product, product_rows, mask, dy, h, h_prev, c,
        c_prev, dh, dc, dp);
}
