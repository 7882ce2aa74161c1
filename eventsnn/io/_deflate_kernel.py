"""Compiled: deflate (RFC 1951) for shuffled columns, which are runs of a byte, or bytes without pattern.

Nothing but runs is looked for, and each block has Huffman codes of its own. What zlib does with its strategy for runs
comes out almost as small, and takes three times as long.
"""

from __future__ import annotations

import numpy as np

from eventsnn.jit import inner, lean_kernel

_END, _SYMBOLS = 256, 286
_LONGEST_RUN = 258
_RUNS = 512  # where the entries of runs begin in a table, after those of symbols
_MOST_BITS = 15  # of a code
_COUNT_AT = np.uint32(26)  # where an entry of a table keeps how many bits it has
_LENGTH_ORDER = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15)

#: 32-bit words of scratch memory for :func:`deflate`, beside one for each byte of a block
SCRATCH = 4096
#: bytes that a block may take, beside two for each of its bytes
ROOM = 512


@inner
def _length_code(length):
    """Return the symbol of a run's length, how many bits more it takes, and these."""
    if length == _LONGEST_RUN:
        return np.int64(285), np.int64(0), np.int64(0)
    rest, bits = length - 3, np.int64(0)
    while rest >> bits >= 8:
        bits += 1
    return 257 + (bits << 2) + (rest >> bits), bits, rest & ((np.int64(1) << bits) - 1)


@inner
def _tokens(data, first, last, tokens, counts):
    """Write a block as bytes and, from ``_RUNS`` on, how often the byte before comes again; return their number."""
    n, i = np.uint64(0), np.uint64(first)
    end = np.uint64(last)
    while i < end:
        value = data[i]
        tokens[n] = value
        counts[value] += np.uint32(1)
        n += np.uint64(1)
        i += np.uint64(1)
        while i + np.uint64(3) <= end and (
            (data[i] == value) & (data[i + np.uint64(1)] == value) & (data[i + np.uint64(2)] == value)
        ):
            most = min(end, i + np.uint64(_LONGEST_RUN))
            stop = i + np.uint64(3)
            while stop < most and data[stop] == value:
                stop += np.uint64(1)
            length = np.int64(stop - i)
            tokens[n] = np.uint32(_RUNS + length)
            symbol, _, _ = _length_code(length)
            counts[symbol] += np.uint32(1)
            n += np.uint64(1)
            i = stop
    return n


@inner
def _lengths(counts, order, weights, parents, lengths):
    """Give each symbol that occurs the length of its Huffman code; return the longest."""
    n = np.int64(0)
    for symbol in range(_SYMBOLS):
        lengths[symbol] = np.uint32(0)
        if counts[symbol]:
            place = n
            while place > 0 and counts[order[place - 1]] > counts[symbol]:
                order[place] = order[place - 1]
                place -= 1
            order[place] = np.uint32(symbol)
            n += 1
    # The lightest two of leaves and of pairs, each in order of weight, become a pair, until one is left.
    leaf, pair = np.int64(0), n
    for i in range(n):
        weights[i] = counts[order[i]]
    for new in range(n, 2 * n - 1):
        weights[new] = np.uint32(0)
        for _ in range(2):
            if leaf < n and (pair >= new or weights[leaf] <= weights[pair]):
                chosen, leaf = leaf, leaf + 1
            else:
                chosen, pair = pair, pair + 1
            weights[new] += weights[chosen]
            parents[chosen] = np.uint32(new)
    longest = np.uint32(0)
    weights[2 * n - 2] = np.uint32(0)  # from here on depths
    for i in range(2 * n - 3, -1, -1):
        weights[i] = weights[parents[i]] + np.uint32(1)
        if i < n:
            lengths[order[i]] = weights[i]
            longest = max(longest, weights[i])
    return longest


@inner
def _codes(lengths, table):
    """Give each symbol an entry: the bits of its code, the first one lowest, and how many they are."""
    code = np.int64(0)
    for length in range(1, _MOST_BITS + 1):
        for symbol in range(_SYMBOLS):
            if lengths[symbol] == length:
                turned = np.uint32(0)
                for bit in range(length):
                    turned |= np.uint32(code >> bit & 1) << np.uint32(length - 1 - bit)
                table[symbol] = turned | np.uint32(length) << _COUNT_AT
                code += 1
        code <<= 1


