/* The root of a tree over two equal subtrees, with the SHA instructions of x86: two messages at once, because
   each instruction waits for the previous one of its message. */

#include <immintrin.h>

#define NI __attribute__((target("sha,sse4.1,ssse3")))
#define EACH _Pragma("GCC unroll 2") for (int lane = 0; lane < 2; lane++)

typedef uint32_t ni_nodes[2][8]; /* one node for each lane */

/* Write the parents of `left` and `right` to `parent`, which may be either of them. */
NI static __attribute__((noinline)) void ni_parent(ni_nodes parent, const ni_nodes left,
                                                               const ni_nodes right)
{
    const __m128i abef = _mm_set_epi32((int)INITIAL[0], (int)INITIAL[1], (int)INITIAL[4], (int)INITIAL[5]);
    const __m128i cdgh = _mm_set_epi32((int)INITIAL[2], (int)INITIAL[3], (int)INITIAL[6], (int)INITIAL[7]);
    __m128i w[2][4], x[2], y[2], first_x[2], first_y[2];
    EACH {
        w[lane][0] = _mm_loadu_si128((const __m128i *)&left[lane][0]);
        w[lane][1] = _mm_loadu_si128((const __m128i *)&left[lane][4]);
        w[lane][2] = _mm_loadu_si128((const __m128i *)&right[lane][0]);
        w[lane][3] = _mm_loadu_si128((const __m128i *)&right[lane][4]);
        x[lane] = abef, y[lane] = cdgh;
    }
#define FOUR_ROUNDS(words)                                                                  \
    do {                                                                                    \
        const __m128i four = (words);                                                       \
        y[lane] = _mm_sha256rnds2_epu32(y[lane], x[lane], four);                            \
        x[lane] = _mm_sha256rnds2_epu32(x[lane], y[lane], _mm_shuffle_epi32(four, 0x0e));   \
    } while (0)
    _Pragma("GCC unroll 16") for (int i = 0; i < 16; i++) {
        const __m128i constants = _mm_loadu_si128((const __m128i *)&K[4 * i]);
        EACH {
            FOUR_ROUNDS(_mm_add_epi32(w[lane][i & 3], constants));
            if (i < 12)
                w[lane][i & 3] = _mm_sha256msg2_epu32(
                    _mm_add_epi32(_mm_sha256msg1_epu32(w[lane][i & 3], w[lane][(i + 1) & 3]),
                                  _mm_alignr_epi8(w[lane][(i + 3) & 3], w[lane][(i + 2) & 3], 4)),
                    w[lane][(i + 3) & 3]);
        }
    }
    EACH {
        first_x[lane] = x[lane] = _mm_add_epi32(x[lane], abef);
        first_y[lane] = y[lane] = _mm_add_epi32(y[lane], cdgh);
    }
    _Pragma("GCC unroll 16") for (int i = 0; i < 16; i++) {
        const __m128i constants = _mm_loadu_si128((const __m128i *)&PADDED[4 * i]);
        EACH FOUR_ROUNDS(constants);
    }
    EACH {
        const __m128i feba = _mm_shuffle_epi32(_mm_add_epi32(x[lane], first_x[lane]), 0x1b);
        const __m128i dchg = _mm_shuffle_epi32(_mm_add_epi32(y[lane], first_y[lane]), 0xb1);
        _mm_storeu_si128((__m128i *)&parent[lane][0], _mm_blend_epi16(feba, dchg, 0xf0));
        _mm_storeu_si128((__m128i *)&parent[lane][4], _mm_alignr_epi8(dchg, feba, 8));
        parent[lane][7] &= TRUNCATION;
    }
}

/* As `root` in lanes.h, for two lanes. */
NI static void ni_root(uint8_t root[32], const uint8_t *data, int height)
{
    const size_t groups = (size_t)1 << (height - 3);
    ni_nodes left[MAX_HEIGHT + 1], node, other, four[4];
    for (size_t group = 0; group < groups; group++) {
        uint32_t leaves[4][8];
        for (int lane = 0; lane < 2; lane++) {
            load_group(&leaves[0][0], 1, data + 127 * ((size_t)lane * groups + group),
                       lane == 1 && group == groups - 1);
            for (int leaf = 0; leaf < 4; leaf++)
                memcpy(four[leaf][lane], leaves[leaf], 32);
        }
        ni_parent(node, four[0], four[1]);
        ni_parent(other, four[2], four[3]);
        ni_parent(node, node, other);
        int level = 0;
        for (size_t number = group; number & 1; number >>= 1)
            ni_parent(node, left[level], node), level++;
        memcpy(left[level], node, sizeof node);
    }
    memcpy(other[0], node[1], 32);
    memcpy(other[1], node[1], 32);
    ni_parent(node, node, other);
    for (int word = 0; word < 8; word++) {
        const uint32_t swapped = __builtin_bswap32(node[0][word]);
        memcpy(root + 4 * word, &swapped, 4);
    }
}

#undef NI
#undef EACH
#undef FOUR_ROUNDS
