/* Roots of the subtrees of Filecoin pieces, for Python: fr32 padding and SHA-256 of pairs of nodes, in as many
   lanes as the vectors of the processor have.

   Sources: FIPS 180-4 (SHA-256); the Filecoin specification, sections on fr32 padding and commitments. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <stdint.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "only little-endian processors are supported"
#endif

#define MIN_HEIGHT 6 /* 16 lanes with 4 leaves each */
#define MAX_HEIGHT 30
#define TRUNCATION 0xffffff3fu /* zeroes the two top bits of a node, in its last byte */

static const uint32_t INITIAL[8] = {
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
};

static const uint32_t K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t PADDED[64]; /* K plus the message schedule of the block that pads 64 bytes */

static uint32_t rotate(uint32_t value, int bits) { return (value >> bits) | (value << (32 - bits)); }

static void expand_padding(void)
{
    uint32_t w[64] = {0x80000000u};
    w[15] = 512; /* bits of the message */
    for (int i = 16; i < 64; i++)
        w[i] = w[i - 16] + (rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ (w[i - 15] >> 3)) + w[i - 7] +
               (rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ (w[i - 2] >> 10));
    for (int i = 0; i < 64; i++)
        PADDED[i] = K[i] + w[i];
}

/* Write 4 leaves of 8 words, `stride` words apart, from 127 bytes: each leaf is the next 254 bits. The byte
   after a group is read, but for the `last` one. */
static inline __attribute__((always_inline)) void load_group(uint32_t *to, size_t stride, const uint8_t *from,
                                                             int last)
{
    uint8_t copy[128];
    if (last) {
        memcpy(copy, from, 127);
        copy[127] = 0;
        from = copy;
    }
    for (int leaf = 0; leaf < 4; leaf++) {
        const uint8_t *start = from + 254 * leaf / 8;
        const int shift = 254 * leaf % 8;
        for (int word = 0; word < 4; word++) {
            uint64_t value;
            memcpy(&value, start + 8 * word, 8);
            if (shift)
                value = (value >> shift) | ((uint64_t)start[8 * word + 8] << (64 - shift));
            if (word == 3)
                value &= ((uint64_t)1 << 62) - 1;
            to[(8 * leaf + 2 * word) * stride] = __builtin_bswap32((uint32_t)value);
            to[(8 * leaf + 2 * word + 1) * stride] = __builtin_bswap32((uint32_t)(value >> 32));
        }
    }
}

#define LANES 4
#define LOG 2
#define TARGET
#define NAME(x) portable_##x
#include "lanes.h"
#undef LANES
#undef LOG
#undef TARGET
#undef NAME

#if defined(__x86_64__)
#define LANES 8
#define LOG 3
#define TARGET __attribute__((target("avx2")))
#define NAME(x) avx2_##x
#include "lanes.h"
#undef LANES
#undef LOG
#undef TARGET
#undef NAME

#define LANES 16
#define LOG 4
#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl")))
#define NAME(x) avx512_##x
#include "lanes.h"
#undef LANES
#undef LOG
#undef TARGET
#undef NAME

#include "sha_ni.h"

/* The SHA instructions are in no list of __builtin_cpu_supports of older compilers. */
#include <cpuid.h>
static int has_sha(void)
{
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b >> 29 & 1) && __builtin_cpu_supports("sse4.1") &&
           __builtin_cpu_supports("ssse3");
}
#endif

typedef void compute_root(uint8_t *, const uint8_t *, int);

static compute_root *find_kernel(const char *name)
{
    if (!strcmp(name, "portable"))
        return portable_root;
#if defined(__x86_64__)
    if (!strcmp(name, "sha") && has_sha())
        return ni_root;
    if (!strcmp(name, "avx2") && __builtin_cpu_supports("avx2"))
        return avx2_root;
    if (!strcmp(name, "avx512") && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl"))
        return avx512_root;
#endif
    return NULL;
}

static const char *const KERNELS[] = {"avx512", "sha", "avx2", "portable"}; /* the fastest first */

static PyObject *root(PyObject *module, PyObject *arguments)
{
    (void)module;
    Py_buffer data;
    int height;
    const char *name;
    if (!PyArg_ParseTuple(arguments, "y*is", &data, &height, &name))
        return NULL;
    compute_root *kernel = find_kernel(name);
    PyObject *found = NULL;
    if (!kernel)
        PyErr_Format(PyExc_ValueError, "this processor has no kernel '%s'", name);
    else if (height < MIN_HEIGHT || height > MAX_HEIGHT)
        PyErr_Format(PyExc_ValueError, "height %d is not within %d to %d", height, MIN_HEIGHT, MAX_HEIGHT);
    else if (data.len != (Py_ssize_t)127 << (height - 2))
        PyErr_Format(PyExc_ValueError, "%zd bytes for a tree of height %d", data.len, height);
    else {
        uint8_t bytes[32];
        Py_BEGIN_ALLOW_THREADS
        kernel(bytes, data.buf, height);
        Py_END_ALLOW_THREADS
        found = PyBytes_FromStringAndSize((const char *)bytes, sizeof bytes);
    }
    PyBuffer_Release(&data);
    return found;
}

static PyObject *kernels(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    PyObject *found = PyList_New(0);
    for (size_t i = 0; found && i < sizeof KERNELS / sizeof *KERNELS; i++) {
        if (!find_kernel(KERNELS[i]))
            continue;
        PyObject *name = PyUnicode_FromString(KERNELS[i]);
        if (!name || PyList_Append(found, name))
            Py_CLEAR(found);
        Py_XDECREF(name);
    }
    return found;
}

static PyMethodDef METHODS[] = {
    {"root", root, METH_VARARGS,
     "root(data, height, kernel): the root of the tree of `height` (6 to 30) over `data`, 127 bytes for each\n"
     "4 leaves. Releases the interpreter lock. Raises ValueError."},
    {"kernels", kernels, METH_NOARGS, "kernels(): the kernels for this processor, the fastest first."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT, "reconciler_native", "Subtrees of Filecoin pieces.", -1, METHODS, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit_reconciler_native(void)
{
    expand_padding();
    return PyModule_Create(&MODULE);
}
