// Inference on a GPU: events in, events out, whole batches at a time. ARCHITECTURE.md ("The CUDA backend") says how.
//
// Every neuron's float32 sum is taken by one thread, one spike after another in canonical order; threads share nothing
// but integers. Compile with --fmad=false. A source for CUDA C++ and, with a shim that stands for the device, for C++:
// shared memory is dynamic, blocks may run in any order, and nothing depends on the size of a warp.

#ifndef HOST  // the shim gives each block its own
extern __shared__ __align__(16) unsigned char shared[];
#endif

typedef long long i64;
typedef unsigned long long u64;

#define NEVER 0xffffffffu  // in place of a spike: the neuron is silent
#define WIDTH 4            // maps that a thread computes; weights, thresholds and dense scratch are padded to it
#define AHEAD 4            // spikes whose weights are asked for before the first of them is added
#define MOST 256           // threads of a block
#define DIGITS 16          // of a radix pass

// Sizes of a layer; `padded` is the number of maps rounded up to WIDTH.
struct Sizes {
    int channels, height, width, kh, kw, sh, sw, ph, pw, oh, ow, maps, padded;
};

// A batch: spikes of sample s are offsets[s] <= e < offsets[s + 1]; rank is that of a spike's time in its sample.
struct Spikes {
    const i64 *time;
    const unsigned short *channel, *y, *x;
    const i64 *offsets;
    const int *rank;
};

__device__ i64 thread_id() { return (i64)blockIdx.x * blockDim.x + threadIdx.x; }

__device__ float infinity() { return __int_as_float(0x7f800000); }

