// Lets kernels.cu be compiled as C++ and run on the CPU, with the threads and barriers of a block.
//
// Two ways to run a block. Fibers (default): one thread after another, up to its next barrier, always in the same
// order, so that a missing barrier shows every time; blocks that may wait for each other take turns, each as far as it
// comes. Threads (-DTHREADS): real ones, for the sanitizers; two groups of threads share the blocks of a launch and
// never wait for each other, so that blocks race as on a device; blocks that may wait have a group each.

#pragma once
#define HOST
#include <math.h>
#include <pthread.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __align__(n) alignas(n)
#define __launch_bounds__(...)

struct uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(16) float4 { float x, y, z, w; };
struct Index { unsigned x, y; };

static uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
static uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
static float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

static thread_local Index threadIdx, blockIdx;
static Index blockDim, gridDim;
static thread_local unsigned char *shared;  // of the present block

using std::max;
using std::min;

template <typename To, typename From>
static To bits(From value) {
    To to;
    static_assert(sizeof to == sizeof value, "");
    memcpy(&to, &value, sizeof to);
    return to;
}
static float __int_as_float(int value) { return bits<float>(value); }
static float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
static unsigned __float_as_uint(float value) { return bits<unsigned>(value); }

template <typename T>
static T atomicMin(T *at, T value) {
    T old = __atomic_load_n(at, __ATOMIC_RELAXED);
    while (value < old && !__atomic_compare_exchange_n(at, &old, value, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
    return old;
}

template <typename T>
static T atomicMax(T *at, T value) {
    T old = __atomic_load_n(at, __ATOMIC_RELAXED);
    while (old < value && !__atomic_compare_exchange_n(at, &old, value, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
    return old;
}

template <typename T>
static T atomicAdd(T *at, T value) {
    static_assert(std::is_integral<T>::value, "a sum of floats would depend on the order of threads");
    return __atomic_fetch_add(at, value, __ATOMIC_RELAXED);
}

namespace host {

enum { ASCENDING, DESCENDING, SCATTERED };  // order of blocks; of threads: ascending or descending

static const size_t STACK = 1 << 16;
static int order = ASCENDING;
static bool together;  // the blocks of a launch are there at the same time, and may wait for each other
static bool diverged;  // some threads ended while others waited for them

static Index block_at(unsigned i) {
    const unsigned long n = (unsigned long)gridDim.x * gridDim.y;
    const unsigned long at = order == ASCENDING ? i : order == DESCENDING ? n - 1 - i : (i * 1000003ul + 7) % n;
    return {(unsigned)(at % gridDim.x), (unsigned)(at / gridDim.x)};
}

// What a thread of the device does: a kernel with its arguments.
struct Work {
    virtual void run() const = 0;
};

#ifdef THREADS

static thread_local pthread_barrier_t *barrier;

static void wait() { pthread_barrier_wait(barrier); }

static void idle() { std::this_thread::yield(); }

static void run(const Work &work, size_t shared_bytes) {
    const unsigned blocks = gridDim.x * gridDim.y, groups = together ? blocks : 2;
    std::vector<pthread_barrier_t> barriers(groups);
    std::vector<std::vector<unsigned char>> memory(groups, std::vector<unsigned char>(shared_bytes + 16));
    std::vector<std::thread> threads;
    for (auto &b : barriers) pthread_barrier_init(&b, nullptr, blockDim.x);
    for (unsigned g = 0; g < groups; g++) {
        for (unsigned t = 0; t < blockDim.x; t++) {
            threads.emplace_back([&, g, t] {
                barrier = &barriers[g];
                shared = memory[g].data();
                threadIdx = {t, 0};
                for (unsigned i = g; i < blocks; i += groups) {
                    blockIdx = block_at(i);
                    work.run();
                    wait();
                }
            });
        }
    }
    for (auto &thread : threads) thread.join();
    for (auto &b : barriers) pthread_barrier_destroy(&b);
}

#else

struct Fiber {
    ucontext_t context;
    std::vector<char> stack = std::vector<char>(STACK);
    bool done;
};

// The threads of a block: those before `next` have come to their next barrier, or, so many as `ended`, to the end.
struct Block {
    std::vector<Fiber> fibers;
    std::vector<unsigned char> memory;
    Index index;
    unsigned next, ended;
};

static ucontext_t scheduler;
static Fiber *present;
static const Work *task;
static bool idled;  // the present thread waits for another block

static void wait() { swapcontext(&present->context, &scheduler); }

static void idle() {
    idled = true;
    wait();
}

static void start() {
    task->run();
    present->done = true;
    swapcontext(&present->context, &scheduler);
}

static void begin(Block &block, Index index, size_t shared_bytes) {
    if (block.fibers.size() != blockDim.x) block.fibers = std::vector<Fiber>(blockDim.x);
    block.memory.assign(shared_bytes + 16, 0xA5);  // nothing is left of the block before
    block.index = index;
    block.next = block.ended = 0;
    for (Fiber &f : block.fibers) {
        getcontext(&f.context);
        f.context.uc_stack.ss_sp = f.stack.data();
        f.context.uc_stack.ss_size = STACK;
        f.context.uc_link = nullptr;
        f.done = false;
        makecontext(&f.context, start, 0);
    }
}

// Runs the threads of a block up to their next barriers, or until one waits for another block; returns whether any ran.
static bool advance(Block &block) {
    const unsigned n = block.fibers.size(), first = block.next;
    blockIdx = block.index;
    shared = block.memory.data();
    for (; block.next < n; block.next++) {
        const unsigned t = order == DESCENDING ? n - 1 - block.next : block.next;
        threadIdx = {t, 0};
        present = &block.fibers[t];
        idled = false;
        swapcontext(&scheduler, &present->context);
        if (idled) return block.next > first;
        block.ended += present->done;
    }
    diverged |= block.ended > 0 && block.ended < n;
    block.next = 0;
    return true;
}

static void run(const Work &work, size_t shared_bytes) {
    static std::vector<Block> blocks;
    const unsigned all = gridDim.x * gridDim.y, held = together ? all : 1;
    if (blocks.size() < held) blocks.resize(held);
    task = &work;
    for (unsigned first = 0; first < all; first += held) {
        for (unsigned i = 0; i < held; i++) begin(blocks[i], block_at(first + i), shared_bytes);
        for (unsigned ended = 0; ended < held;) {
            bool any = false;
            ended = 0;
            for (unsigned i = 0; i < held; i++) {
                while (!diverged && blocks[i].ended < blockDim.x && advance(blocks[i])) any = true;
                ended += blocks[i].ended == blockDim.x;
            }
            diverged |= ended < held && !any;
            if (diverged) return;
        }
    }
}

#endif

template <typename... A>
struct Call : Work {
    void (*kernel)(A...);
    void **args;
    Call(void (*kernel)(A...), void **args) : kernel(kernel), args(args) {}
    template <size_t... I>
    void unpack(std::index_sequence<I...>) const { kernel(*(A *)args[I]...); }
    void run() const override { unpack(std::index_sequence_for<A...>()); }
};

// Runs a kernel. `args` points to each argument, as cuLaunchKernel has it; `sizes` says how many bytes each has,
// negative for pointers to the device. Returns 0, or -1 - i if argument i has another size or kind, or 1 if threads diverged.
template <typename... A>
static int launch(void (*kernel)(A...), const unsigned *shape, size_t shared_bytes, void **args, const int *sizes, int n) {
    const int expected[] = {(std::is_pointer<A>::value ? -(int)sizeof(A) : (int)sizeof(A))...};
    if (n != (int)sizeof...(A)) return -1 - std::min(n, (int)sizeof...(A));
    for (int i = 0; i < n; i++)
        if (sizes[i] != expected[i]) return -1 - i;
    gridDim = {shape[0], shape[1]};
    blockDim = {shape[2], 1};
    diverged = false;
    run(Call<A...>(kernel, args), shared_bytes);
    return diverged;
}

}  // namespace host

static void __syncthreads() { host::wait(); }

// What makes one block's writes known to another: to the sanitizer, too.
static void __threadfence() {
    static int fences;
    __atomic_fetch_add(&fences, 1, __ATOMIC_ACQ_REL);
}

// How a thread waits for what another block does.
static unsigned long long peek(const unsigned long long *at) { return __atomic_load_n(at, __ATOMIC_RELAXED); }
static void idle() { host::idle(); }

extern "C" void set_order(int order, int together) {
    host::order = order;
    host::together = together;
}

#define EXPORT(name)                                                                                                   \
    extern "C" int launch_##name(const unsigned *shape, size_t shared_bytes, void **args, const int *sizes, int n) {   \
        return host::launch(name, shape, shared_bytes, args, sizes, n);                                                \
    }
