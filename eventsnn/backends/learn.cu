// Learning on a GPU: who wins, and what winners do to weights and thresholds. Joined to kernels.cu, whose lists of
// spikes by place are made for all presentations before any of them is learnt from: they do not depend on weights.

#define NOBODY (~(u64)0)
#define NOT_HEARD 0xffffffffu

// Presentations ------------------------------------------------------------------------------------------------------

// Tells whether spike e is heard at output position `at`, and where in its window; the whole grid if `at` is negative.
__device__ bool heard(const Sizes &z, const Spikes &in, i64 e, i64 at, int *y, int *x) {
    *y = in.y[e], *x = in.x[e];
    if (at < 0) return true;
    *y += z.ph - (int)(at / z.ow) * z.sh;
    *x += z.pw - (int)(at % z.ow) * z.sw;
    return *y >= 0 && *y < z.kh && *x >= 0 && *x < z.kw;
}

// Block i: counts[1 + i] becomes the number of spikes of presentation i, sample order[i] or, with positions, a window of it.
extern "C" __global__ void count_presented(Sizes z, Spikes in, const i64 *order, const i64 *positions, i64 *counts) {
    const i64 i = blockIdx.x, begin = in.offsets[order[i]], end = in.offsets[order[i] + 1], at = positions ? positions[i] : -1;
    int mine = 0, total, y, x;
    for (i64 e = begin + threadIdx.x; e < end; e += blockDim.x) mine += heard(z, in, e, at, &y, &x);
    scan_block(mine, (int *)shared, &total);
    if (threadIdx.x == 0) counts[i + 1] = total;
}

// Block i writes the spikes of presentation i, from starts[i] on, in order.
extern "C" __global__ void gather_presented(Sizes z, Spikes in, const i64 *order, const i64 *positions, const i64 *starts,
                                            Columns out) {
    const i64 i = blockIdx.x, begin = in.offsets[order[i]], end = in.offsets[order[i] + 1], at = positions ? positions[i] : -1;
    i64 to = starts[i];
    for (i64 first = begin; first < end; first += blockDim.x) {
        const i64 e = first + threadIdx.x;
        int total, y = 0, x = 0;
        const bool mine = e < end && heard(z, in, e, at, &y, &x);
        const i64 slot = to + scan_block(mine, (int *)shared, &total);
        if (mine) out.time[slot] = in.time[e], out.channel[slot] = in.channel[e], out.y[slot] = y, out.x[slot] = x;
        to += total;
    }
}

// Returns the first index from `begin` to `end` whose entry is not below `least`, of ascending integers.
__device__ i64 lower_bound(const int *values, i64 begin, i64 end, int least) {
    while (begin < end) {
        const i64 middle = begin + (end - begin) / 2;
        if (values[middle] < least) begin = middle + 1;
        else end = middle;
    }
    return begin;
}

// Thread (place, r): cuts[place * (rounds + 1) + r] becomes how many of the place's spikes come before round r. A round
// ends with the first time that ends at or after its number of spikes, so that nobody who fires at one time comes later.
extern "C" __global__ void cut_rounds(Sizes z, Spikes in, const i64 *starts, const int *spikes, i64 places, int rounds,
                                      int round, int *cuts) {
    const i64 place = thread_id() / (rounds + 1), r = thread_id() % (rounds + 1);
    if (place >= places) return;
    const i64 sample = place / (z.oh * z.ow), begin = in.offsets[sample], n = in.offsets[sample + 1] - begin;
    const i64 length = starts[place + 1] - starts[place], least = r * round;
    i64 cut = r == 0 ? 0 : length;
    if (r > 0 && least < n) {
        const int *rank = in.rank + begin;
        const i64 stop = lower_bound(rank, least, n, rank[least - 1] + 1);
        cut = lower_bound(spikes + starts[place], 0, length, (int)stop);
    }
    cuts[thread_id()] = cut;
}

// Competition --------------------------------------------------------------------------------------------------------

