/*
 * quant: GGUF weight blocks on the device, after kernels/quant.c, whose results it gives bit for
 * bit. Every format is brought to one form: 32 weights ("a group") are one part or two, each with
 * a scale, of words of four unsigned numbers; a weight is scale * (number - bias) + min. Numbers
 * become floats by one permutation and one subtraction.
 *
 * A block may begin at any even address. Its bytes are read through quant_far (global memory, two
 * halves of a word, when the word is asked for) or quant_near (shared memory, aligned words that
 * are shifted, all at once; the word behind the last is read as well, which must be there, with any
 * value).
 */
#ifndef KERNELS_CUDA_QUANT_CUH
#define KERNELS_CUDA_QUANT_CUH

#include "kernels/cuda/kernel.cuh"

#define QUANT_GROUP 32

/* `count` words from p on. */
template <int count> struct quant_far {
    const uint16_t *half;

    __device__ quant_far(const uint8_t *p) : half(reinterpret_cast<const uint16_t *>(p))
    {
    }
    __device__ uint32_t word(int j) const
    {
        return half[2 * j] | (uint32_t)half[2 * j + 1] << 16;
    }
};
template <int count> struct quant_near {
    uint32_t words[count];

    __device__ quant_near(const uint8_t *p)
    {
        unsigned off = (unsigned)((uintptr_t)p & 3);
        const uint32_t *aligned = reinterpret_cast<const uint32_t *>(p - off);
        uint32_t low = aligned[0];
#pragma unroll
        for (int i = 0; i < count; i++) {
            uint32_t high = aligned[i + 1];
            words[i] = __funnelshift_r(low, high, 8 * off);
            low = high;
        }
    }
    __device__ uint32_t word(int j) const
    {
        return words[j];
    }
};

__device__ static inline float quant_half(const uint8_t *p)
{
    return to_float(*reinterpret_cast<const f16 *>(p));
}

/* A format. `part` is made from the first byte of a block, the group in it (sub) and the part of
   the group (s): word j of it holds weights 4 j to 4 j + 3 of the part. */
template <int COLUMNS, int BYTES, int BIAS, int PARTS, bool MIN> struct quant_format {
    static constexpr int columns = COLUMNS, bytes = BYTES, bias = BIAS;
    static constexpr int parts = PARTS, words = 8 / PARTS;
    static constexpr bool has_min = MIN;

    __device__ static float scale(const uint8_t *block, int, int)
    {
        return quant_half(block);
    }
    __device__ static float min(const uint8_t *, int)
    {
        return 0;
    }
};

template <enum dtype t> struct quant;

template <> struct quant<DTYPE_Q8_0> : quant_format<32, 34, 128, 1, false> {
    template <template <int> class Read> struct part {
        Read<8> numbers;

        __device__ part(const uint8_t *block, int, int) : numbers(block + 2)
        {
        }
        __device__ uint32_t word(int j) const
        {
            return numbers.word(j) ^ 0x80808080u; /* signed to unsigned */
        }
    };
};

/* 16 bytes of nibbles: the low ones are the first half of a group. */
template <int offset, template <int> class Read> struct quant_nibbles {
    Read<4> numbers;

    __device__ quant_nibbles(const uint8_t *block, int, int) : numbers(block + offset)
    {
    }
    __device__ uint32_t word(int j) const
    {
        return (numbers.word(j % 4) >> j / 4 * 4) & 0x0f0f0f0fu;
    }
};

template <> struct quant<DTYPE_Q4_0> : quant_format<32, 18, 8, 1, false> {
    template <template <int> class Read> using part = quant_nibbles<2, Read>;
};

template <> struct quant<DTYPE_Q4_1> : quant_format<32, 20, 0, 1, true> {
    template <template <int> class Read> using part = quant_nibbles<4, Read>;
    __device__ static float min(const uint8_t *block, int)
    {
        return quant_half(block + 2);
    }
};

/* 32 fifth bits, then the nibbles. */
template <int offset, template <int> class Read> struct quant_fives {
    Read<5> numbers;

    __device__ quant_fives(const uint8_t *block, int, int) : numbers(block + offset)
    {
    }
    __device__ uint32_t word(int j) const
    {
        /* Bit i of the four goes to bit 8 i by the product, and on to 8 i + 4. */
        uint32_t fifth = (numbers.word(0) >> 4 * j & 15) * 0x00204081u & 0x01010101u;
        return (numbers.word(1 + j % 4) >> j / 4 * 4 & 0x0f0f0f0fu) | fifth << 4;
    }
};

