/* The root of a tree over LANES equal subtrees, one in each lane of a vector. Included once for each number of
   lanes, with LANES, LOG (its logarithm), TARGET (a function attribute) and NAME(x).

   Every lane hashes the nodes of its own subtree, so that nodes stay in vectors, word by word, from the leaves
   to the root of the subtree; only leaves are rearranged. */

typedef uint32_t NAME(vector) __attribute__((vector_size(4 * LANES), may_alias));
#define V NAME(vector)

#define ROTR(x, n) (((x) >> (n)) | ((x) << (32 - (n))))
#define S0(x) (ROTR(x, 2) ^ ROTR(x, 13) ^ ROTR(x, 22))
#define S1(x) (ROTR(x, 6) ^ ROTR(x, 11) ^ ROTR(x, 25))
#define s0(x) (ROTR(x, 7) ^ ROTR(x, 18) ^ ((x) >> 3))
#define s1(x) (ROTR(x, 17) ^ ROTR(x, 19) ^ ((x) >> 10))
#define CH(e, f, g) ((g) ^ ((e) & ((f) ^ (g))))
#define MAJ(a, b, c) (((a) & (b)) | ((c) & ((a) | (b))))
#define ROUND(a, b, c, d, e, f, g, h, kw)             \
    do {                                              \
        V t = (h) + S1(e) + CH(e, f, g) + (kw);       \
        (d) += t;                                     \
        (h) = t + S0(a) + MAJ(a, b, c);               \
    } while (0)
#define EIGHT(kw)                                                                                  \
    do {                                                                                           \
        ROUND(a, b, c, d, e, f, g, h, kw(0)); ROUND(h, a, b, c, d, e, f, g, kw(1));                \
        ROUND(g, h, a, b, c, d, e, f, kw(2)); ROUND(f, g, h, a, b, c, d, e, kw(3));                \
        ROUND(e, f, g, h, a, b, c, d, kw(4)); ROUND(d, e, f, g, h, a, b, c, kw(5));                \
        ROUND(c, d, e, f, g, h, a, b, kw(6)); ROUND(b, c, d, e, f, g, h, a, kw(7));                \
    } while (0)

/* Write the parents of `left` and `right` to `parent`, which may be either of them. */
TARGET static __attribute__((noinline)) void NAME(parent)(V parent[8], const V left[8],
                                                          const V right[8])
{
    const V zero = {0};
    V w[16];
    V a = zero + INITIAL[0], b = zero + INITIAL[1], c = zero + INITIAL[2], d = zero + INITIAL[3];
    V e = zero + INITIAL[4], f = zero + INITIAL[5], g = zero + INITIAL[6], h = zero + INITIAL[7];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        w[i] = left[i];
        w[8 + i] = right[i];
    }
#define MESSAGE(i) (w[((i) + at) & 15] + K[(i) + at])
#pragma GCC unroll 2
    for (int at = 0; at < 16; at += 8)
        EIGHT(MESSAGE);
#pragma GCC unroll 3
    for (int at = 16; at < 64; at += 16) {
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++)
            w[i] += s0(w[(i + 1) & 15]) + w[(i + 9) & 15] + s1(w[(i + 14) & 15]);
#define EXPANDED(i) (w[(i)] + K[at + (i)])
        EIGHT(EXPANDED);
#define EXPANDED_HIGH(i) (w[8 + (i)] + K[at + 8 + (i)])
        EIGHT(EXPANDED_HIGH);
    }
    const V a1 = a + INITIAL[0], b1 = b + INITIAL[1], c1 = c + INITIAL[2], d1 = d + INITIAL[3];
    const V e1 = e + INITIAL[4], f1 = f + INITIAL[5], g1 = g + INITIAL[6], h1 = h + INITIAL[7];
    a = a1, b = b1, c = c1, d = d1, e = e1, f = f1, g = g1, h = h1;
#define PADDING(i) (zero + PADDED[at + (i)])
#pragma GCC unroll 8
    for (int at = 0; at < 64; at += 8)
        EIGHT(PADDING);
    parent[0] = a + a1, parent[1] = b + b1, parent[2] = c + c1, parent[3] = d + d1;
    parent[4] = e + e1, parent[5] = f + f1, parent[6] = g + g1;
    parent[7] = (h + h1) & TRUNCATION;
}

/* Write the root of the tree of `height` (at least LOG + 2) over `data` to `root`. The data are 127 bytes for
   each 4 leaves. */
TARGET static void NAME(root)(uint8_t root[32], const uint8_t *data, int height)
{
    const size_t groups = (size_t)1 << (height - LOG - 2);
    V left[MAX_HEIGHT + 1][8]; /* by height: the nodes that wait for their right siblings */
    V node[8], other[8];
    uint32_t leaves[4][8][LANES] __attribute__((aligned(64)));
    for (size_t group = 0; group < groups; group++) {
        for (int lane = 0; lane < LANES; lane++)
            load_group(&leaves[0][0][lane], LANES, data + 127 * ((size_t)lane * groups + group),
                       lane == LANES - 1 && group == groups - 1);
        const V(*four)[8] = (const V(*)[8])leaves;
        NAME(parent)(node, four[0], four[1]);
        NAME(parent)(other, four[2], four[3]);
        NAME(parent)(node, node, other);
        int level = 0;
        for (size_t number = group; number & 1; number >>= 1)
            NAME(parent)(node, left[level], node), level++;
        memcpy(left[level], node, sizeof node);
    }
    uint32_t(*words)[LANES] = (uint32_t(*)[LANES])node;
    for (int width = LANES; width > 1; width /= 2) {
        uint32_t pair[2][8][LANES] __attribute__((aligned(64))) = {{{0}}};
        for (int word = 0; word < 8; word++)
            for (int number = 0; number < width; number++)
                pair[number & 1][word][number >> 1] = words[word][number];
        const V(*two)[8] = (const V(*)[8])pair;
        NAME(parent)(node, two[0], two[1]);
    }
    for (int word = 0; word < 8; word++) {
        const uint32_t swapped = __builtin_bswap32(words[word][0]);
        memcpy(root + 4 * word, &swapped, 4);
    }
}

#undef V
#undef ROTR
#undef S0
#undef S1
#undef s0
#undef s1
#undef CH
#undef MAJ
#undef ROUND
#undef EIGHT
#undef MESSAGE
#undef EXPANDED
#undef EXPANDED_HIGH
#undef PADDING