// Returns unsigned integers that are ordered as the floats are; -0 counts as 0.
__device__ unsigned ordered(float value) {
    const unsigned bits = __float_as_uint(value + 0.0f);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

__device__ float unordered(unsigned value) {
    return __int_as_float(value & 0x80000000u ? value & 0x7fffffffu : ~value);
}

// Returns the sum of `value` over the threads before this one, and in `total` that over all; scratch holds one int a thread.
__device__ int scan_block(int value, int *scratch, int *total) {
    const int t = threadIdx.x, n = blockDim.x;
    scratch[t] = value;
    __syncthreads();
    for (int reach = 1; reach < n; reach *= 2) {
        const int before = t >= reach ? scratch[t - reach] : 0;
        __syncthreads();
        scratch[t] += before;
        __syncthreads();
    }
    const int sum = scratch[t];
    *total = scratch[n - 1];
    __syncthreads();  // scratch may be used again
    return sum - value;
}

// Block s ranks the distinct times of sample s. Shared: threads ints.
extern "C" __global__ void rank_times(const i64 *time, const i64 *offsets, int *rank) {
    const i64 begin = offsets[blockIdx.x], end = offsets[blockIdx.x + 1];
    int carried = -1;
    for (i64 first = begin; first < end; first += blockDim.x) {
        const i64 e = first + threadIdx.x;
        const int fresh = e < end && (e == begin || time[e] != time[e - 1]);
        int total;
        const int before = scan_block(fresh, (int *)shared, &total);
        if (e < end) rank[e] = carried + before + fresh;
        carried += total;
    }
}

// Receptive fields ---------------------------------------------------------------------------------------------------

// A spike as the threads of a block look at it together.
struct Staged {
    int channel, y, x, rank, index;
};

__device__ float leak_factor(const float *coarse, int n_coarse, const float *fine, int n_fine, i64 dt) {
    const i64 a = dt / n_fine;
    return a < n_coarse ? coarse[a] * fine[dt - a * n_fine] : 0.0f;
}

struct Leak {
    const float *coarse, *fine;
    int n_coarse, n_fine;
};

// Lists of one position, written by its one thread: the end of a group is known when the next spike comes.
struct List {
    int *rows, *spikes;
    float *decay;
    i64 at;
    int row, rank;
};

__device__ void append(List *list, int row, const Staged &s) {
    if (list->row >= 0) list->rows[list->at - 1] = list->row * 2 + (s.rank != list->rank);
    list->row = row;
    list->rank = s.rank;
    list->spikes[list->at++] = s.index;
}

// Block (tile of positions, sample): a thread each for the positions of the tile. The block compacts the spikes of some
// window of the tile, a chunk at a time and in order; each thread then takes those of its own window.
template <bool FILL>
__device__ void look(const Sizes &z, const Spikes &in, int tiles, const Leak &leak, i64 *counts, const i64 *starts,
                     int *rows, int *spikes, float *decay) {
    Staged *staged = (Staged *)shared;
    int *scratch = (int *)(staged + blockDim.x);
    const int positions = z.oh * z.ow, first = blockIdx.x % tiles * blockDim.x;
    const i64 sample = blockIdx.x / tiles, begin = in.offsets[sample], end = in.offsets[sample + 1];
    const int last = min(first + (int)blockDim.x, positions) - 1;
    const int top = first / z.ow * z.sh - z.ph, bottom = last / z.ow * z.sh - z.ph + z.kh;  // rows that the tile sees
    const int p = first + threadIdx.x, oy = p / z.ow, ox = p % z.ow;
    const i64 place = sample * positions + p;
    const bool mine = p < positions;
    i64 n = 0;
    List list = {rows, spikes, decay, FILL && mine ? starts[place] : 0, -1, -1};
    for (i64 chunk = begin; chunk < end; chunk += blockDim.x) {
        const i64 e = chunk + threadIdx.x;
        const int y = e < end ? in.y[e] : 0;
        const int seen = e < end && y >= top && y < bottom;
        int total;
        const int slot = scan_block(seen, scratch, &total);
        if (seen) staged[slot] = {in.channel[e], y, in.x[e], FILL ? in.rank[e] : 0, (int)(e - begin)};
        __syncthreads();
        for (int i = 0; mine && i < total; i++) {
            const Staged s = staged[i];
            const int ky = s.y + z.ph - oy * z.sh, kx = s.x + z.pw - ox * z.sw;
            if (ky < 0 || ky >= z.kh || kx < 0 || kx >= z.kw) continue;
            n++;
            if (!FILL) continue;
            if (decay) {
                const bool later = list.row >= 0 && s.rank != list.rank;
                const i64 dt = later ? in.time[begin + s.index] - in.time[begin + list.spikes[list.at - 1]] : 0;
                decay[list.at] = later ? leak_factor(leak.coarse, leak.n_coarse, leak.fine, leak.n_fine, dt) : 1.0f;
            }
            append(&list, (s.channel * z.kh + ky) * z.kw + kx, s);
        }
        __syncthreads();
    }
    if (!mine) return;
    if (!FILL) counts[place + 1] = n;
    if (FILL && list.row >= 0) rows[list.at - 1] = list.row * 2 + 1;
}

// counts[1 + sample * positions + p] becomes the number of spikes that position p sees.
extern "C" __global__ void count_fields(Sizes z, Spikes in, int tiles, i64 *counts) {
    look<false>(z, in, tiles, Leak(), counts, nullptr, nullptr, nullptr, nullptr);
}

// The list of a place is starts[place] <= e < starts[place + 1]: rows[e] is twice the weight row, plus 1 if the last spike of its time;
// spikes[e] the spike's index in its sample; decay[e], if there is a leak, what multiplies the potential before it.
extern "C" __global__ void fill_fields(Sizes z, Spikes in, int tiles, Leak leak, const i64 *starts, int *rows,
                                       int *spikes, float *decay) {
    look<true>(z, in, tiles, leak, nullptr, starts, rows, spikes, decay);
}

// Neurons ------------------------------------------------------------------------------------------------------------

// Lists, weights (rows, padded maps) and limits (padded maps; inf where a map is silent or absent).
struct Layer {
    const i64 *starts;
    const int *rows, *spikes;
    const float *decay, *weights, *limit;
    const i64 *quiet;  // spikes that surely make nobody fire; null: every spike counts
};

// The largest weight, as ordered() has it, into *largest, which holds that of some bound before. Comparing floats by CuPy would make tiny ones 0.
extern "C" __global__ void find_largest(const float *weights, i64 n, unsigned *largest) {
    unsigned mine = 0;
    for (i64 i = thread_id(); i < n; i += (i64)gridDim.x * blockDim.x) mine = max(mine, ordered(weights[i]));
    atomicMax(largest, mine);
}

// Spikes that surely leave every potential at or below its limit: no weight is above the largest, and each addition may be
// rounded up once, which the factor allows for.
extern "C" __global__ void find_quiet(const unsigned *largest, float lowest, i64 *quiet) {
    if (thread_id() > 0) return;
    const float weight = unordered(*largest);
    const double n = weight > 0.0f ? min((double)lowest / weight, 1e6) : 0;
    *quiet = weight > 0.0f ? (i64)(n * (1 - n * 2e-7)) : (i64)1 << 60;
}

struct Quad {
    float v[WIDTH];
};

__device__ Quad load_quad(const float *from) {
    const float4 f = *(const float4 *)from;
    return {{f.x, f.y, f.z, f.w}};
}

__device__ void store_quad(float *to, const Quad &q) { *(float4 *)to = make_float4(q.v[0], q.v[1], q.v[2], q.v[3]); }

// A thread's neurons: WIDTH maps at one place.
struct Cells {
    Quad potential, limit, fired_at;
    unsigned when[WIDTH];
    int alive;
};

__device__ Cells resting(const Quad &limit) {
    Cells c;
    c.limit = limit;
    c.alive = 0;
    for (int j = 0; j < WIDTH; j++) {
        c.potential.v[j] = c.fired_at.v[j] = 0.0f;
        c.when[j] = NEVER;
        c.alive += limit.v[j] < infinity();
    }
    return c;
}

// Who is above its limit fires, once.
__device__ void fire(Cells *c, unsigned spike) {
#pragma unroll
    for (int j = 0; j < WIDTH; j++) {
        if (c->potential.v[j] > c->limit.v[j]) {
            c->when[j] = spike;
            c->fired_at.v[j] = c->potential.v[j];
            c->limit.v[j] = infinity();
            c->alive--;
        }
    }
}

__device__ bool above(const Cells &c) {
    bool any = false;
#pragma unroll
    for (int j = 0; j < WIDTH; j++) any |= c.potential.v[j] > c.limit.v[j];
    return any;
}

// The list of a place, and the weights of a thread's maps.
struct Input {
    const int *rows, *spikes;
    const float *decay, *weights;
    int padded;
};

// Adds up to AHEAD spikes from the `first` of a list on, in order; without AT_END, fires after the last of each time. Returns whether all
// have fired.
template <bool LEAKY, bool AT_END>
__device__ bool add_spikes(Cells *c, const Input &in, int first, int n) {
    int row[AHEAD];
    Quad weight[AHEAD];
#pragma unroll
    for (int i = 0; i < AHEAD; i++) row[i] = in.rows[first + min(i, n - 1)];
#pragma unroll
    for (int i = 0; i < AHEAD; i++) weight[i] = load_quad(in.weights + (i64)(row[i] >> 1) * in.padded);
#pragma unroll
    for (int i = 0; i < AHEAD; i++) {
        if (i >= n) break;
        const float decay = LEAKY ? in.decay[first + i] : 1.0f;
#pragma unroll
        for (int j = 0; j < WIDTH; j++) {
            const float before = LEAKY ? c->potential.v[j] * decay : c->potential.v[j];
            c->potential.v[j] = before + weight[i].v[j];
        }
        if (!AT_END && (row[i] & 1) && above(*c)) {
            fire(c, in.spikes[first + i]);
            if (c->alive == 0) return true;
        }
    }
    return false;
}

template <bool LEAKY, bool AT_END>
__device__ void integrate(Cells *c, const Input &in, int n) {
    int first = 0;
#pragma unroll 1  // else the compiler asks for weights later than it could
    for (; first + AHEAD <= n; first += AHEAD)
        if (add_spikes<LEAKY, AT_END>(c, in, first, AHEAD)) return;
    if (first < n) add_spikes<LEAKY, AT_END>(c, in, first, n - first);
}

// Thread (place, quad of maps of blockIdx.y's part): 2^lane_bits threads side by side share a place. when[place * padded + map]
// becomes the spike after which the neuron fires, as an index in its sample, or NEVER; potential what it then has.
template <bool LEAKY, bool AT_END>
__device__ void neurons(const Sizes &z, const Spikes &in, const Leak &leak, i64 last_time, const Layer &layer, i64 places,
                        int lane_bits, unsigned *when, float *potential) {
    const i64 place = thread_id() >> lane_bits;
    const int lanes = 1 << lane_bits, map = (blockIdx.y * lanes + ((int)thread_id() & (lanes - 1))) * WIDTH;
    if (place >= places || map >= z.padded) return;
    Cells c = resting(load_quad(layer.limit + map));
    const i64 begin = layer.starts[place], end = layer.starts[place + 1];
    const Input list = {layer.rows + begin, layer.spikes + begin, layer.decay + begin, layer.weights + map, z.padded};
    if (c.alive && (!layer.quiet || end - begin > layer.quiet[0])) integrate<LEAKY, AT_END>(&c, list, end - begin);
    if (AT_END && LEAKY && end > begin) {
        const i64 t = in.time[in.offsets[place / (z.oh * z.ow)] + layer.spikes[end - 1]];
        const float decay = leak_factor(leak.coarse, leak.n_coarse, leak.fine, leak.n_fine, last_time - t);
        for (int j = 0; j < WIDTH; j++) c.potential.v[j] = c.potential.v[j] * decay;
    }
    if (AT_END) fire(&c, 0);
    const i64 at = place * z.padded + map;
    *(uint4 *)(when + at) = make_uint4(c.when[0], c.when[1], c.when[2], c.when[3]);
    store_quad(potential + at, c.fired_at);
}

#define NEURONS(name, leaky, at_end)                                                                               \
    extern "C" __global__ void __launch_bounds__(MOST, 4)                                                          \
        name(Sizes z, Spikes in, Leak leak, i64 last_time, Layer layer, i64 places, int lane_bits, unsigned *when,      \
             float *potential) {                                                                                   \
        neurons<leaky, at_end>(z, in, leak, last_time, layer, places, lane_bits, when, potential);                     \
    }
NEURONS(conv, false, false)
NEURONS(conv_leaky, true, false)
NEURONS(conv_at_end, false, true)
NEURONS(conv_leaky_at_end, true, true)

// Spikes out ---------------------------------------------------------------------------------------------------------

// How fired neurons are found in dense scratch: a thread for each map of a sample and stretch of positions, maps side by side.
struct Stretch {
    const unsigned *when;
    i64 place;  // in the order (sample, map, stretch)
    int map, first, last;
};

__device__ Stretch stretch_of(i64 id, const Sizes &z, const unsigned *when, int length, int stretches) {
    const int positions = z.oh * z.ow, map = id % z.maps, stretch = id / z.maps % stretches, first = stretch * length;
    const i64 sample = id / z.maps / stretches;
    const unsigned *mine = when + sample * positions * z.padded + map;
    return {mine, (sample * z.maps + map) * stretches + stretch, map, first, min(first + length, positions)};
}

// counts[1 + place] becomes the number of neurons that fire.
extern "C" __global__ void count_fired(Sizes z, const unsigned *when, i64 n, int length, int stretches, i64 *counts) {
    if (thread_id() >= n) return;
    const Stretch s = stretch_of(thread_id(), z, when, length, stretches);
    int fired = 0;
#pragma unroll 8
    for (int p = s.first; p < s.last; p++) fired += s.when[(i64)p * z.padded] != NEVER;
    counts[s.place + 1] = fired;
}

// Writes (flat index, spike) of the neurons that fire from starts[place] on, by position.
extern "C" __global__ void gather_fired(Sizes z, const unsigned *when, i64 n, int length, int stretches, const i64 *starts,
                                        uint2 *fired) {
    if (thread_id() >= n) return;
    const Stretch s = stretch_of(thread_id(), z, when, length, stretches);
    i64 at = starts[s.place];
    if (at == starts[s.place + 1]) return;
    for (int p = s.first; p < s.last; p++) {
        const unsigned spike = s.when[(i64)p * z.padded];
        if (spike != NEVER) fired[at++] = make_uint2(s.map * z.oh * z.ow + p, spike);
    }
}

__device__ int digit_of(const uint2 &fired, const int *ranks, int shift) {
    return (ranks ? (unsigned)ranks[fired.y] : fired.y) >> shift & (DIGITS - 1);
}

// Block s sorts what fired in sample s, which has `stretches` starts, by one digit of the rank of its time, or where there are no
// ranks of its second half, stably: each thread counts and moves neighbours. Shared: (DIGITS + 1) * threads ints.
extern "C" __global__ void sort_digit(const i64 *starts, int stretches, const i64 *offsets, const int *rank, int shift,
                                      const uint2 *from, uint2 *to) {
    int *counts = (int *)shared, *scratch = counts + DIGITS * blockDim.x;
    const i64 begin = starts[(i64)blockIdx.x * stretches], n = starts[(blockIdx.x + (i64)1) * stretches] - begin;
    const i64 share = (n + blockDim.x - 1) / blockDim.x;
    const i64 first = min(begin + share * threadIdx.x, begin + n), last = min(first + share, begin + n);
    const int *ranks = rank ? rank + offsets[blockIdx.x] : nullptr;
    for (int d = 0; d < DIGITS; d++) counts[d * blockDim.x + threadIdx.x] = 0;
    for (i64 i = first; i < last; i++) counts[digit_of(from[i], ranks, shift) * blockDim.x + threadIdx.x]++;
    __syncthreads();
    int sum = 0, total;
    for (int i = 0; i < DIGITS; i++) sum += counts[threadIdx.x * DIGITS + i];
    int before = scan_block(sum, scratch, &total);
    for (int i = 0; i < DIGITS; i++) {
        const int count = counts[threadIdx.x * DIGITS + i];
        counts[threadIdx.x * DIGITS + i] = before;
        before += count;
    }
    __syncthreads();
    for (i64 i = first; i < last; i++) {
        to[begin + counts[digit_of(from[i], ranks, shift) * blockDim.x + threadIdx.x]++] = from[i];
    }
}

struct Columns {
    i64 *time;
    unsigned short *channel, *y, *x;
    float *potential;  // or null
};

// Block s writes the columns of sample s, which has `stretches` starts. All fire at `last_time` if that is not negative.
extern "C" __global__ void emit(Sizes z, const i64 *starts, int stretches, const uint2 *fired, const float *potential, const i64 *time,
                                const i64 *offsets, i64 last_time, Columns out) {
    const i64 sample = blockIdx.x, end = starts[(sample + 1) * stretches];
    const unsigned positions = z.oh * z.ow;
    for (i64 i = starts[sample * stretches] + threadIdx.x; i < end; i += blockDim.x) {
        const unsigned map = fired[i].x / positions, p = fired[i].x % positions;
        out.time[i] = last_time < 0 ? time[offsets[sample] + fired[i].y] : last_time;
        out.channel[i] = map;
        out.y[i] = p / z.ow;
        out.x[i] = p % z.ow;
        if (out.potential) out.potential[i] = potential[(sample * positions + p) * z.padded + map];
    }
}

// Pooling ------------------------------------------------------------------------------------------------------------

// Block s: when[(sample * positions + p) * padded + channel] becomes the first of the channel's spikes in the window of p.
extern "C" __global__ void pool_earliest(Sizes z, Spikes in, unsigned *when) {
    const i64 sample = blockIdx.x, begin = in.offsets[sample], end = in.offsets[sample + 1], positions = z.oh * z.ow;
    for (i64 e = begin + threadIdx.x; e < end; e += blockDim.x) {
        const int y = in.y[e] + z.ph, x = in.x[e] + z.pw;
        const int top = max(0, (y - z.kh + z.sh) / z.sh), left = max(0, (x - z.kw + z.sw) / z.sw);
        for (int oy = top; oy < z.oh && oy * z.sh <= y; oy++) {
            for (int ox = left; ox < z.ow && ox * z.sw <= x; ox++) {
                const i64 place = sample * positions + oy * z.ow + ox;
                atomicMin(when + place * z.padded + in.channel[e], (unsigned)(e - begin));
            }
        }
    }
}

// The same from dense scratch of the layer below, whose grid is (channels, height, width): thread (place, quad of maps). Whoever fires after an
// earlier spike fires no later, so the smallest of a window is the earliest.
extern "C" __global__ void pool_fired(Sizes z, const unsigned *when, i64 n, unsigned *pooled) {
    if (thread_id() >= n) return;
    const int quads = z.padded / WIDTH, map = thread_id() % quads * WIDTH, positions = z.oh * z.ow;
    const i64 place = thread_id() / quads, sample = place / positions;
    const int oy = place % positions / z.ow, ox = place % positions % z.ow;
    const int top = oy * z.sh - z.ph, left = ox * z.sw - z.pw;
    uint4 first = make_uint4(NEVER, NEVER, NEVER, NEVER);
    for (int y = max(top, 0); y < min(top + z.kh, z.height); y++) {
        for (int x = max(left, 0); x < min(left + z.kw, z.width); x++) {
            const uint4 w = *(const uint4 *)(when + ((sample * z.height + y) * z.width + x) * z.padded + map);
            first = make_uint4(min(first.x, w.x), min(first.y, w.y), min(first.z, w.z), min(first.w, w.w));
        }
    }
    *(uint4 *)(pooled + place * z.padded + map) = first;
}

// Competition --------------------------------------------------------------------------------------------------------

__device__ u64 urgency(const Spikes &in, const float *potential, i64 e) {
    return (u64)(unsigned)in.rank[e] << 32 | (potential ? ~ordered(potential[e]) : 0u);
}

// Block s: best[sample * positions + p] becomes the smallest urgency at position p: the earliest, then the largest potential.
extern "C" __global__ void pointwise_best(Sizes z, Spikes in, const float *potential, u64 *best) {
    const i64 sample = blockIdx.x, end = in.offsets[sample + 1];
    for (i64 e = in.offsets[sample] + threadIdx.x; e < end; e += blockDim.x)
        atomicMin(best + (sample * z.height + in.y[e]) * z.width + in.x[e], urgency(in, potential, e));
}

// Block s: chosen[sample * positions + p] becomes the first spike of that urgency, which is the lowest map's.
extern "C" __global__ void pointwise_first(Sizes z, Spikes in, const float *potential, const u64 *best, unsigned *chosen) {
    const i64 sample = blockIdx.x, begin = in.offsets[sample], end = in.offsets[sample + 1];
    for (i64 e = begin + threadIdx.x; e < end; e += blockDim.x) {
        const i64 place = (sample * z.height + in.y[e]) * z.width + in.x[e];
        if (best[place] == urgency(in, potential, e)) atomicMin(chosen + place, (unsigned)(e - begin));
    }
}

extern "C" __global__ void pointwise_keep(Sizes z, Spikes in, const unsigned *chosen, bool *keep) {
    const i64 sample = blockIdx.x, begin = in.offsets[sample], end = in.offsets[sample + 1];
    for (i64 e = begin + threadIdx.x; e < end; e += blockDim.x)
        keep[e] = chosen[(sample * z.height + in.y[e]) * z.width + in.x[e]] == (unsigned)(e - begin);
}

// A spike that may win: the smaller urgency first, then the lower index.
struct Candidate {
    u64 urgency;
    i64 spike;
};

__device__ bool before(const Candidate &a, const Candidate &b) {
    return a.urgency < b.urgency || (a.urgency == b.urgency && a.spike < b.spike);
}

// Leaves the first of the threads' candidates in held[0]; held has one entry a thread.
__device__ void first_of_block(Candidate *held) {
    for (int n = blockDim.x; n > 1;) {
        const int half = (n + 1) / 2;
        __syncthreads();
        if ((int)threadIdx.x + half < n && before(held[threadIdx.x + half], held[threadIdx.x]))
            held[threadIdx.x] = held[threadIdx.x + half];
        n = half;
    }
    __syncthreads();
}

// Block s chooses the winners of sample s, rows (map, y, x, time). excluded: a byte a spike, 0 before. Shared: a Candidate a thread.
extern "C" __global__ void choose_winners(Sizes z, Spikes in, const float *potential, int k, int radius,
                                          unsigned char *excluded, i64 *winners) {
    Candidate *held = (Candidate *)shared;
    const i64 begin = in.offsets[blockIdx.x], end = in.offsets[blockIdx.x + 1];
    const Candidate nobody = {~(u64)0, end};
    for (int turn = 0; turn < k; turn++) {
        Candidate best = nobody;
        for (i64 e = begin + threadIdx.x; e < end; e += blockDim.x) {
            const Candidate other = {urgency(in, potential, e), e};
            if (!excluded[e] && before(other, best)) best = other;
        }
        held[threadIdx.x] = best;
        first_of_block(held);
        const i64 won = held[0].spike;
        __syncthreads();
        if (won == end) return;
        const int f = in.channel[won], y = in.y[won], x = in.x[won];
        if (threadIdx.x == 0) {
            i64 *row = winners + ((i64)blockIdx.x * k + turn) * 4;
            row[0] = f, row[1] = y, row[2] = x, row[3] = in.time[won];
        }
        for (i64 e = begin + threadIdx.x; e < end; e += blockDim.x) {
            const bool near = radius > 0 && abs(in.y[e] - y) <= radius && abs(in.x[e] - x) <= radius;
            if (in.channel[e] == f || near) excluded[e] = 1;
        }
    }
}

// Block s finds in dense scratch who wins first in sample s where all fire together, (map, y, x, time): the largest potential, then the lowest
// index; -1 where none fires; and counts who fires. Shared: a Candidate a thread.
extern "C" __global__ void decide_at_end(Sizes z, const unsigned *when, const float *potential, i64 last_time,
                                         i64 *winners, i64 *spikes) {
    Candidate *held = (Candidate *)shared;
    const i64 positions = z.oh * z.ow, n = positions * z.padded, first = blockIdx.x * n;
    Candidate best = {~(u64)0, n};
    int fired = 0, total;
    for (i64 i = threadIdx.x; i < n; i += blockDim.x) {
        if (when[first + i] == NEVER) continue;
        const Candidate other = {~ordered(potential[first + i]), i % z.padded * positions + i / z.padded};
        if (before(other, best)) best = other;
        fired++;
    }
    scan_block(fired, (int *)shared, &total);
    held[threadIdx.x] = best;
    first_of_block(held);
    if (threadIdx.x > 0) return;
    const i64 won = held[0].spike, p = won % positions;
    i64 *row = winners + (i64)blockIdx.x * 4;
    row[0] = won == n ? -1 : won / positions;
    row[1] = won == n ? -1 : p / z.ow;
    row[2] = won == n ? -1 : p % z.ow;
    row[3] = won == n ? -1 : last_time;
    spikes[blockIdx.x] = total;
}