template <> struct quant<DTYPE_Q5_0> : quant_format<32, 22, 16, 1, false> {
    template <template <int> class Read> using part = quant_fives<2, Read>;
};

template <> struct quant<DTYPE_Q5_1> : quant_format<32, 24, 0, 1, true> {
    template <template <int> class Read> using part = quant_fives<4, Read>;
    __device__ static float min(const uint8_t *block, int)
    {
        return quant_half(block + 2);
    }
};

/* Scales and minima of eight groups in 12 bytes. */
template <int BYTES> struct quant_eight : quant_format<256, BYTES, 0, 1, true> {
    __device__ static float scale(const uint8_t *block, int sub, int)
    {
        const uint8_t *p = block + 4;
        int s = sub < 4 ? p[sub] & 63 : (p[sub + 4] & 15) | p[sub - 4] >> 6 << 4;
        return quant_half(block) * (float)s;
    }
    __device__ static float min(const uint8_t *block, int sub)
    {
        const uint8_t *p = block + 4;
        int s = sub < 4 ? p[sub + 4] & 63 : p[sub + 4] >> 4 | p[sub] >> 6 << 4;
        return -(quant_half(block + 2) * (float)s);
    }
};

/* Two groups share 32 bytes, the first in the low nibbles. */
template <> struct quant<DTYPE_Q4_K> : quant_eight<144> {
    template <template <int> class Read> struct part {
        Read<8> numbers;
        int shift;

        __device__ part(const uint8_t *block, int sub, int)
            : numbers(block + 16 + sub / 2 * 32), shift(sub % 2 * 4)
        {
        }
        __device__ uint32_t word(int j) const
        {
            return numbers.word(j) >> shift & 0x0f0f0f0fu;
        }
    };
};

/* The same behind 32 bytes of fifth bits, bit i of each that of group i. */
template <> struct quant<DTYPE_Q5_K> : quant_eight<176> {
    template <template <int> class Read> struct part {
        Read<8> numbers, fifths;
        int group;

        __device__ part(const uint8_t *block, int sub, int)
            : numbers(block + 48 + sub / 2 * 32), fifths(block + 16), group(sub)
        {
        }
        __device__ uint32_t word(int j) const
        {
            return (numbers.word(j) >> group % 2 * 4 & 0x0f0f0f0fu) |
                (fifths.word(j) >> group & 0x01010101u) << 4;
        }
    };
};

/* Four bits of a number in 128 bytes, two in the next 64, then 16 signed scales of 16 weights. */
template <> struct quant<DTYPE_Q6_K> : quant_format<256, 210, 32, 2, false> {
    template <template <int> class Read> struct part {
        Read<4> low, high;
        int quarter;

        __device__ part(const uint8_t *block, int sub, int s)
            : low(block + sub / 4 * 64 + sub % 2 * 32 + 16 * s),
              high(block + 128 + sub / 4 * 32 + 16 * s), quarter(sub % 4)
        {
        }
        __device__ uint32_t word(int j) const
        {
            return (low.word(j) >> quarter / 2 * 4 & 0x0f0f0f0fu) |
                (high.word(j) >> 2 * quarter & 0x03030303u) << 4;
        }
    };
    __device__ static float scale(const uint8_t *block, int sub, int s)
    {
        return quant_half(block + 208) * (float)(int8_t)block[192 + 2 * sub + s];
    }
};

/* The four numbers of a word less the bias, exact: a byte below the exponent of 2^23 is 2^23 +
   it. */
template <int bias> __device__ static inline void quant_numbers(uint32_t word, float out[4])
{
#pragma unroll
    for (int i = 0; i < 4; i++)
        out[i] = __uint_as_float(__byte_perm(word, 0x4b000000u, 0x7440u + (unsigned)i)) -
            (float)(8388608 + bias);
}

/* Weights 4 i to 4 i + 3 behind x, the first byte of a block. */
template <class Q> __device__ static inline pack<float, 4> quant_four(const uint8_t *x, int64_t i)
{
    constexpr int each = Q::columns / 4;
    const uint8_t *block = x + i / each * Q::bytes;
    int at = (int)(i % each), sub = at / 8, s = at % 8 / Q::words;
    typename Q::template part<quant_far> part(block, sub, s);
    float scale = Q::scale(block, sub, s), min = Q::min(block, sub);
    pack<float, 4> v;
    quant_numbers<Q::bias>(part.word(at % Q::words), v.e);
#pragma unroll
    for (int k = 0; k < 4; k++)
        v.e[k] = scale * v.e[k] + min;
    return v;
}

#endif
