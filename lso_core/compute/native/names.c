#include "names.h"

#include <stdlib.h>
#include <string.h>

/* With so many probes names are no accident. */
enum { LEAST_ROOM = 16, MOST_PROBES = 128 };

/* Where things lie differs from process to process, so nobody can prepare names that collide. */
static const int WHERE = 0;

static uint32_t hash_of(struct span name)
{
    uint64_t hash = (uint64_t)(uintptr_t)&WHERE ^ name.length, word;
    const uint8_t *at = name.at;
    uint32_t left = name.length;
    for (; left >= 8; left -= 8, at += 8) {
        memcpy(&word, at, 8);
        hash = (hash ^ word) * 0x9E3779B97F4A7C15u;
        hash ^= hash >> 32;
    }
    word = 0;
    memcpy(&word, at, left);
    hash = (hash ^ word) * 0x9E3779B97F4A7C15u;
    hash ^= hash >> 29;
    return (uint32_t)((hash * 0xBF58476D1CE4E5B9u) >> 32);
}

static int is_same(struct span one, struct span other)
{
    return one.length == other.length && memcmp(one.at, other.at, one.length) == 0;
}

static int grow(struct names *names)
{
    uint32_t room = names->room ? names->room * 2 : LEAST_ROOM, slot_count = room * 2;
    struct span *all = realloc(names->all, room * sizeof *all);
    if (all != NULL)
        names->all = all;
    uint32_t *hashes = realloc(names->hashes, room * sizeof *hashes);
    if (hashes != NULL)
        names->hashes = hashes;
    uint32_t *slots = calloc(slot_count, sizeof *slots);
    if (all == NULL || hashes == NULL || slots == NULL) {
        free(slots);
        return 0;
    }
    for (uint32_t position = 0; position < names->count; position++) {
        uint32_t slot = hashes[position] & (slot_count - 1);
        while (slots[slot])
            slot = (slot + 1) & (slot_count - 1);
        slots[slot] = position + 1;
    }
    free(names->slots);
    names->slots = slots;
    names->slot_count = slot_count;
    names->room = room;
    return 1;
}

static struct start start_of(struct span name)
{
    struct start start = {0, UINT64_MAX};
    size_t length = name.length < sizeof start.bytes ? name.length : sizeof start.bytes;
    memcpy(&start.bytes, name.at, length);
    if (length < sizeof start.bytes) {
        start.bytes |= (uint64_t)'"' << 8 * length;
        start.mask >>= 8 * (sizeof start.bytes - length - 1);
    }
    return start;
}

static uint32_t add(struct names *names, struct span name, uint32_t hash, uint32_t slot)
{
    names->all[names->count] = name;
    names->hashes[names->count] = hash;
    names->slots[slot] = names->count + 1;
    if (names->count < NAMES_FEW)
        names->starts[names->count] = start_of(name);
    return names->count++;
}

uint32_t names_number(struct names *names, struct span name)
{
    if (names->count && is_same(names->all[names->last], name))
        return names->last;
    if (names->count == names->room && !grow(names))
        return UINT32_MAX;
    uint32_t hash = hash_of(name), slot = hash & (names->slot_count - 1);
    for (int probe = 0; probe < MOST_PROBES; probe++, slot = (slot + 1) & (names->slot_count - 1)) {
        uint32_t found = names->slots[slot];
        if (!found)
            return names->last = add(names, name, hash, slot);
        if (names->hashes[found - 1] == hash && is_same(names->all[found - 1], name))
            return names->last = found - 1;
    }
    return UINT32_MAX;
}

void names_free(struct names *names)
{
    free(names->all);
    free(names->hashes);
    free(names->slots);
}
