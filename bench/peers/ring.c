// A bounded single-producer ring of 64-byte records between two pinned processes, as a good C
// programmer writes it: indices 128 bytes apart, each side caches the other's index,
// acquire/release only. The rival of bench/ring.py.
//
//   ring throughput COUNT BATCH CORE CORE   records one by one (BATCH 1) or BATCH per index store
//   ring roundtrip  COUNT 1     CORE CORE   two rings, one record there and back
//   ring paced      COUNT NS    CORE CORE   one way, a record every NS by its intended time
//
// Prints: elapsed_ns checksum p50 p90 p99 p99.9 p99.99 max  (latencies in ns, 0 for throughput).

#define _GNU_SOURCE
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

enum { CAPACITY = 16384, MASK = CAPACITY - 1, WORDS = 8 };

struct record {
    int64_t words[WORDS];
};

struct ring {
    _Alignas(128) _Atomic int64_t head; // next to write
    _Alignas(128) _Atomic int64_t tail; // next to read
    _Alignas(128) struct record slots[CAPACITY];
};

struct shared {
    _Alignas(128) _Atomic int64_t ready[2];
    _Alignas(128) int64_t end_cycles;
    int64_t checksum;
    _Alignas(128) struct ring there, back;
};

static void pin(int core) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(core, &set);
    if (sched_setaffinity(0, sizeof set, &set)) {
        perror("sched_setaffinity");
        exit(1);
    }
}

static void meet(struct shared *shared, int me) {
    atomic_store(&shared->ready[me], 1);
    while (!atomic_load(&shared->ready[1 - me])) _mm_pause();
}

static void write_records(struct ring *ring, int64_t count, int64_t batch) {
    int64_t tail = 0;
    for (int64_t head = 0; head < count;) {
        int64_t end = head + batch < count ? head + batch : count;
        while (end - tail > CAPACITY) {
            tail = atomic_load_explicit(&ring->tail, memory_order_acquire);
            if (end - tail > CAPACITY) _mm_pause();
        }
        for (; head < end; head++)
            for (int64_t word = 0; word < WORDS; word++)
                ring->slots[head & MASK].words[word] = head + word;
        atomic_store_explicit(&ring->head, head, memory_order_release);
    }
}

static int64_t read_records(struct ring *ring, int64_t count, int64_t batch) {
    int64_t head = 0, checksum = 0;
    for (int64_t tail = 0; tail < count;) {
        while (head == tail) {
            head = atomic_load_explicit(&ring->head, memory_order_acquire);
            if (head == tail) _mm_pause();
        }
        int64_t end = batch > 1 ? head : tail + 1;
        for (; tail < end; tail++) {
            struct record *record = &ring->slots[tail & MASK];
            int64_t mixed = 0;
            for (int64_t word = 0; word < WORDS; word++)
                mixed ^= record->words[word] + (tail << 3);
            checksum = (int64_t)((uint64_t)(checksum ^ mixed) * 11400714819323198485u);
        }
        atomic_store_explicit(&ring->tail, tail, memory_order_release);
    }
    return checksum;
}

static void push(struct ring *ring, int64_t head, int64_t value) {
    for (int64_t word = 0; word < WORDS; word++) ring->slots[head & MASK].words[word] = value + word;
    atomic_store_explicit(&ring->head, head + 1, memory_order_release);
}

static int64_t pop(struct ring *ring, int64_t tail) {
    while (atomic_load_explicit(&ring->head, memory_order_acquire) == tail) _mm_pause();
    int64_t value = ring->slots[tail & MASK].words[0];
    atomic_store_explicit(&ring->tail, tail + 1, memory_order_release);
    return value;
}

static double cycles_per_ns(void) {
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    uint64_t start = __rdtsc();
    do clock_gettime(CLOCK_MONOTONIC, &b);
    while ((b.tv_sec - a.tv_sec) * 1000000000L + b.tv_nsec - a.tv_nsec < 20000000);
    return (double)(__rdtsc() - start) / ((b.tv_sec - a.tv_sec) * 1e9 + b.tv_nsec - a.tv_nsec);
}

static int ascending(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

int main(int argc, char **argv) {
    if (argc != 6) return 2;
    const char *mode = argv[1];
    int64_t count = atoll(argv[2]), step = atoll(argv[3]);
    int cores[2] = {atoi(argv[4]), atoi(argv[5])};
    size_t sample_bytes = sizeof(int64_t) * (size_t)count;
    struct shared *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE,
                                 MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    int64_t *samples = mmap(NULL, sample_bytes, PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (shared == MAP_FAILED || samples == MAP_FAILED) return 1;
    double per_ns = cycles_per_ns();
    int throughput = !strcmp(mode, "throughput"), roundtrip = !strcmp(mode, "roundtrip");
    pid_t child = fork();
    if (child == 0) {
        pin(cores[1]);
        meet(shared, 1);
        if (throughput) {
            shared->checksum = read_records(&shared->there, count, step);
        } else if (roundtrip) {
            for (int64_t i = 0; i < count; i++) push(&shared->back, i, pop(&shared->there, i));
        } else {
            for (int64_t i = 0, before = 0; i < count; i++) {
                int64_t intended = pop(&shared->there, i);
                samples[i] = (int64_t)__rdtsc() - intended;
                if (intended > before) shared->checksum += i;
                before = intended;
            }
        }
        shared->end_cycles = (int64_t)__rdtsc();
        _exit(0);
    }
    pin(cores[0]);
    meet(shared, 0);
    int64_t start = (int64_t)__rdtsc();
    if (throughput) {
        write_records(&shared->there, count, step);
    } else if (roundtrip) {
        for (int64_t i = 0; i < count; i++) {
            int64_t sent = (int64_t)__rdtsc();
            push(&shared->there, i, i);
            shared->checksum += pop(&shared->back, i);
            samples[i] = (int64_t)__rdtsc() - sent;
        }
    } else {
        int64_t gap = (int64_t)(step * per_ns), tail = 0;
        for (int64_t i = 0; i < count; i++) {
            int64_t intended = start + i * gap;
            while ((int64_t)__rdtsc() < intended) _mm_pause();
            while (i + 1 - tail > CAPACITY)
                tail = atomic_load_explicit(&shared->there.tail, memory_order_acquire);
            push(&shared->there, i, intended);
        }
    }
    int status;
    waitpid(child, &status, 0);
    printf("%.0f %ld", (shared->end_cycles - start) / per_ns, shared->checksum);
    double shares[] = {0.5, 0.9, 0.99, 0.999, 0.9999};
    qsort(samples, (size_t)count, sizeof *samples, ascending);
    for (int i = 0; i < 5; i++) printf(" %.0f", samples[(int64_t)(shares[i] * count)] / per_ns);
    printf(" %.0f\n", samples[count - 1] / per_ns);
    return status != 0;
}
