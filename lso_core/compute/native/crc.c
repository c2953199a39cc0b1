#include "crc.h"

/* What four bits more make of a checksum. */
static const uint32_t FOUR_BITS[16] = {0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4,
                                       0x4db26158, 0x5005713c, 0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
                                       0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c};

static uint32_t by_table(const uint8_t *data, int64_t size, uint32_t crc)
{
    for (int64_t at = 0; at < size; at++) {
        crc ^= data[at];
        crc = crc >> 4 ^ FOUR_BITS[crc & 15];
        crc = crc >> 4 ^ FOUR_BITS[crc & 15];
    }
    return crc;
}

#if defined(__x86_64__)

#include <immintrin.h>

/* Polynomials over GF(2), their bits in reverse as in all of CRC-32. A block of 128 bits that stands n bits before another
   one counts in that place as its two halves times x^(n + 32) and x^(n - 32), modulo the polynomial. So four blocks are
   carried over 64 bytes at a time, folded to one, and the remainder of that one is found by Barrett's method. These are
   the numbers of Gopal et al., "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ" (Intel, 2009). */
#define OVER_512 _mm_set_epi64x(0x1c6e41596, 0x154442bd4)
#define OVER_128 _mm_set_epi64x(0x0ccaa009e, 0x1751997d0)
#define OVER_64 _mm_set_epi64x(0, 0x163cd6124)
#define REDUCE _mm_set_epi64x(0x1f7011641, 0x1db710641)

#define CARRYLESS __attribute__((target("pclmul,sse4.1")))

CARRYLESS static __m128i load(const uint8_t *data)
{
    return _mm_loadu_si128((const __m128i *)(const void *)data);
}

CARRYLESS static __m128i carry(__m128i block, __m128i over, __m128i onto)
{
    __m128i low = _mm_clmulepi64_si128(block, over, 0x00), high = _mm_clmulepi64_si128(block, over, 0x11);
    return _mm_xor_si128(_mm_xor_si128(low, high), onto);
}

CARRYLESS static uint32_t remainder_of(__m128i block)
{
    const __m128i low_32 = _mm_set_epi32(0, -1, 0, -1);
    __m128i sum = _mm_xor_si128(_mm_srli_si128(block, 8), _mm_clmulepi64_si128(block, OVER_128, 0x10));
    sum = _mm_xor_si128(_mm_srli_si128(sum, 4), _mm_clmulepi64_si128(_mm_and_si128(sum, low_32), OVER_64, 0x00));
    __m128i quotient = _mm_clmulepi64_si128(_mm_and_si128(sum, low_32), REDUCE, 0x10);
    __m128i product = _mm_clmulepi64_si128(_mm_and_si128(quotient, low_32), REDUCE, 0x00);
    return (uint32_t)_mm_extract_epi32(_mm_xor_si128(sum, product), 1);
}

LSO_EXPORT int lso_has_crc32(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
}

CARRYLESS static uint32_t by_blocks(const uint8_t *data, int64_t size, uint32_t before)
{
    __m128i blocks[4];
    for (int at = 0; at < 4; at++)
        blocks[at] = load(data + 16 * at);
    blocks[0] = _mm_xor_si128(blocks[0], _mm_cvtsi32_si128((int)before));
    int64_t done = 64;
    for (; size - done >= 64; done += 64)
        for (int at = 0; at < 4; at++)
            blocks[at] = carry(blocks[at], OVER_512, load(data + done + 16 * at));
    __m128i block = blocks[0];
    for (int at = 1; at < 4; at++)
        block = carry(block, OVER_128, blocks[at]);
    for (; size - done >= 16; done += 16)
        block = carry(block, OVER_128, load(data + done));
    return by_table(data + done, size - done, remainder_of(block));
}

#else

LSO_EXPORT int lso_has_crc32(void)
{
    return 0;
}

#define by_blocks by_table

#endif

LSO_EXPORT uint32_t lso_crc32(const uint8_t *data, int64_t size, uint32_t before)
{
    return ~(size >= 64 && lso_has_crc32() ? by_blocks : by_table)(data, size, ~before);
}
