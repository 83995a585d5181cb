/* Which kernels to use: the widest that the machine has, or the ones that S2C_SIMD names. */
#include "internal.h"

#include <stdlib.h>

static int available(const s2c_kernels *kernels)
{
#ifdef S2C_HAVE_AVX2
    if (kernels == &s2c_avx2_kernels)
        return __builtin_cpu_supports("avx2") != 0;
#endif
    return kernels == &s2c_scalar_kernels;
}

const s2c_kernels *s2c_choose_kernels(void)
{
    static const s2c_kernels *const all[] = {
#ifdef S2C_HAVE_AVX2
        &s2c_avx2_kernels,
#endif
        &s2c_scalar_kernels,
    };
    const char *wanted = getenv("S2C_SIMD");

    for (size_t k = 0; k < sizeof all / sizeof *all; k++)
        if (wanted == NULL || *wanted == 0 ? available(all[k]) : strcmp(wanted, all[k]->name) == 0)
            return available(all[k]) ? all[k] : NULL;
    return NULL;
}