// How a presentation runs, and scratch of the block that runs it. A neuron that fired has the key (rank of the time
// within the round, potential, map): the smallest wins. winners (presentations, k, 4) are -1 before.
struct Contest {
    const int *cuts;
    u64 *best;         // (positions): the smallest key, with pointwise inhibition
    Candidate *crowd;  // without: all who fire in a round
    float *potential;  // (positions, padded), -inf where the neuron has fired
    int *size;         // of the crowd
    unsigned char *closed, *won;  // (positions), (maps)
    i64 *winners;
    float *at_spike;  // potentials of the winners
    int k, radius, pointwise, rounds, round, leaky, at_end;
};

__device__ Contest of_block(const Contest &all, const Sizes &z, i64 block) {
    const i64 positions = z.oh * z.ow, neurons = positions * z.padded;
    Contest c = all;
    c.best += block * positions;
    if (c.crowd) c.crowd += block * neurons;
    c.potential += block * neurons;
    c.size += block;
    c.closed += block * positions;
    c.won += block * z.maps;
    return c;
}

// Notes who of a thread's neurons fired; `rank` is of the presentation's spikes, null where all fire together.
__device__ void report(const Contest &c, const Cells &cells, const int *rank, int base, int p, int map) {
    u64 first = NOBODY;
    for (int j = 0; j < WIDTH; j++) {
        if (cells.when[j] == NEVER) continue;
        const u64 later = rank ? rank[cells.when[j]] - base : 0;
        const u64 key = later << 48 | (u64)~ordered(cells.fired_at.v[j]) << 16 | (u64)(map + j);
        if (!c.pointwise) c.crowd[atomicAdd(c.size, 1)] = {key, p};
        first = min(first, key);
    }
    if (c.pointwise && first != NOBODY) atomicMin(c.best + p, first);
}

// Adds what arrives at every open position in round r of presentation i, and notes who fires: the share of one thread
// of so many.
template <bool LEAKY, bool AT_END>
__device__ void add_round(const Sizes &z, const Spikes &in, const Leak &leak, i64 last_time, const Layer &layer,
                          const Contest &c, i64 i, int r, i64 thread, i64 threads) {
    const i64 positions = z.oh * z.ow, begin = in.offsets[i];
    const int quads = z.padded / WIDTH, base = AT_END ? 0 : in.rank[begin + (i64)r * c.round];
    const i64 quiet = layer.quiet ? layer.quiet[0] : 0;
    for (i64 item = thread; item < positions * quads; item += threads) {
        const int p = item / quads, map = item % quads * WIDTH;
        if (c.closed[p]) continue;
        const i64 place = i * positions + p, start = layer.starts[place];
        const int *cut = c.cuts + place * (c.rounds + 1) + r;
        i64 from = AT_END ? 0 : cut[0];
        const i64 to = AT_END ? layer.starts[place + 1] - start : cut[1];
        if (to == from || to <= quiet) continue;
        if (from <= quiet) from = 0;  // these have waited until somebody may fire
        float *potential = c.potential + p * (i64)z.padded + map;
        Cells cells = resting(load_quad(layer.limit + map));
        if (from > 0) cells.potential = load_quad(potential);
        for (int j = 0; j < WIDTH; j++) cells.alive -= cells.limit.v[j] < infinity() && cells.potential.v[j] == -infinity();
        if (cells.alive == 0) continue;
        const i64 at = start + from;
        const Input list = {layer.rows + at, layer.spikes + at, layer.decay + at, layer.weights + map, z.padded};
        integrate<LEAKY, AT_END>(&cells, list, to - from);
        if (AT_END && LEAKY) {
            const i64 t = in.time[begin + layer.spikes[start + to - 1]];
            const float decay = leak_factor(leak.coarse, leak.n_coarse, leak.fine, leak.n_fine, last_time - t);
            for (int j = 0; j < WIDTH; j++) cells.potential.v[j] = cells.potential.v[j] * decay;
        }
        if (AT_END) fire(&cells, 0);
        report(c, cells, AT_END ? nullptr : in.rank + begin, base, p, map);
        for (int j = 0; j < WIDTH; j++)
            if (cells.when[j] != NEVER) cells.potential.v[j] = -infinity();
        store_quad(potential, cells.potential);
    }
}

