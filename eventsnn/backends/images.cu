// Images to spikes on a GPU: the stages of the published front ends for MNIST. Follows kernels.cu.
//
// Intensities are float32 (image, map, row, column). Each is computed by one thread with the additions in the order that
// the encoders on the CPU have; __fmaf_rn is fused here as it is there.

// Sizes of a stage's output (image, map, row, column), and of the input it is made from.
struct Plane {
    int maps, height, width, from_maps, from_height, from_width;
};

// An output cell.
struct Cell {
    i64 image;
    int map, y, x;
};

__device__ Cell cell_of(i64 id, const Plane &z) {
    const i64 row = id / z.width, plane = row / z.height;
    return {plane / z.maps, (int)(plane % z.maps), (int)(row % z.height), (int)(id % z.width)};
}

extern "C" __global__ void scale(const float *from, i64 n, double factor, float *to) {
    if (thread_id() < n) to[thread_id()] = (float)(from[thread_id()] * factor);
}

// A response of a bank of kernels (encode/filters.py): its window, pairs of terms, place in the largest window, first weight,
// and the maps that are made of it.
struct Response {
    int window, pairs, edge, weight, first, end;
};

// How maps are made of a response: their numbers, scales, and what becomes 0.
struct Maps {
    const i64 *numbers;
    const float *scales;
    int absolute, keep_sign;
    float threshold;
};

__device__ void rectify(const Cell &c, float sum, const Response &r, const Maps &maps, const Plane &z, float *to) {
    for (int m = r.first; m < r.end; m++) {
        const float scaled = __fmaf_rn(maps.scales[m], sum, 0.0f);  // no -0
        const float value = maps.absolute ? fabsf(scaled) : scaled, size = maps.keep_sign ? fabsf(value) : value;
        to[((c.image * z.maps + maps.numbers[m]) * z.height + c.y) * z.width + c.x] = size < maps.threshold ? 0.0f : value;
    }
}

__device__ float value_at(const float *line, int stride, int at, int size) {
    return at >= 0 && at < size ? line[(i64)at * stride] : 0.0f;
}

// The value in the middle of a symmetric window alone, others with those opposite.
__device__ float folded(const float *line, int stride, int at, int size, int k, int window) {
    const float value = value_at(line, stride, at + k, size);
    return 2 * k + 1 == window ? value : value + value_at(line, stride, at + window - 1 - k, size);
}

// A response without terms: its window, row by row; images are grey.
extern "C" __global__ void correlate(Plane z, const float *from, i64 n, Response r, const float *weights, int padding, Maps maps,
                                     float *to) {
    if (thread_id() >= n) return;
    const Cell c = cell_of(thread_id(), {1, z.height, z.width, 1, z.from_height, z.from_width});
    const float *image = from + c.image * z.from_height * z.from_width, *weight = weights + r.weight;
    float sum = 0.0f;
    for (int ky = 0; ky < r.window; ky++) {
        const int y = c.y + r.edge - padding + ky;
        if (y < 0 || y >= z.from_height) continue;
        for (int kx = 0; kx < r.window; kx++) {
            const float value = value_at(image + (i64)y * z.from_width, 1, c.x + r.edge - padding + kx, z.from_width);
            sum = __fmaf_rn(weight[ky * r.window + kx], value, sum);
        }
    }
    rectify(c, sum, r, maps, z, to);
}

// The sums down columns of each pair of terms, and the plain sums: maps 3 p, 3 p + 1, 3 p + 2 of `sums`.
extern "C" __global__ void fold_down(Plane z, const float *from, i64 n, Response r, const float *weights, int padding, float *sums) {
    if (thread_id() >= n) return;
    const Cell c = cell_of(thread_id(), z);
    const float *column = from + c.image * z.from_height * z.from_width + c.x;
    const float *weight = weights + r.weight + (c.map / 3 * 2 + c.map % 3) * r.window;
    float sum = 0.0f;
    for (int k = 0; 2 * k < r.window; k++) {
        const float value = folded(column, z.from_width, c.y + r.edge - padding, z.from_height, k, r.window);
        sum = c.map % 3 == 2 ? sum + value : __fmaf_rn(weight[k], value, sum);
    }
    sums[thread_id()] = sum;
}

// The response along the rows of these sums, one map of them after another.
extern "C" __global__ void fold_across(Plane z, const float *sums, i64 n, Response r, const float *weights, int padding, Maps maps,
                                       float *to) {
    if (thread_id() >= n) return;
    const Cell c = cell_of(thread_id(), {1, z.height, z.width, z.from_maps, z.from_height, z.from_width});
    const float *weight = weights + r.weight + 2 * r.pairs * r.window;
    float sum = 0.0f;
    for (int term = 0; term < z.from_maps; term++, weight += r.window) {
        const float *row = sums + ((c.image * z.from_maps + term) * z.from_height + c.y) * z.from_width;
        for (int k = 0; 2 * k < r.window; k++)
            sum = __fmaf_rn(weight[k], folded(row, 1, c.x + r.edge - padding, z.from_width, k, r.window), sum);
    }
    rectify(c, sum, r, maps, z, to);
}

