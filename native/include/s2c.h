/* s2c.h - the entropy coder of s2c-deploy: public interface.  C11 and C++, no dependency but libc. */
#ifndef S2C_H
#define S2C_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#ifdef S2C_BUILDING
#define S2C_API __declspec(dllexport)
#else
#define S2C_API __declspec(dllimport)
#endif
#else
#define S2C_API __attribute__((visibility("default")))
#endif

/* CRC-32C (Castagnoli, as in iSCSI) of size bytes, continuing from value: crc32c(b, crc32c(a, 0)) is the
 * checksum of a followed by b.  data may be NULL when size is 0. */
S2C_API uint32_t s2c_crc32c(const void *data, size_t size, uint32_t value);

#ifdef __cplusplus
}
#endif
#endif