// Returns the first of those who fired in this round and are not excluded. held: a Candidate a thread; the caller waits
// for all threads before it comes again.
__device__ Candidate first_left(const Contest &c, i64 positions, Candidate *held) {
    const i64 n = c.pointwise ? positions : c.size[0];
    Candidate first = {NOBODY, positions};
    for (i64 i = threadIdx.x; i < n; i += blockDim.x) {
        const Candidate other = c.pointwise ? Candidate{c.best[i], i} : c.crowd[i];
        if (other.urgency == NOBODY || c.won[other.urgency & 0xffff] || c.closed[other.spike]) continue;
        if (before(other, first)) first = other;
    }
    held[threadIdx.x] = first;
    first_of_block(held);
    return held[0];
}

// Takes winners from those who fired in round r, whose first time has rank `base`; returns how many there are now.
__device__ int choose(const Sizes &z, const Spikes &in, i64 last_time, const Contest &c, i64 i, int base, int found) {
    for (; found < c.k; found++) {
        const Candidate first = first_left(c, z.oh * z.ow, (Candidate *)shared);
        if (first.urgency == NOBODY) break;
        const int f = first.urgency & 0xffff, oy = first.spike / z.ow, ox = first.spike % z.ow;
        if (threadIdx.x == 0) {
            const i64 begin = in.offsets[i], end = in.offsets[i + 1];
            const int rank = base + (int)(first.urgency >> 48);
            i64 *row = c.winners + (i * c.k + found) * 4;
            row[0] = f, row[1] = oy, row[2] = ox;
            row[3] = c.at_end ? last_time : in.time[lower_bound(in.rank, begin, end, rank)];
            c.at_spike[i * c.k + found] = unordered(~(unsigned)(first.urgency >> 16));
            c.won[f] = 1;
        }
        const int top = max(0, oy - c.radius), bottom = min(z.oh - 1, oy + c.radius);
        const int left = max(0, ox - c.radius), wide = min(z.ow - 1, ox + c.radius) - left + 1;
        for (int q = threadIdx.x; c.radius > 0 && q < (bottom - top + 1) * wide; q += blockDim.x)
            c.closed[(top + q / wide) * z.ow + left + q % wide] = 1;
        __syncthreads();
    }
    return found;
}

// Blocks that go through each round together: the first one says which, and does all else alone.
struct Team {
    u64 *arrived;  // blocks at barriers, since the launch
    i64 *job;      // presentation, -1 at the end; round
};

#ifndef HOST
__device__ u64 peek(const u64 *at) { return *(const volatile u64 *)at; }

__device__ void idle() {}
#endif

// Waits for all threads of all blocks.
__device__ void sync_blocks(const Team &team) {
    __syncthreads();
    if (gridDim.x == 1) return;
    if (threadIdx.x == 0) {
        __threadfence();
        const u64 all = (atomicAdd(team.arrived, (u64)1) / gridDim.x + 1) * gridDim.x;
        while (peek(team.arrived) < all) idle();
        __threadfence();
    }
    __syncthreads();
}

// What all presentations of a launch have in common.
struct Lesson {
    Sizes z;
    Spikes in;
    Leak leak;
    Layer layer;
    i64 last_time;
};

__device__ void run_round(const Lesson &l, const Contest &c, i64 i, int r, i64 thread, i64 threads) {
    if (c.at_end && c.leaky) add_round<true, true>(l.z, l.in, l.leak, l.last_time, l.layer, c, i, r, thread, threads);
    else if (c.at_end) add_round<false, true>(l.z, l.in, l.leak, l.last_time, l.layer, c, i, r, thread, threads);
    else if (c.leaky) add_round<true, false>(l.z, l.in, l.leak, l.last_time, l.layer, c, i, r, thread, threads);
    else add_round<false, false>(l.z, l.in, l.leak, l.last_time, l.layer, c, i, r, thread, threads);
}

// Where a block is in its presentations: in round r, -1 before the first, of presentation i.
struct Course {
    i64 i;
    int r, found;
};

__device__ void begin_presentation(const Lesson &l, const Contest &c, Course *at) {
    at->r = -1, at->found = 0;
    for (int p = threadIdx.x; p < l.z.oh * l.z.ow; p += blockDim.x) c.best[p] = NOBODY, c.closed[p] = 0;
    for (int f = threadIdx.x; f < l.z.maps; f += blockDim.x) c.won[f] = 0;
    if (threadIdx.x == 0) c.size[0] = 0;
    __syncthreads();
}

