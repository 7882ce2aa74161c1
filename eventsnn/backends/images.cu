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

// Kernel k of `windows` is (windows[k], windows[k]) at weights + begins[k], centred in the largest one's window; images are grey.
extern "C" __global__ void correlate(Plane z, const float *from, i64 n, const float *weights, const int *windows,
                                     const int *begins, int largest, int padding, int absolute, int keep_sign,
                                     float threshold, float *to) {
    if (thread_id() >= n) return;
    const Cell c = cell_of(thread_id(), z);
    const int window = windows[c.map], edge = (largest - window) / 2 - padding;
    const float *image = from + c.image * z.from_height * z.from_width, *weight = weights + begins[c.map];
    float sum = 0.0f;
    for (int ky = 0; ky < window; ky++) {
        const int y = c.y + edge + ky;
        if (y < 0 || y >= z.from_height) continue;
        for (int kx = 0; kx < window; kx++) {
            const int x = c.x + edge + kx;
            if (x >= 0 && x < z.from_width) sum = __fmaf_rn(weight[ky * window + kx], image[y * z.from_width + x], sum);
        }
    }
    const float value = absolute ? fabsf(sum) : sum, size = keep_sign ? fabsf(value) : value;
    to[thread_id()] = size < threshold ? 0.0f : value;
}

// Sums over 2 radius + 1 columns, zeros beyond the border.
extern "C" __global__ void sum_rows(Plane z, const float *from, i64 n, int radius, float *sums) {
    if (thread_id() >= n) return;
    const Cell c = cell_of(thread_id(), z);
    const float *row = from + thread_id() - c.x;
    float sum = 0.0f;
    for (int x = max(0, c.x - radius); x < min(z.width, c.x + radius + 1); x++) sum += row[x];
    sums[thread_id()] = sum;
}

// Divides by the mean over (2 radius + 1)^2 cells, given the sums over columns.
extern "C" __global__ void normalize(Plane z, const float *from, i64 n, int radius, const float *sums, float *to) {
    if (thread_id() >= n) return;
    const Cell c = cell_of(thread_id(), z);
    const float *column = sums + thread_id() - (i64)c.y * z.width;
    float sum = 0.0f;
    for (int y = max(0, c.y - radius); y < min(z.height, c.y + radius + 1); y++) sum += column[(i64)y * z.width];
    const float area = (float)((2 * radius + 1) * (2 * radius + 1));
    to[thread_id()] = from[thread_id()] / (sum / area + 1e-12f);
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