@inner
def _run_entries(table, runs):
    """Make an entry of each length of a run: its code, the bits more, and the bit of the only distance."""
    for length in range(3, _LONGEST_RUN + 1):
        symbol, bits, rest = _length_code(np.int64(length))
        entry = table[symbol]
        count = entry >> _COUNT_AT
        code = entry & ((np.uint32(1) << _COUNT_AT) - np.uint32(1))
        runs[length] = code | np.uint32(rest) << count | (count + np.uint32(bits) + np.uint32(1)) << _COUNT_AT


@inner
def _write(out, place, bits, count):
    """Write bits after so many; return how many there are now. ``out`` has zeros from there on in its word."""
    word, shift = place >> np.uint64(5), place & np.uint64(31)
    whole = np.uint64(out[word]) | np.uint64(bits) << shift
    out[word] = np.uint32(whole)
    out[word + np.uint64(1)] = np.uint32(whole >> np.uint64(32))
    return place + np.uint64(count)


@inner
def _write_header(out, place, lengths, last):
    """Write that a block with codes of its own begins, and their lengths, in 4 bits each."""
    place = _write(out, place, np.uint32(last | 2 << 1), 3)
    place = _write(out, place, np.uint32(_SYMBOLS - 257 | (len(_LENGTH_ORDER) - 4) << 10), 14)
    for symbol in _LENGTH_ORDER:
        place = _write(out, place, np.uint32(4 if symbol < 16 else 0), 3)
    for symbol in range(_SYMBOLS + 1):  # the last is the only distance: one byte back
        length = lengths[symbol] if symbol < _SYMBOLS else np.uint32(1)
        turned = (length & 1) << 3 | (length & 2) << 1 | (length & 4) >> 1 | length >> 3
        place = _write(out, place, np.uint32(turned), 4)
    return place


@lean_kernel
def deflate(data, block, out, scratch):
    """Compress bytes, in blocks of so many; return how many bytes of ``out`` are used.

    ``out`` and ``scratch`` are of uint32, the first with ``ROOM`` bytes for each block and two for each byte, the
    latter with ``SCRATCH`` words and one for each byte of a block.
    """
    counts, lengths, table = scratch[:512], scratch[512:1024], scratch[1024:2048]
    order, weights, parents, tokens = scratch[2048:2560], scratch[2560:3328], scratch[3328:4096], scratch[4096:]
    mask = (np.uint32(1) << _COUNT_AT) - np.uint32(1)
    place = np.uint64(0)
    out[0] = np.uint32(0)
    for first in range(0, len(data), block):
        last = min(first + block, len(data))
        for symbol in range(_SYMBOLS):
            counts[symbol] = np.uint32(0)
        n = _tokens(data, first, last, tokens, counts)
        counts[_END] = np.uint32(1)
        while _lengths(counts, order, weights, parents, lengths) > _MOST_BITS:
            for symbol in range(_SYMBOLS):  # rarer symbols are made out to be less rare
                counts[symbol] = (counts[symbol] + np.uint32(1)) >> np.uint32(1)
        _codes(lengths, table)
        end = table[_END]
        place = _write_header(out, place, lengths, last == len(data))
        _run_entries(table, table[_RUNS:])
        word, fill = place >> np.uint64(5), place & np.uint64(31)
        held = np.uint64(out[word])
        for i in range(n):
            entry = table[tokens[i]]
            held |= np.uint64(entry & mask) << fill
            fill += np.uint64(entry >> _COUNT_AT)
            out[word] = np.uint32(held)
            is_full = fill >> np.uint64(5)
            word += is_full
            held >>= is_full << np.uint64(5)
            fill &= np.uint64(31)
        out[word] = np.uint32(held)
        place = _write(out, word << np.uint64(5) | fill, end & mask, end >> _COUNT_AT)
    return np.int64(place + np.uint64(7)) >> 3