// Goes to the next round, and returns whether there is one that may bring winners.
__device__ bool next_round(const Lesson &l, const Contest &c, Course *at) {
    const i64 begin = l.in.offsets[at->i], n = l.in.offsets[at->i + 1] - begin;
    const int *rank = l.in.rank + begin;
    for (at->r++; at->r < c.rounds && at->found < c.k; at->r++) {
        const i64 first = (i64)at->r * c.round, next = min(first + c.round, n);
        if (first >= n) return false;
        if (c.at_end || at->r == 0 || rank[next - 1] != rank[first - 1]) return true;  // else it came with the one before
    }
    return false;
}

__device__ void end_round(const Lesson &l, const Contest &c, Course *at) {
    const int base = c.at_end ? 0 : l.in.rank[l.in.offsets[at->i] + (i64)at->r * c.round];
    at->found = choose(l.z, l.in, l.last_time, c, at->i, base, at->found);
    for (int p = threadIdx.x; c.pointwise && p < l.z.oh * l.z.ow; p += blockDim.x)
        if (c.best[p] != NOBODY) c.closed[p] = 1;  // one map fired here, so no other will
    if (threadIdx.x == 0) c.size[0] = 0;
    __syncthreads();
}

// Plasticity ---------------------------------------------------------------------------------------------------------

// How winners change weights and thresholds; index 0 of rates, bounds and dependences: the usual (or reward) ones, 1: the
// punishing ones. decides (winners, weight rows) is NOT_HEARD before and after; failed (maps) NOBODY.
struct Rule {
    const float *plus, *minus;               // (2, maps)
    const float *coarse, *fine, *scale;      // exp(-dt / tau), exp(-beta u)
    const i64 *labels, *order, *classes;     // labels by sample, order by presentation, or null
    float *weights, *limit;
    unsigned *decides;
    u64 *failed;    // the first weight row for which a rule of one's own failed in a map
    double *asked;  // (maps, 6): presentation, winner, and what the rule was then asked
    int n_coarse, n_fine, own, dependence[2];
    float lower[2], upper[2], rate, target, share, floor, duration;  // rate -1: thresholds stay
};

#ifndef OWN_RULE  // a rule of one's own, if there is one, stands before this text
__device__ double own_rule(double w, double, double, double, bool *) { return w; }
#endif

// A spike as it decides for a synapse, smaller if it does so rather than another: the last by the winner's time, else the first after it.
__device__ unsigned precedence(int spike, bool causal) {
    return causal ? 0x7fffffffu - (unsigned)spike : 0x80000000u + (unsigned)spike;
}

__device__ int spike_of(unsigned precedence) {
    return (int)(precedence < 0x80000000u ? 0x7fffffffu - precedence : precedence - 0x80000000u);
}

// Returns exp(-beta u) as ScaleTable does.
__device__ float scaled(const float *table, float u) {
    const float x = min(max(u, 0.0f), 1.0f) * 4096.0f;
    const int i = min((int)x, 4095);
    return table[i] + (x - (float)i) * (table[i + 1] - table[i]);
}

__device__ float by_dependence(int kind, bool causal, float w, float lower, float upper, const float *table) {
    const float below = w - lower, above = upper - w;
    if (kind == 0) return 1.0f;
    if (kind == 1) return below * above;
    if (kind == 2) return scaled(table, (causal ? below : above) / (upper - lower));
    return causal ? above : below;
}

__device__ float clipped(float w, float lower, float upper) { return min(max(w, lower), upper); }

// A winner as its weights see it.
struct Winner {
    int map, pair;
    i64 time;
    double potential, reward;
};

__device__ float built_in(const Rule &rule, const Winner &v, int maps, float w, bool causal, bool any, i64 dt) {
    float a = (causal ? rule.plus : rule.minus)[v.pair * maps + v.map];
    if (rule.n_fine)
        a = a * (any ? leak_factor(rule.coarse, rule.n_coarse, rule.fine, rule.n_fine, dt < 0 ? -dt : dt) : 0.0f);
    return w + a * by_dependence(rule.dependence[v.pair], causal, w, rule.lower[v.pair], rule.upper[v.pair], rule.scale);
}

