#include "s2c.h"

uint32_t s2c_version(void)
{
    return S2C_VERSION;
}

const char *s2c_strerror(s2c_status status)
{
    switch (status) {
    case S2C_OK: return "no error";
    case S2C_ERR_ARGUMENT: return "an argument is null or out of its range";
    case S2C_ERR_MEMORY: return "out of memory";
    case S2C_ERR_CAPACITY: return "the output buffer is too small";
    case S2C_ERR_INDEX: return "an index names no table";
    case S2C_ERR_SYMBOL: return "a symbol is outside [-32767, 32767]";
    case S2C_ERR_SKIPPED: return "a symbol under a skipped index is not zero";
    case S2C_ERR_SIMD: return "S2C_SIMD names no kernels, or some that this machine cannot run";
    case S2C_ERR_TABLE_SIZE: return "a table has fewer than 2 or more than 256 entries";
    case S2C_ERR_TABLE_FREQ: return "a table has a frequency of zero or does not sum to 4096";
    case S2C_ERR_TABLE_CENTER: return "a table's center is outside [-32767, 32767]";
    case S2C_ERR_TABLE_SHIFT: return "a table's shift is above 15";
    case S2C_ERR_LANES: return "the lane byte is above 6";
    case S2C_ERR_SPLIT: return "the split is malformed or not where an encoder would put it";
    case S2C_ERR_TRUNCATED: return "the payload ends inside the lane states";
    case S2C_ERR_STATE: return "a lane state is out of its range";
    case S2C_ERR_WORDS: return "the payload has too few words";
    case S2C_ERR_BYPASS: return "the payload has too few bypass bits";
    case S2C_ERR_RANGE: return "a decoded symbol is outside [-32767, 32767]";
    case S2C_ERR_BODY: return "words and bypass overlap, or bytes are left between them";
    case S2C_ERR_FINAL_STATE: return "a lane does not end in an initial state";
    case S2C_ERR_PADDING: return "the padding of the last bypass byte is not zero";
    case S2C_ERR_PARTS: return "the number or the sizes of the parts are malformed";
    }
    return "unknown status";
}
