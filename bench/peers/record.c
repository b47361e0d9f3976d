// The least that a recorder can do: copy slots out of a ring and write(2) them to a file, without
// checksum, index, validation or gaps. The rival of bench/recorder.py.
//
//   record COUNT BATCH FILE CORE
//
// A batch is put into the ring, then copied and written; only the latter is measured, as CPU time of
// the thread, system calls included. Prints: cpu_ns.

#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { CAPACITY = 65536, MASK = CAPACITY - 1, WORDS = 8 };

struct record {
    int64_t words[WORDS];
};

static int64_t cpu_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec * 1000000000L + now.tv_nsec;
}

static void copy(struct record *to, const struct record *ring, int64_t first, int64_t count) {
    int64_t slot = first & MASK, head = count < CAPACITY - slot ? count : CAPACITY - slot;
    memcpy(to, ring + slot, (size_t)head * sizeof *to);
    memcpy(to + head, ring, (size_t)(count - head) * sizeof *to);
}

int main(int argc, char **argv) {
    if (argc != 5) return 2;
    int64_t count = atoll(argv[1]), batch = atoll(argv[2]), spent = 0;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(atoi(argv[4]), &set);
    if (sched_setaffinity(0, sizeof set, &set)) return 1;
    struct record *ring = mmap(NULL, CAPACITY * sizeof *ring, PROT_READ | PROT_WRITE,
                               MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    struct record *buffer = malloc((size_t)batch * sizeof *buffer);
    int fd = open(argv[3], O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (ring == MAP_FAILED || !buffer || fd < 0) return 1;
    memset(buffer, 0, (size_t)batch * sizeof *buffer);
    for (int64_t first = 0; first < count; first += batch) {
        int64_t end = first + batch < count ? first + batch : count;
        for (int64_t sequence = first; sequence < end; sequence++)
            for (int64_t word = 0; word < WORDS; word++)
                ring[sequence & MASK].words[word] = sequence * WORDS + word;
        int64_t start = cpu_ns();
        copy(buffer, ring, first, end - first);
        size_t size = (size_t)(end - first) * sizeof *buffer;
        if (write(fd, buffer, size) != (ssize_t)size) return 1;
        spent += cpu_ns() - start;
    }
    close(fd);
    printf("%ld\n", spent);
    return 0;
}