// Returns the new weight before it is clipped; `wrong` becomes true where a rule of one's own gives none.
__device__ float changed(const Rule &rule, const Winner &v, int maps, const i64 *time, float w, unsigned decides, bool *wrong) {
    const bool any = decides != NOT_HEARD, causal = decides < 0x80000000u;
    const i64 dt = any ? v.time - time[spike_of(decides)] : 0;
    if (!rule.own) return built_in(rule, v, maps, w, causal, any, dt);
    const double asked = any ? (double)dt : -(double)infinity();
    const float value = (float)own_rule((double)w, asked, v.potential, v.reward, wrong);
    *wrong |= !(value - value == 0.0f);
    return value;
}

// Notes for every synapse of the neurons at a place which spike decides for it.
__device__ void note_spikes(const Spikes &in, const Layer &layer, i64 begin, i64 place, i64 time, unsigned *decides) {
    for (i64 e = layer.starts[place] + threadIdx.x; e < layer.starts[place + 1]; e += blockDim.x) {
        const int spike = layer.spikes[e];
        atomicMin(decides + (layer.rows[e] >> 1), precedence(spike, in.time[begin + spike] <= time));
    }
}

// Changes the weights of a winner's map.
__device__ void change_map(const Sizes &z, const Rule &rule, const Winner &v, const i64 *time, unsigned *decides) {
    const int rows = z.channels * z.kh * z.kw;
    for (int row = threadIdx.x; row < rows; row += blockDim.x) {
        float *w = rule.weights + (i64)row * z.padded + v.map;
        bool wrong = false;
        const float value = changed(rule, v, z.maps, time, *w, decides[row], &wrong);
        if (wrong) {
            atomicMin(rule.failed + v.map, (u64)row);
            continue;
        }
        *w = clipped(value, rule.lower[v.pair], rule.upper[v.pair]);
        decides[row] = NOT_HEARD;
    }
}

// Notes with what a rule of one's own failed first, once all threads have gone through the map.
__device__ void note_failure(const Sizes &z, const Rule &rule, const Winner &v, const i64 *time, const unsigned *decides,
                             i64 presentation, int j) {
    const i64 row = rule.failed[v.map];
    const bool any = decides[row] != NOT_HEARD;
    double *asked = rule.asked + v.map * 6;
    asked[0] = presentation, asked[1] = j;
    asked[2] = rule.weights[row * z.padded + v.map];
    asked[3] = any ? (double)(v.time - time[spike_of(decides[row])]) : -(double)infinity();
    asked[4] = v.potential, asked[5] = v.reward;
}

// Moves the threshold of map g after the winners of a presentation, as ThresholdAdaptation does.
__device__ void adapt(const Rule &rule, const i64 *winners, int found, int g) {
    float level = rule.limit[g];
    if (!(level < infinity())) return;
    for (int j = 0; j < found; j++) {
        float moved = level - rule.rate * ((float)winners[j * 4 + 3] / rule.duration - rule.target);
        moved = g == winners[j * 4] ? moved + rule.rate : moved - rule.share;
        level = max(moved, rule.floor);
    }
    rule.limit[g] = level;
}

// Bounds within which all weights that this block has to do with are known to lie.
struct Bounds {
    float lower, upper;
};

// Brings the weights of maps from `first` to `last` into the bounds of a pair.
__device__ void clip_maps(const Sizes &z, const Rule &rule, int pair, int first, int last, Bounds *bounds) {
    const float lower = rule.lower[pair], upper = rule.upper[pair];
    if (bounds->lower == lower && bounds->upper == upper) return;
    *bounds = {lower, upper};
    const int maps = last - first;
    for (i64 i = threadIdx.x; i < (i64)z.channels * z.kh * z.kw * maps; i += blockDim.x) {
        float *w = rule.weights + i / maps * z.padded + first + i % maps;
        *w = clipped(*w, lower, upper);
    }
}

