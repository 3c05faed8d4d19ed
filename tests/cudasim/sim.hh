/*
 * sim: what the parts of the simulator share: device memory (memory.cc), the execution of a kernel
 * (engine.cc) and the runtime API over both (runtime.cc). Kernels and host code of the plugin never
 * include it. Everything runs under one lock, sim_lock; a call that may wait for another process
 * (nccl.cc) must not hold it then.
 */
#ifndef TESTS_CUDASIM_SIM_HH
#define TESTS_CUDASIM_SIM_HH

#include "tests/cudasim/cudasim.h"

#include <functional>
#include <mutex>

/* Shared memory of one block: as compute capability 9.0 has it, which is the most that
   LLMJOB_CUDASIM_SHARED_KIB can say; and what a kernel may have that did not ask for more. */
#define SIM_SHARED_MAX     ((size_t)227 << 10)
#define SIM_SHARED_UNASKED ((size_t)48 << 10)
#define SIM_SM_COUNT       4 /* small, so that kernels that count on it loop */

extern std::recursive_mutex sim_lock;

/* -- memory.cc: allocations between guard pages, closed to all but the work of streams -- */
cudaError_t sim_memory_take(size_t bytes, void **out);
cudaError_t sim_memory_give(void *p);
size_t sim_memory_used(void);
void sim_memory_open(void); /* while work of a stream runs; pairs nest */
void sim_memory_close(void);
/* As memset; open memory only. */
void sim_memory_set(void *p, int value, size_t bytes);
/* Addresses only. ThreadSanitizer lets a program map within 1.5 TiB, of which a random start of
   the mappings can leave 0.5. */
#define SIM_ARENA_BYTES ((size_t)128 << 30)
extern uintptr_t sim_arena; /* 0 before the first allocation */
static inline bool sim_memory_is_device(const void *p)
{
	return sim_arena && (uintptr_t)p - sim_arena < SIM_ARENA_BYTES;
}
/* bytes at p within one live allocation? */
bool sim_memory_holds(const void *p, size_t bytes);
/* As sim_memory_holds, fast, for every access of a kernel: by page, where accesses fell lately. */
#define SIM_RECENT 1024
struct sim_range {
	uintptr_t begin, end;
};
extern struct sim_range sim_recent[SIM_RECENT];
bool sim_memory_find(uintptr_t at, size_t bytes);
static inline bool sim_memory_fast(uintptr_t at, size_t bytes)
{
	const struct sim_range *r = &sim_recent[at >> 12 & (SIM_RECENT - 1)];
	return (at >= r->begin && at < r->end && r->end - at >= bytes) ||
	       sim_memory_find(at, bytes);
}
/* "4 bytes, 12 after the end of the 400 bytes at 0x..." */
void sim_memory_describe(uintptr_t at, size_t bytes, char *text, size_t size);
/* False when a kernel wrote beside an allocation, within its last page; text says which. */
bool sim_memory_intact(char *text, size_t size);
cudaError_t sim_pinned_take(size_t bytes, void **out);
cudaError_t sim_pinned_give(void *p);
void sim_pinned_add(void *p, size_t bytes);
bool sim_pinned_remove(void *p);
bool sim_pinned_holds(const void *p, size_t bytes);

/* -- engine.cc: blocks one after another, the threads of a block as fibres -- */
#define SIM_THREADS 1024
#define SIM_COPIES  256 /* asynchronous copies of a thread under way */
enum sim_state { SIM_READY, SIM_AT_BARRIER, SIM_AT_WARP, SIM_ENDED };
struct sim_copy {
	void *to;
	const void *from;
	bool valid;
	unsigned group;
};
struct sim_thread {
	void *sp, *stack_top;
	unsigned index;
	enum sim_state state;
	const char *file; /* where it waits */
	int line;
	struct cudasim_warp *op;
	struct sim_copy copy[SIM_COPIES];
	unsigned copies, groups; /* groups: committed so far */
};
struct sim_engine {
	bool running; /* a thread of a kernel is on the processor */
	const struct cudasim_launch *launch;
	struct sim_thread *thread; /* that one */
	cudaError_t status;        /* of the launch */
	char *shared;              /* dynamic, of launch->shared bytes */
	char *fixed;               /* __shared__ arrays of all kernels, in this OS thread */
	size_t fixed_bytes;
	size_t fixed_used; /* of them, in this launch, as far as accesses are looked at */
	char *stacks;
	size_t stacks_bytes;
	/* For races: two accesses lie in one interval when no barrier, and for threads of one warp
    no
    __syncwarp, is between them. */
	uint32_t interval;
	uint16_t warp_interval[SIM_THREADS / 32];
};
extern struct sim_engine sim;
/* Ends the launch with a status; only in a thread of a kernel. */
[[noreturn]] void sim_fail(cudaError_t status, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* From a signal's handler: a fault at an address. False when no thread of a kernel is running. */
bool sim_fault(int signal, uintptr_t at, void *context);
void sim_wait(enum sim_state state, const char *file, int line);

/* -- check.cc: what each access of a kernel must satisfy -- */
enum sim_access { SIM_READ, SIM_WRITE, SIM_ATOMIC };
void sim_check(uintptr_t at, size_t bytes, enum sim_access access);
bool sim_in_shared(uintptr_t at, size_t bytes);

/* -- running a kernel -- */
/* Runs every block. A failure's text is in sim_failure_text. */
cudaError_t sim_run(const struct cudasim_launch *l);
extern char sim_failure_text[512];
extern uint64_t sim_seed;    /* 0: threads and blocks in order, 1: reversed, else shuffled by it */
extern int64_t sim_launches; /* kernels run so far */

/* -- kernels.cc: the plugin's kernels: names, shared memory, launches -- */
size_t sim_shared_max(void);
const char *sim_kernel_name(int number);
/* control.h, kernel; and what it counts. */
int64_t sim_kernel(int number, const char **name);
void sim_kernel_ran(int number);
extern int64_t sim_calls; /* kernels that the host launched or recorded */

/* -- blas.cc -- */
extern bool sim_epilogues; /* products take bias and GELU along */

/* -- runtime.cc -- */
/* The status of a call of the runtime API, once it is noted as the last error. */
cudaError_t sim_result(cudaError_t status);
/* Puts host code into a stream. When it returns cudaErrorNotReady it runs again later, and what is
   behind it waits; any other failure is the device's, with its text in sim_failure_text. */
cudaError_t sim_enqueue(cudaStream_t s, std::function<cudaError_t()> work);
/* Runs work of a stream as far as it goes without waiting. */
void sim_stream_run(cudaStream_t s);
uint64_t sim_number(const char *environment, uint64_t otherwise);

#endif
