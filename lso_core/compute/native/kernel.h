/* What all kernels share. Each is given a length with every pointer, keeps nothing, and never says a word. */
#ifndef LSO_KERNEL_H
#define LSO_KERNEL_H

#include <float.h>
#include <stddef.h>
#include <stdint.h>

/* What is stored is little-endian, and results must be those of Python's doubles bit for bit. */
#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "LSO's kernels are for little-endian machines"
#endif
#if FLT_EVAL_METHOD != 0 || DBL_MANT_DIG != 53 || defined(__FAST_MATH__)
#error "LSO's kernels need doubles that are rounded as IEEE 754 has it"
#endif

#define LSO_EXPORT __attribute__((visibility("default")))
#define LSO_LIKELY(condition) __builtin_expect(!!(condition), 1)

#endif