// Lets the winners of presentation i change the maps from `first` to `last`; false if a rule of one's own failed.
// decides: room for as many winners as there may be among these maps.
__device__ bool learn_from(const Sizes &z, const Spikes &in, const Layer &layer, const Contest &c, const Rule &rule, i64 i,
                           int first, int last, unsigned *decides, Bounds *bounds) {
    const i64 begin = in.offsets[i], *winners = c.winners + i * c.k * 4;
    const int rows = z.channels * z.kh * z.kw;
    int found = 0;
    while (found < c.k && winners[found * 4] >= 0) found++;
    if (found == 0) return true;
    const int pair = rule.classes && rule.classes[winners[0]] != rule.labels[rule.order[i]];
    for (int phase = 0; phase < 3; phase++) {  // note, change, look for failures
        unsigned *own = decides;
        for (int j = 0; j < found; j++) {
            const i64 *w = winners + j * 4;
            if (w[0] < first || w[0] >= last) continue;
            const double reward = rule.classes ? 1 - 2 * pair : 0;
            const Winner v = {(int)w[0], pair, w[3], (double)c.at_spike[i * c.k + j], reward};
            if (phase == 0) note_spikes(in, layer, begin, (i * z.oh + w[1]) * z.ow + w[2], v.time, own);
            if (phase == 1) change_map(z, rule, v, in.time + begin, own);
            if (phase == 2 && rule.failed[v.map] != NOBODY) {
                if (threadIdx.x == 0) note_failure(z, rule, v, in.time + begin, own, i, j);
                return false;
            }
            own += rows;
        }
        if (phase < 2) __syncthreads();
        if (phase == 1 && !rule.own) break;
    }
    clip_maps(z, rule, pair, first, last, bounds);
    for (int g = first + threadIdx.x; rule.rate >= 0 && g < last; g += blockDim.x) adapt(rule, winners, found, g);
    __syncthreads();
    return true;
}

// Presentations one after another, each with the weights that the one before left; blocks are there at the same time.
// Shared: a Candidate a thread.
extern "C" __global__ void __launch_bounds__(1024) learn_online(Lesson l, Contest c, Rule rule, Team team, i64 n) {
    Bounds bounds = {infinity(), -infinity()};
    Course at = {-1, 0, 0};
    for (;;) {
        if (blockIdx.x == 0) {
            if (at.i >= 0) end_round(l, c, &at);
            while (at.i < n && (at.i < 0 || !next_round(l, c, &at))) {
                if (at.i >= 0 && !learn_from(l.z, l.in, l.layer, c, rule, at.i, 0, l.z.maps, rule.decides, &bounds)) at.i = n;
                else at.i++;
                if (at.i < n) begin_presentation(l, c, &at);
            }
            if (threadIdx.x == 0) team.job[0] = at.i < n ? at.i : -1, team.job[1] = at.r;
        }
        sync_blocks(team);
        const i64 i = team.job[0];
        if (i < 0) return;
        run_round(l, c, i, team.job[1], thread_id(), (i64)gridDim.x * blockDim.x);
        sync_blocks(team);
    }
}

// Block b finds the winners of presentation first + b. Shared: a Candidate a thread.
extern "C" __global__ void __launch_bounds__(1024) find_winners(Lesson l, Contest all, i64 first) {
    const Contest c = of_block(all, l.z, blockIdx.x);
    Course at = {first + blockIdx.x, -1, 0};
    begin_presentation(l, c, &at);
    while (next_round(l, c, &at)) {
        run_round(l, c, at.i, at.r, threadIdx.x, blockDim.x);
        __syncthreads();
        end_round(l, c, &at);
    }
}

// Block f lets the winners of the presentations from `first` to `last` change map f, in order: maps do not depend on each other.
extern "C" __global__ void apply_winners(Lesson l, Contest c, Rule rule, i64 first, i64 last) {
    Bounds bounds = {infinity(), -infinity()};
    const int f = blockIdx.x;
    unsigned *decides = rule.decides + (i64)f * l.z.channels * l.z.kh * l.z.kw;
    for (i64 i = first; i < last; i++)
        if (!learn_from(l.z, l.in, l.layer, c, rule, i, f, f + 1, decides, &bounds)) return;
}