// The sum of `size` values, a power of two, each half of them by itself.
__device__ float halves(const float *line, int stride, int at, int limit, int size) {
    float held[31];
    int level = 0;
    for (int i = 0; i < size; i++) {
        float sum = value_at(line, stride, at + i, limit);
        for (level = 0; i >> level & 1; level++) sum = held[level] + sum;
        held[level] = sum;
    }
    return held[level];
}

// The sum of 2 radius + 1 values around a place: of 1, 2, 4, ... as its binary digits say, the shortest first.
__device__ float window_sum(const float *line, int stride, int at, int limit, int radius) {
    int first = at - radius + 1;
    float sum = value_at(line, stride, at - radius, limit);
    for (int size = 2; size <= 2 * radius + 1; size *= 2) {
        if (!(2 * radius + 1 & size)) continue;
        sum += halves(line, stride, first, limit, size);
        first += size;
    }
    return sum;
}

// Sums over 2 radius + 1 columns, zeros beyond the border.
extern "C" __global__ void sum_rows(Plane z, const float *from, i64 n, int radius, float *sums) {
    if (thread_id() >= n) return;
    const Cell c = cell_of(thread_id(), z);
    sums[thread_id()] = window_sum(from + thread_id() - c.x, 1, c.x, z.width, radius);
}

// Divides by the mean over (2 radius + 1)^2 cells, given the sums over columns and a cell's share of the mean.
extern "C" __global__ void normalize(Plane z, const float *from, i64 n, int radius, const float *sums, float share, float *to) {
    if (thread_id() >= n) return;
    const Cell c = cell_of(thread_id(), z);
    const float sum = window_sum(sums + thread_id() - (i64)c.y * z.width, z.width, c.y, z.height, radius);
    to[thread_id()] = from[thread_id()] / (sum * share + 1e-12f);
}

// Positive parts become the first maps if `on`, negative ones with their sign turned the maps from `off` on if that is not negative.
extern "C" __global__ void split(Plane z, const float *from, i64 n, float threshold, int on, int off, float *to) {
    if (thread_id() >= n) return;
    const i64 each = (i64)z.from_maps * z.height * z.width, image = thread_id() / each, at = thread_id() % each;
    const i64 base = image * z.maps * z.height * z.width + at;
    const float plus = from[thread_id()] + 0.0f, minus = 0.0f - from[thread_id()];
    if (on) to[base] = plus < threshold ? 0.0f : plus;
    if (off >= 0) to[base + (i64)off * z.height * z.width] = minus < threshold ? 0.0f : minus;
}

// Block i divides image i by its largest magnitude, unless that is 0. Shared: a float a thread.
extern "C" __global__ void divide_by_largest(const float *from, i64 each, float *to) {
    float *held = (float *)shared;
    const i64 first = blockIdx.x * each;
    float largest = 0.0f;
    for (i64 i = threadIdx.x; i < each; i += blockDim.x) largest = max(largest, fabsf(from[first + i]));
    held[threadIdx.x] = largest;
    for (int n = blockDim.x; n > 1;) {
        const int half = (n + 1) / 2;
        __syncthreads();
        if ((int)threadIdx.x + half < n) held[threadIdx.x] = max(held[threadIdx.x], held[threadIdx.x + half]);
        n = half;
    }
    __syncthreads();
    for (i64 i = threadIdx.x; i < each; i += blockDim.x) to[first + i] = from[first + i] / (held[0] > 0.0f ? held[0] : 1.0f);
}

__device__ i64 dense_place(const Cell &c, const Plane &z, int padded) {
    return ((c.image * z.height + c.y) * z.width + c.x) * padded + c.map;
}

// Dense scratch of what is above 0: a key that sorts the largest first. Nothing else is written.
extern "C" __global__ void intensity_keys(Plane z, const float *from, i64 n, int padded, unsigned *keys) {
    if (thread_id() >= n) return;
    const float value = from[thread_id()];
    if (value > 0.0f) keys[dense_place(cell_of(thread_id(), z), z, padded)] = ~__float_as_uint(value);
}

// Block i deals the sorted cells of image i, which has `stretches` starts, into bins of equally many; when[...] becomes the bin.
extern "C" __global__ void equal_bins(Plane z, const i64 *starts, int stretches, const uint2 *sorted, int bins, int padded,
                                      unsigned *when) {
    const i64 image = blockIdx.x, begin = starts[image * stretches], n = starts[(image + 1) * stretches] - begin;
    const i64 each = max((i64)1, n / bins);
    const unsigned positions = z.height * z.width;
    for (i64 r = threadIdx.x; r < min(n, each * bins); r += blockDim.x) {
        const unsigned map = sorted[begin + r].x / positions, p = sorted[begin + r].x % positions;
        when[(image * positions + p) * padded + map] = r / each;
    }
}

// when[...] becomes the bin of each intensity above 0, earlier for larger ones. Nothing else is written.
extern "C" __global__ void linear_bins(Plane z, const float *from, i64 n, int bins, int padded, unsigned *when) {
    if (thread_id() >= n || !(from[thread_id()] > 0.0f)) return;
    const i64 bin = (i64)((1.0 - (double)from[thread_id()]) * bins);
    when[dense_place(cell_of(thread_id(), z), z, padded)] = min(bin, (i64)bins - 1);
}
