// SPDX-License-Identifier: GPL-2.0-only
/*
 * Hostile guests: TDVMCALLs of the quoting leaves with registers, buffers and messages
 * at random, some of them right, most of them somehow wrong.
 *
 * For each call it is known what Documentation/arch/x86/tdx.rst says to it, and that is
 * what must come of it: return code, status, length, each byte of the memory around the
 * buffer, all registers, exits to userspace. If the message or the memory changes while
 * the call is made, it must be one of the answers that any of the states could give.
 *
 * A call depends on nothing but the seed and its number, so that -s SEED -f NUMBER makes
 * it again. What others do at the same time is up to the scheduler.
 */
#include <linux/kvm_para.h>
#include <linux/sizes.h>
#include <getopt.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/mman.h>
#include <time.h>

#include "kselftest.h"
#include "kvm_util.h"
#include "tdx.h"
#include "tdx_proxy.h"
#include "tdx_quote.h"
#include "test_util.h"

#define MAX_VCPUS		4
#define NR_REPORTS		4

/* More than any Quote has, and the kernel believes. */
#define SANE_QUOTE_SIZE		SZ_16M

/* While TDREPORTs and their Quotes are collected */
#define PROBE_SLOT		10
#define PROBE_GPA		(4UL * SZ_4G)

/* Each vCPU has a range of its own, with what is described in arena_parts(). */
#define ARENA_SLOT		20
#define ARENA_GPA		(2UL * SZ_4G)
#define ARENA_STRIDE		(2UL * SZ_256M)
#define ARENA_NR_SLOTS		3

/* Random values */

struct rng {
	u64 state;
};

static u64 rnd(struct rng *rng)
{
	u64 z = rng->state += 0x9e3779b97f4a7c15ULL;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return z ^ z >> 31;
}

static u64 below(struct rng *rng, u64 limit)
{
	return rnd(rng) % limit;
}

static bool percent(struct rng *rng, int chance)
{
	return below(rng, 100) < chance;
}

/* Small values as likely as large ones */
static u64 any_width(struct rng *rng)
{
	return rnd(rng) >> below(rng, 64);
}

#define one_of(rng, ...)							\
({										\
	const u64 __values[] = { __VA_ARGS__ };					\
										\
	__values[below(rng, ARRAY_SIZE(__values))];				\
})

/* Memory */

enum page_kind {
	HOLE,
	NORMAL,
	READ_ONLY,		/* For KVM, by mprotect(): a TD has no such memslots. */
	INACCESSIBLE,
	PRIVATE,
};

static const char page_letters[] = {
	[HOLE]		= '-',
	[NORMAL]	= 'n',
	[READ_ONLY]	= 'r',
	[INACCESSIBLE]	= 'i',
	[PRIVATE]	= 'p',
};

struct arena {
	gpa_t gpa;
	u64 nr_pages;
	enum page_kind *kinds;
	int *slots;
	u8 **mem;		/* By page, accessible whatever the kind; NULL for holes */
	u8 *fill;		/* What is in all of it between two calls... */
	u8 *want;		/* ...and what should be there after this one. */

	/* The part of it that a Quote can be in: as it should be, and as it is. */
	u8 *want_span;
	u8 *seen_span;
};

/* Calls */

enum leaf {
	GET_QUOTE,
	EVENT_NOTIFY,
	CALL_INFO,
	UNKNOWN,
	NR_LEAVES,
};

static const char * const leaf_names[] = {
	[GET_QUOTE]	= "GetQuote",
	[EVENT_NOTIFY]	= "SetupEventNotifyInterrupt",
	[CALL_INFO]	= "GetTdVmCallInfo",
	[UNKNOWN]	= "other calls",
};

/* What changes while the call is made */
#define CHANGE_VERSION		BIT(0)
#define CHANGE_STATUS		BIT(1)
#define CHANGE_IN_LEN		BIT(2)
#define CHANGE_OUT_LEN		BIT(3)
#define CHANGE_DATA		BIT(4)
#define CHANGE_MESSAGE		(BIT(5) - 1)
#define CHANGE_PRIVATE		BIT(5)	/* a page of the buffer becomes private and shared */
#define CHANGE_SLOT		BIT(6)	/* its memslot is deleted and added */

union message {
	struct tdx_quote_req req;
	u8 page[SZ_4K];
};

struct call {
	u64 nr;
	enum leaf leaf;
	struct tdcall_regs in, out;

	/* What KVM gets to see: registers that are not exposed are 0 there. */
	u64 r10, r11, r12, r13;

	/* GetQuote: where the message is in the arena, if at all, and what is in it */
	bool has_message;
	u64 offset;
	union message msg;
	int report;		/* one that is good, or -1 */

	unsigned int change;
	union message alt;
	u64 data_offset;
	u64 private_page;

	/* What userspace answers: R10 to R14 */
	u64 answers[5];
	bool interrupt;
};

/* What can come of a call */
enum answer {
	A_SUCCESS,
	A_TOO_SMALL,
	A_UNAVAILABLE,
	A_INVALID,
	A_INVALID_STATUS,
	A_GONE,
	A_UNALIGNED,
	A_UNSUPPORTED,
	A_USERSPACE,
	A_INFO,
	A_HYPERCALL,
	NR_ANSWERS,
};

static const char * const answer_names[] = {
	[A_SUCCESS]		= "SUCCESS, status SUCCESS",
	[A_TOO_SMALL]		= "SUCCESS, status ERROR",
	[A_UNAVAILABLE]		= "SUCCESS, status SERVICE_UNAVAILABLE",
	[A_INVALID]		= "INVALID_OPERAND",
	[A_INVALID_STATUS]	= "INVALID_OPERAND, status ERROR",
	[A_GONE]		= "INVALID_OPERAND, buffer not writable",
	[A_UNALIGNED]		= "ALIGN_ERROR",
	[A_UNSUPPORTED]		= "SUBFUNC_UNSUPPORTED",
	[A_USERSPACE]		= "what userspace says",
	[A_INFO]		= "SUCCESS, nothing to tell",
	[A_HYPERCALL]		= "no such hypercall",
};

struct outcome {
	enum answer answer;
	u64 r10;
	bool exits;

	/* Of the message: */
	bool written;
	u64 status;
	u32 out_len;
	enum {
		DATA_SAME,
		DATA_QUOTE,
		DATA_ANY,
	} data;
};

struct outcomes {
	int nr;
	struct outcome o[16];
};

struct worker {
	int index;
	pthread_t thread;
	struct tdx_proxy *proxy;
	struct arena arena;
	struct call call;
	bool in_call;
	bool running;

	/* Changes what the call is about meanwhile */
	pthread_t changer;
	sem_t change, changed;
	bool stop_changing;
	u64 nr_changes;

	u64 nr_calls;
	u64 nr_changing;
	u64 nr_interrupted;
	u64 nr_answers[NR_LEAVES][NR_ANSWERS];
};

static struct {
	u64 seed, first, nr_calls, seconds;

	struct kvm_vm *vm;
	struct tdx_proxy proxies[MAX_VCPUS];
	struct worker workers[MAX_VCPUS];
	u32 nr_vcpus;
	bool in_userspace;
	gpa_t private_gpa;

	/* Of Quotes: the length, the pages it takes, and the largest one there may be */
	u64 len, nr_pages, max_len;
	bool max_is_known;

	u8 reports[NR_REPORTS][TDX_REPORT_SIZE];
	u8 *quotes[NR_REPORTS];
	bool same_quotes;	/* The same TDREPORT gives the same Quote, byte by byte. */

	u64 start_ms;
	bool finished;
} fuzz;

static u64 now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* A call goes wrong */

static void print_message(const char *what, const struct tdx_quote_req *req)
{
	ksft_print_msg("  %-8s version %#lx status %#lx in_len %#x out_len %#x\n", what,
		       req->version, req->status, req->in_len, req->out_len);
}

static void print_call(struct worker *w)
{
	struct arena *a = &w->arena;
	struct call *c = &w->call;
	struct tdcall_regs *r = &c->in;
	u64 page = c->offset / SZ_4K;
	char kinds[33] = "";
	int i;

	ksft_print_msg("Call %lu of seed %#lx, on vCPU %d of %u: %s\n", c->nr, fuzz.seed, w->index,
		       fuzz.nr_vcpus, leaf_names[c->leaf]);
	ksft_print_msg("  rcx %#lx rdx %#lx rbx %#lx rbp %#lx rsi %#lx rdi %#lx r8 %#lx r9 %#lx\n",
		       r->rcx, r->rdx, r->rbx, r->rbp, r->rsi, r->rdi, r->r8, r->r9);
	ksft_print_msg("  r10 %#lx r11 %#lx r12 %#lx r13 %#lx r14 %#lx r15 %#lx\n",
		       r->r10, r->r11, r->r12, r->r13, r->r14, r->r15);

	if (c->has_message) {
		for (i = 0; i < sizeof(kinds) - 1 && page + i < a->nr_pages; i++)
			kinds[i] = page_letters[a->kinds[page + i]];
		ksft_print_msg("  message at byte %#lx of page %lu, pages from there on: %s\n",
			       c->offset % SZ_4K, page, kinds);
		print_message("before:", &c->msg.req);
		ksft_print_msg("  TDREPORT %d, Quotes have %lu bytes\n", c->report, fuzz.len);
	}
	if (c->change) {
		ksft_print_msg("  changed meanwhile (%#x), data at %#lx, page %lu:\n", c->change,
			       c->data_offset, c->private_page);
		print_message("or:", &c->alt.req);
	}
	ksft_print_msg("Again: -s %#lx -f %lu -n 1\n", fuzz.seed, c->nr);
}

static pthread_mutex_t failing = PTHREAD_MUTEX_INITIALIZER;

/* The first call that goes wrong ends the test. */
static void __printf(2, 3) fail(struct worker *w, const char *fmt, ...)
{
	char msg[256];
	va_list args;

	pthread_mutex_lock(&failing);
	va_start(args, fmt);
	vsnprintf(msg, sizeof(msg), fmt, args);
	va_end(args);

	print_call(w);
	ksft_test_result_fail("%s: %s (seed %#lx, call %lu)\n", leaf_names[w->call.leaf], msg,
			      fuzz.seed, w->call.nr);
	fflush(stdout);
	_exit(KSFT_FAIL);
}

#define CHECK(w, cond, fmt, ...)						\
do {										\
	if (!(cond))								\
		fail(w, fmt, ##__VA_ARGS__);					\
} while (0)

/* An assertion of the library does not know what it is about. */
static void print_calls_at_exit(void)
{
	int i;

	if (fuzz.finished)
		return;

	ksft_print_msg("seed %#lx\n", fuzz.seed);
	for (i = 0; i < fuzz.nr_vcpus; i++) {
		if (fuzz.workers[i].in_call)
			print_call(&fuzz.workers[i]);
	}
}

/* Memory */

static enum page_kind page_kind(struct arena *a, gpa_t gpa, u64 private_page)
{
	u64 page = (gpa - a->gpa) / SZ_4K;

	if (gpa < a->gpa || page >= a->nr_pages)
		return HOLE;

	return page == private_page ? PRIVATE : a->kinds[page];
}

/* Copy to what is there, and to what should be there. */
static void arena_write(struct arena *a, u64 offset, const void *from, u64 size)
{
	u64 end = min_t(u64, offset + size, a->nr_pages * SZ_4K);

	while (offset < end) {
		u64 n = min_t(u64, end - offset, SZ_4K - offset % SZ_4K);
		u8 *mem = a->mem[offset / SZ_4K];

		if (mem)
			memcpy(mem + offset % SZ_4K, from, n);
		memcpy(a->want + offset, from, n);
		offset += n;
		from += n;
	}
}

/* Holes are as they should be. */
static void arena_read(struct arena *a, u64 offset, void *to, u64 size)
{
	for (; size; size -= SZ_4K, offset += SZ_4K, to += SZ_4K)
		memcpy(to, a->mem[offset / SZ_4K] ?: a->want + offset, SZ_4K);
}

static void arena_add_slot(struct arena *a, u32 slot, u64 first, u64 nr_pages)
{
	u64 i;

	vm_userspace_mem_region_add(fuzz.vm, VM_MEM_SRC_SHMEM, a->gpa + first * SZ_4K, slot,
				    nr_pages, 0);

	for (i = first; i < first + nr_pages; i++) {
		gpa_t gpa = a->gpa + i * SZ_4K;

		a->slots[i] = slot;
		a->mem[i] = addr_gpa2alias(fuzz.vm, gpa);
		if (a->kinds[i] == PRIVATE)
			vm_mem_set_private(fuzz.vm, gpa, SZ_4K);
		else if (a->kinds[i] != NORMAL)
			TEST_ASSERT_EQ(mprotect(addr_gpa2hva(fuzz.vm, gpa), SZ_4K,
						a->kinds[i] == READ_ONLY ? PROT_READ : PROT_NONE),
				       0);
	}
}

/* There is room for Quotes, and there is everything that can be in their way. */
static void arena_init(struct arena *a, int vcpu)
{
	const u64 n = fuzz.nr_pages;
	const struct {
		enum page_kind kind;
		u64 nr_pages;
		int slot;
	} parts[] = {
		{ NORMAL, n + 3, 0 },
		{ PRIVATE, 1, 0 },
		{ NORMAL, n + 2, 0 },
		{ READ_ONLY, 1, 0 },
		{ NORMAL, n, 0 },
		{ INACCESSIBLE, 1, 0 },
		{ NORMAL, n, 0 },
		/* A memslot of its own, but no gap in between */
		{ NORMAL, n + 1, 1 },
		{ HOLE, 2, -1 },
		{ NORMAL, n + 1, 2 },
		{ PRIVATE, 1, 2 },
		{ NORMAL, 1, 2 },
		{ HOLE, 2, -1 },
	};
	u64 first[ARENA_NR_SLOTS] = {}, nr_pages[ARENA_NR_SLOTS] = {};
	struct rng rng = { .state = vcpu };
	u64 i, page = 0;
	int slot;

	for (i = 0; i < ARRAY_SIZE(parts); i++)
		a->nr_pages += parts[i].nr_pages;

	a->gpa = ARENA_GPA + vcpu * ARENA_STRIDE;
	a->kinds = calloc(a->nr_pages, sizeof(*a->kinds));
	a->slots = calloc(a->nr_pages, sizeof(*a->slots));
	a->mem = calloc(a->nr_pages, sizeof(*a->mem));
	a->fill = malloc(a->nr_pages * SZ_4K);
	a->want = malloc(a->nr_pages * SZ_4K);
	a->want_span = malloc(fuzz.nr_pages * SZ_4K);
	a->seen_span = malloc(fuzz.nr_pages * SZ_4K);
	TEST_ASSERT(a->kinds && a->slots && a->mem && a->fill && a->want && a->want_span &&
		    a->seen_span, "-ENOMEM when allocating memory to compare with");

	for (i = 0; i < ARRAY_SIZE(parts); i++) {
		u64 end = page + parts[i].nr_pages;

		slot = parts[i].slot;
		if (slot >= 0) {
			if (!nr_pages[slot])
				first[slot] = page;
			nr_pages[slot] += parts[i].nr_pages;
		}
		while (page < end)
			a->kinds[page++] = parts[i].kind;
	}

	for (slot = 0; slot < ARENA_NR_SLOTS; slot++)
		arena_add_slot(a, ARENA_SLOT + vcpu * ARENA_NR_SLOTS + slot, first[slot],
			       nr_pages[slot]);

	for (i = 0; i < a->nr_pages * SZ_4K; i += sizeof(u64))
		*(u64 *)(a->fill + i) = rnd(&rng);
	arena_write(a, 0, a->fill, a->nr_pages * SZ_4K);
}

/* The making of a call */

static u64 arena_size(struct arena *a)
{
	return a->nr_pages * SZ_4K;
}

/* A page from which on there is room for a Quote */
static u64 good_page(struct rng *rng, struct arena *a)
{
	for (;;) {
		u64 page = below(rng, a->nr_pages - fuzz.nr_pages), i;

		for (i = 0; i < fuzz.nr_pages && a->kinds[page + i] == NORMAL; i++)
			;
		if (i == fuzz.nr_pages)
			return page;
	}
}

static u64 any_gpa(struct rng *rng, struct arena *a)
{
	gpa_t page = a->gpa + below(rng, a->nr_pages) * SZ_4K;
	u64 edge, gpa;

	switch (below(rng, 20)) {
	case 0 ... 7:
		return TDX_SHARED_BIT | (a->gpa + good_page(rng, a) * SZ_4K);
	case 8 ... 11:
		return TDX_SHARED_BIT | page;
	case 12:
		return TDX_SHARED_BIT | page | one_of(rng, 1, 8, 24, SZ_2K, SZ_4K - 1);
	case 13:
		return TDX_SHARED_BIT | page | below(rng, SZ_4K);
	case 14:
		return page | (percent(rng, 20) ? below(rng, SZ_4K) : 0);
	case 15:
		gpa = a->gpa + good_page(rng, a) * SZ_4K;
		gpa |= BIT_ULL(48 + below(rng, 16)) | (percent(rng, 50) ? rnd(rng) << 48 : 0);
		return percent(rng, 80) ? gpa | TDX_SHARED_BIT : gpa;
	case 16:
		gpa = one_of(rng, TDX_BOOT_GPA, fuzz.private_gpa);
		return percent(rng, 90) ? gpa | TDX_SHARED_BIT : gpa;
	case 17:
		/* Starts below the arena and gets into it */
		return TDX_SHARED_BIT | (a->gpa - (1 + below(rng, fuzz.nr_pages)) * SZ_4K);
	case 18:
		edge = one_of(rng, 0, TDX_SHARED_BIT - SZ_4K, 2 * TDX_SHARED_BIT - SZ_4K,
			      2 * TDX_SHARED_BIT, 1ULL << 51 | TDX_SHARED_BIT, 1ULL << 52, ~0ULL,
			      -SZ_4K, 1ULL << 63, 3ULL << 62 | TDX_SHARED_BIT);
		return edge - (percent(rng, 20) ? below(rng, SZ_8K) : 0);
	default:
		gpa = any_width(rng);
		if (percent(rng, 50))
			gpa |= TDX_SHARED_BIT;
		if (percent(rng, 50))
			gpa &= -SZ_4K;
		return gpa;
	}
}

/* Memory that the TD needs to run, or that is another vCPU's, is spared. */
static bool gpa_is_taken(struct arena *a, u64 gpa)
{
	if (!(gpa & TDX_SHARED_BIT) || gpa >= 2 * TDX_SHARED_BIT)
		return false;

	gpa &= ~TDX_SHARED_BIT;
	if (gpa < SZ_4G)
		return (gpa & -SZ_4K) != TDX_BOOT_GPA && (gpa & -SZ_4K) != fuzz.private_gpa;

	return gpa >= ARENA_GPA - SANE_QUOTE_SIZE &&
	       gpa < ARENA_GPA + fuzz.nr_vcpus * ARENA_STRIDE &&
	       (gpa < a->gpa - ARENA_STRIDE / 2 || gpa >= a->gpa + ARENA_STRIDE / 2);
}

static u64 any_size(struct rng *rng, u64 gpa)
{
	u64 room = TDX_SHARED_BIT - (gpa & ~TDX_SHARED_BIT);
	u64 size;

	switch (below(rng, 20)) {
	case 0 ... 6:
		return fuzz.nr_pages * SZ_4K;
	case 7 ... 9:
		return (fuzz.nr_pages + one_of(rng, -1, 1, 2)) * SZ_4K;
	case 10 ... 11:
		return (1 + below(rng, 3 * fuzz.nr_pages)) * SZ_4K;
	case 12:
		return 0;
	case 13:
		return one_of(rng, 1, 8, sizeof(struct tdx_quote_req), SZ_4K - 1, SZ_4K + 1,
			      sizeof(struct tdx_quote_req) + fuzz.len,
			      fuzz.nr_pages * SZ_4K - 1, fuzz.nr_pages * SZ_4K + 8);
	case 14 ... 15:
		return one_of(rng, SZ_16M, 1ULL << 32, (1ULL << 32) + SZ_8K, 1ULL << 46, room,
			      room - SZ_4K);
	case 16 ... 17:
		return one_of(rng, room + SZ_4K, room + 1, TDX_SHARED_BIT, -gpa, -gpa + SZ_4K,
			      -gpa - SZ_4K, -(gpa & ~TDX_SHARED_BIT), -SZ_4K, 1ULL << 63, ~0ULL,
			      -SZ_8K);
	default:
		size = any_width(rng);
		return percent(rng, 50) ? size & -SZ_4K : size;
	}
}

static void any_header(struct rng *rng, struct tdx_quote_req *req)
{
	req->version = percent(rng, 85) ? 1 :
		       one_of(rng, 0, 2, 1ULL << 32, 1ULL << 32 | 1, 1ULL << 63 | 1, ~0ULL, 0x100,
			      any_width(rng));
	req->in_len = percent(rng, 80) ? TDX_REPORT_SIZE :
		      one_of(rng, 0, 1, TDX_REPORT_SIZE - 1, TDX_REPORT_SIZE + 1,
			     TDX_QUOTE_MAX_IN_LEN, TDX_QUOTE_MAX_IN_LEN + 1, SZ_4K, SZ_4K + 1,
			     1U << 31, 1U << 31 | TDX_REPORT_SIZE, -sizeof(*req), ~0U,
			     any_width(rng));
	req->status = percent(rng, 50) ? rnd(rng) :
		      one_of(rng, 0, TDX_QUOTE_STATUS_ERROR,
			     TDX_QUOTE_STATUS_SERVICE_UNAVAILABLE, ~0ULL);
	req->out_len = percent(rng, 50) ? rnd(rng) : one_of(rng, 0, 1, fuzz.len, ~0U);
}

static void any_message(struct rng *rng, struct call *c)
{
	u64 i;

	for (i = 0; i < SZ_4K; i += sizeof(u64))
		*(u64 *)(c->msg.page + i) = rnd(rng);
	any_header(rng, &c->msg.req);

	c->report = -1;
	if (fuzz.in_userspace || percent(rng, 8))
		return;

	i = below(rng, NR_REPORTS);
	memcpy(c->msg.req.data, fuzz.reports[i], TDX_REPORT_SIZE);
	if (percent(rng, 88))
		c->report = i;
	else
		c->msg.req.data[below(rng, TDX_REPORT_SIZE)] ^= BIT(below(rng, 8));
}

static void any_change(struct rng *rng, struct arena *a, struct call *c)
{
	c->alt = c->msg;
	any_header(rng, &c->alt.req);

	/* Where only one of them is wrong, there is most to choose from. */
	if (percent(rng, 50)) {
		c->msg.req.version = 1;
		c->msg.req.in_len = TDX_REPORT_SIZE;
	}

	c->private_page = min_t(u64, c->offset / SZ_4K + below(rng, fuzz.nr_pages),
				a->nr_pages - 1);
	c->data_offset = below(rng, percent(rng, 75) ? TDX_REPORT_SIZE : TDX_QUOTE_MAX_IN_LEN);
	c->alt.req.data[c->data_offset] = ~c->msg.req.data[c->data_offset];

	switch (below(rng, 10)) {
	case 0:
		c->change = CHANGE_PRIVATE;
		break;
	case 1:
		c->change = CHANGE_SLOT;
		break;
	default:
		c->change = 1 + below(rng, CHANGE_MESSAGE);
	}
}

static void make_get_quote(struct rng *rng, struct worker *w)
{
	struct arena *a = &w->arena;
	struct call *c = &w->call;
	u64 gpa;

	c->in.r11 = TDVMCALL_GET_QUOTE;
	do {
		c->in.r12 = any_gpa(rng, a);
	} while (gpa_is_taken(a, c->in.r12));
	c->in.r13 = any_size(rng, c->in.r12);

	/* Have a message also where it would only be found by mistake. */
	gpa = c->in.r12 & (TDX_SHARED_BIT - 1);
	c->offset = gpa - a->gpa;
	c->has_message = gpa >= a->gpa && c->offset < arena_size(a);
	any_message(rng, c);

	if (c->has_message && !(c->offset % SZ_4K) && percent(rng, 30) && !fuzz.in_userspace &&
	    a->kinds[c->offset / SZ_4K] == NORMAL)
		any_change(rng, a, c);
}

static void make_call(struct worker *w, u64 nr)
{
	struct call *c = &w->call;
	struct rng rng = { .state = nr };
	u64 *reg;
	int i;

	rng.state = fuzz.seed ^ rnd(&rng);

	memset(c, 0, sizeof(*c));
	c->nr = nr;
	for (reg = (u64 *)&c->in; reg < (u64 *)(&c->in + 1); reg++)
		*reg = rnd(&rng);
	c->in.rax = TDG_VP_VMCALL;
	c->in.rcx = TDVMCALL_EXPOSED_REGS;
	c->in.r10 = 0;
	for (i = 0; i < ARRAY_SIZE(c->answers); i++)
		c->answers[i] = percent(&rng, 50) ? rnd(&rng) :
				one_of(&rng, TDVMCALL_STATUS_SUCCESS, TDVMCALL_STATUS_RETRY,
				       TDVMCALL_STATUS_INVALID_OPERAND, ~0ULL);
	c->interrupt = percent(&rng, 10);

	switch (below(&rng, 20)) {
	case 0 ... 13:
		c->leaf = GET_QUOTE;
		make_get_quote(&rng, w);
		break;
	case 14 ... 15:
		c->leaf = EVENT_NOTIFY;
		c->in.r11 = TDVMCALL_SETUP_EVENT_NOTIFY_INTERRUPT;
		c->in.r12 = percent(&rng, 60) ? below(&rng, 300) :
			    one_of(&rng, 31, 32, 255, 256, 1ULL << 32 | 64, 1ULL << 63 | 64, ~0ULL,
				   any_width(&rng));
		break;
	case 16 ... 17:
		c->leaf = CALL_INFO;
		c->in.r11 = TDVMCALL_GET_TD_VM_CALL_INFO;
		c->in.r12 = percent(&rng, 70) ? below(&rng, 3) :
			    one_of(&rng, 1ULL << 32, 1ULL << 32 | 1, 1ULL << 63, ~0ULL,
				   any_width(&rng));
		break;
	default:
		/* Neither an instruction that is to be emulated, nor the fatal error. */
		c->leaf = UNKNOWN;
		c->in.r11 = one_of(&rng, 0, 0xffff, 0x10005 + below(&rng, 16), 0x20002, 0x10000000,
				   1ULL << 32 | TDVMCALL_GET_QUOTE,
				   1ULL << 32 | TDVMCALL_SETUP_EVENT_NOTIFY_INTERRUPT,
				   1ULL << 63 | TDVMCALL_GET_QUOTE, ~0ULL, rnd(&rng) | SZ_128K);
		/* A hypercall, whatever R11 says, but none that KVM knows. */
		if (percent(&rng, 25)) {
			c->in.r10 = rnd(&rng) | 0x100;
			c->in.r11 = one_of(&rng, TDVMCALL_GET_QUOTE, c->in.r11,
					   TDVMCALL_SETUP_EVENT_NOTIFY_INTERRUPT);
		}
	}

	/* Arguments that the TD does not pass are 0, which is one more case. */
	if (percent(&rng, 10))
		c->in.rcx &= rnd(&rng) | BIT(10) | BIT(11);
	else if (percent(&rng, 2))
		c->in.rcx &= rnd(&rng);
#define EXPOSED(reg) (c->in.rcx & BIT(reg) ? c->in.r##reg : 0)
	c->r10 = EXPOSED(10);
	c->r11 = EXPOSED(11);
	c->r12 = EXPOSED(12);
	c->r13 = EXPOSED(13);
#undef EXPOSED
}

/* What may come of it */

static struct outcome *add_outcome(struct outcomes *outcomes, enum answer answer, u64 r10)
{
	struct outcome *o = &outcomes->o[outcomes->nr++];

	TEST_ASSERT(outcomes->nr <= ARRAY_SIZE(outcomes->o), "More outcomes than expected");
	*o = (struct outcome) { .answer = answer, .r10 = r10 };
	return o;
}

static void add_quote_outcome(struct outcomes *outcomes, enum answer answer)
{
	struct outcome *o;
	int i;

	for (i = 0; i < outcomes->nr; i++) {
		if (outcomes->o[i].answer == answer)
			return;
	}

	o = add_outcome(outcomes, answer, TDVMCALL_STATUS_INVALID_OPERAND);
	o->status = TDX_QUOTE_STATUS_ERROR;
	o->written = true;

	switch (answer) {
	case A_SUCCESS:
		o->r10 = TDVMCALL_STATUS_SUCCESS;
		o->status = TDX_QUOTE_STATUS_SUCCESS;
		o->out_len = fuzz.len;
		o->data = DATA_QUOTE;
		break;
	case A_TOO_SMALL:
		o->r10 = TDVMCALL_STATUS_SUCCESS;
		break;
	case A_UNAVAILABLE:
		o->r10 = TDVMCALL_STATUS_SUCCESS;
		o->status = TDX_QUOTE_STATUS_SERVICE_UNAVAILABLE;
		break;
	case A_INVALID_STATUS:
		break;
	case A_GONE:
		o->data = DATA_ANY;
		break;
	case A_UNALIGNED:
		o->r10 = TDVMCALL_STATUS_ALIGN_ERROR;
		o->written = false;
		break;
	default:
		o->written = false;
	}
}

static u64 nr_pages_of(u64 size, u64 len)
{
	return (min_t(u64, size, sizeof(struct tdx_quote_req) + len) + SZ_4K - 1) / SZ_4K;
}

/* @gpa is without the shared bit; it and @size are right as such. */
static void expect_message(struct worker *w, struct outcomes *outcomes, gpa_t gpa, u64 size,
			   u64 private_page, bool version_ok, u32 in_len, bool report_ok)
{
	u64 nr_pages = nr_pages_of(size, fuzz.len), max_pages = nr_pages_of(size, fuzz.max_len), i;
	enum page_kind first = page_kind(&w->arena, gpa, private_page);
	bool writable = true;

	for (i = 0; i < max_pages; i++) {
		enum page_kind kind = page_kind(&w->arena, gpa + i * SZ_4K, private_page);

		if (kind == NORMAL)
			continue;

		if (kind == HOLE || kind == PRIVATE)
			add_quote_outcome(outcomes, A_INVALID);
		else if (i < nr_pages)
			writable = false;

		if ((kind == HOLE || kind == PRIVATE) && (i < nr_pages || fuzz.max_is_known))
			return;
	}

	/* Not writable can mean that nothing is written, or that it is found out later. */
	if (!writable)
		add_quote_outcome(outcomes, A_INVALID);
	if (first != NORMAL)
		return;

	if (!version_ok || in_len > TDX_QUOTE_MAX_IN_LEN)
		add_quote_outcome(outcomes, A_INVALID_STATUS);
	else if (in_len != TDX_REPORT_SIZE || !report_ok)
		add_quote_outcome(outcomes, A_UNAVAILABLE);
	else if (fuzz.len > size - sizeof(struct tdx_quote_req))
		add_quote_outcome(outcomes, A_TOO_SMALL);
	else
		add_quote_outcome(outcomes, writable ? A_SUCCESS : A_GONE);
}

/* What was read may be of bytes of both. */
static u64 mix_bytes(u64 a, u64 b, u64 choice)
{
	u64 mixed = a;
	int i;

	for (i = 0; i < 8; i++) {
		if (choice & BIT(i)) {
			mixed &= ~(0xffULL << 8 * i);
			mixed |= b & 0xffULL << 8 * i;
		}
	}

	return mixed;
}

static void expect_changing(struct worker *w, struct outcomes *outcomes, gpa_t gpa, u64 size)
{
	struct call *c = &w->call;
	struct tdx_quote_req *req = &c->msg.req, *alt = &c->alt.req;
	bool data = c->change & CHANGE_DATA && c->data_offset < TDX_REPORT_SIZE;
	bool private = c->change & CHANGE_PRIVATE;
	int nr_versions = c->change & CHANGE_VERSION ? 256 : 1;
	int nr_in_lens = c->change & CHANGE_IN_LEN ? 16 : 1;
	bool version_ok[2] = {};
	int v, l, i;

	for (v = 0; v < nr_versions; v++)
		version_ok[mix_bytes(req->version, alt->version, v) == 1] = true;

	for (v = 0; v < 2; v++) {
		for (l = 0; version_ok[v] && l < nr_in_lens; l++) {
			u32 in_len = mix_bytes(req->in_len, alt->in_len, l);

			for (i = 0; i < (data ? 2 : 1); i++) {
				expect_message(w, outcomes, gpa, size, -1, v, in_len,
					       c->report >= 0 && !i);
				if (private)
					expect_message(w, outcomes, gpa, size, c->private_page, v,
						       in_len, c->report >= 0 && !i);
			}
		}
	}

	/* Private memory is not written to. In a memslot that comes and goes, anything can. */
	if (private)
		add_quote_outcome(outcomes, A_INVALID_STATUS);
	if (c->change & CHANGE_SLOT) {
		add_quote_outcome(outcomes, A_INVALID);
		add_quote_outcome(outcomes, A_GONE);
	}
}

static void expect_get_quote(struct worker *w, struct outcomes *outcomes)
{
	struct call *c = &w->call;
	u64 gpa = c->r12 & ~TDX_SHARED_BIT, size = c->r13;

	if (!(c->r12 & TDX_SHARED_BIT)) {
		add_quote_outcome(outcomes, A_INVALID);
	} else if (fuzz.in_userspace) {
		add_outcome(outcomes, A_USERSPACE, c->answers[0])->exits = true;
	} else if (!size || gpa >= TDX_SHARED_BIT || size > TDX_SHARED_BIT - gpa) {
		add_quote_outcome(outcomes, A_INVALID);
	} else if (gpa % SZ_4K || size % SZ_4K) {
		add_quote_outcome(outcomes, A_UNALIGNED);
	} else if (c->change) {
		expect_changing(w, outcomes, gpa, size);
	} else {
		expect_message(w, outcomes, gpa, size, -1, c->msg.req.version == 1,
			       c->msg.req.in_len, c->report >= 0);
	}
}

static void expect(struct worker *w, struct outcomes *outcomes)
{
	struct call *c = &w->call;

	if (c->r10) {
		add_outcome(outcomes, A_HYPERCALL, -KVM_ENOSYS);
		return;
	}

	switch (c->r11) {
	case TDVMCALL_GET_QUOTE:
		expect_get_quote(w, outcomes);
		break;
	case TDVMCALL_SETUP_EVENT_NOTIFY_INTERRUPT:
		if (!fuzz.in_userspace)
			add_outcome(outcomes, A_UNSUPPORTED, TDVMCALL_STATUS_SUBFUNC_UNSUPPORTED);
		else if (c->r12 >= 32 && c->r12 <= 255)
			add_outcome(outcomes, A_USERSPACE, c->answers[0])->exits = true;
		else
			add_outcome(outcomes, A_INVALID, TDVMCALL_STATUS_INVALID_OPERAND);
		break;
	case TDVMCALL_GET_TD_VM_CALL_INFO:
		if (c->r12 == 0)
			add_outcome(outcomes, A_INFO, TDVMCALL_STATUS_SUCCESS);
		else if (c->r12 == 1)
			add_outcome(outcomes, A_USERSPACE, c->answers[0])->exits = true;
		else
			add_outcome(outcomes, A_INVALID, TDVMCALL_STATUS_INVALID_OPERAND);
		break;
	default:
		add_outcome(outcomes, A_UNSUPPORTED, TDVMCALL_STATUS_SUBFUNC_UNSUPPORTED);
	}
}

/* Changes */

static void set_slot(struct arena *a, u64 page, bool present)
{
	struct userspace_mem_region *region = memslot2region(fuzz.vm, a->slots[page]);

	vm_set_user_memory_region(fuzz.vm, region->region.slot, 0, region->region.guest_phys_addr,
				  present ? region->region.memory_size : 0, region->host_mem);
}

static void change(struct worker *w, bool alt)
{
	struct call *c = &w->call;
	u64 page = c->offset / SZ_4K;
	struct tdx_quote_req *req = (void *)w->arena.mem[page];
	const struct tdx_quote_req *from = alt ? &c->alt.req : &c->msg.req;

	if (c->change & CHANGE_VERSION)
		WRITE_ONCE(req->version, from->version);
	if (c->change & CHANGE_STATUS)
		WRITE_ONCE(req->status, from->status);
	if (c->change & CHANGE_IN_LEN)
		WRITE_ONCE(req->in_len, from->in_len);
	if (c->change & CHANGE_OUT_LEN)
		WRITE_ONCE(req->out_len, from->out_len);
	if (c->change & CHANGE_DATA)
		WRITE_ONCE(req->data[c->data_offset], from->data[c->data_offset]);
	if (c->change & CHANGE_PRIVATE && w->arena.kinds[c->private_page] == NORMAL)
		vm_set_memory_attributes(fuzz.vm, w->arena.gpa + c->private_page * SZ_4K, SZ_4K,
					 alt ? KVM_MEMORY_ATTRIBUTE_PRIVATE : 0);
	if (c->change & CHANGE_SLOT)
		set_slot(&w->arena, page, !alt);
}

static void wait_for(sem_t *sem)
{
	while (sem_wait(sem))
		TEST_ASSERT_EQ(errno, EINTR);
}

static void *changer_thread(void *arg)
{
	struct worker *w = arg;
	u64 n;

	for (;;) {
		wait_for(&w->change);
		if (!w->call.change)
			return NULL;

		for (n = 1; !READ_ONCE(w->stop_changing); n++) {
			change(w, n & 1);
			WRITE_ONCE(w->nr_changes, n);
		}
		/* As it was before, if there is no other way to see what it is now. */
		if (w->call.change & ~CHANGE_MESSAGE)
			change(w, false);
		sem_post(&w->changed);
	}
}

static void start_changing(struct worker *w)
{
	w->stop_changing = false;
	w->nr_changes = 0;
	sem_post(&w->change);
	while (!READ_ONCE(w->nr_changes))
		sched_yield();
}

static void stop_changing(struct worker *w)
{
	WRITE_ONCE(w->stop_changing, true);
	wait_for(&w->changed);
}

/* The call itself */

static void answer_get_quote(struct worker *w, struct kvm_run *run)
{
	gpa_t gpa = w->call.r12 & ~TDX_SHARED_BIT;

	CHECK(w, run->tdx.get_quote.gpa == gpa, "exit with address %#llx", run->tdx.get_quote.gpa);
	CHECK(w, run->tdx.get_quote.size == w->call.r13, "exit with size %#llx",
	      run->tdx.get_quote.size);
	CHECK(w, run->tdx.get_quote.ret == TDVMCALL_STATUS_SUBFUNC_UNSUPPORTED,
	      "exit with ret %#llx", run->tdx.get_quote.ret);
	run->tdx.get_quote.ret = w->call.answers[0];
}

static void answer_event_notify(struct worker *w, struct kvm_run *run)
{
	CHECK(w, run->tdx.setup_event_notify.vector == w->call.r12, "exit with vector %#llx",
	      run->tdx.setup_event_notify.vector);
	CHECK(w, run->tdx.setup_event_notify.ret == TDVMCALL_STATUS_SUBFUNC_UNSUPPORTED,
	      "exit with ret %#llx", run->tdx.setup_event_notify.ret);
	run->tdx.setup_event_notify.ret = w->call.answers[0];
}

static void answer_call_info(struct worker *w, struct kvm_run *run)
{
	const u64 *answers = w->call.answers;

	CHECK(w, run->tdx.get_tdvmcall_info.leaf == 1, "exit with leaf %#llx",
	      run->tdx.get_tdvmcall_info.leaf);
	CHECK(w, run->tdx.get_tdvmcall_info.ret == TDVMCALL_STATUS_SUCCESS, "exit with ret %#llx",
	      run->tdx.get_tdvmcall_info.ret);
	CHECK(w, !run->tdx.get_tdvmcall_info.r11 && !run->tdx.get_tdvmcall_info.r12 &&
	      !run->tdx.get_tdvmcall_info.r13 && !run->tdx.get_tdvmcall_info.r14,
	      "exit with an answer");
	run->tdx.get_tdvmcall_info.ret = answers[0];
	run->tdx.get_tdvmcall_info.r11 = answers[1];
	run->tdx.get_tdvmcall_info.r12 = answers[2];
	run->tdx.get_tdvmcall_info.r13 = answers[3];
	run->tdx.get_tdvmcall_info.r14 = answers[4];
}

static void answer_exit(struct worker *w)
{
	struct kvm_run *run = w->proxy->vcpu->run;
	struct call *c = &w->call;

	CHECK(w, run->exit_reason == KVM_EXIT_TDX, "exit to userspace with reason %s",
	      exit_reason_str(run->exit_reason));
	CHECK(w, run->tdx.nr == c->r11 && !run->tdx.flags, "exit with TDVMCALL %#llx, flags %#llx",
	      run->tdx.nr, run->tdx.flags);

	switch (run->tdx.nr) {
	case TDVMCALL_GET_QUOTE:
		answer_get_quote(w, run);
		break;
	case TDVMCALL_SETUP_EVENT_NOTIFY_INTERRUPT:
		answer_event_notify(w, run);
		break;
	case TDVMCALL_GET_TD_VM_CALL_INFO:
		answer_call_info(w, run);
		break;
	default:
		fail(w, "exit with TDVMCALL %#llx", run->tdx.nr);
	}

	/* What was answered is answered, whatever becomes of the memory that it was in. */
	if (c->interrupt) {
		run->immediate_exit = 1;
		CHECK(w, __vcpu_run(w->proxy->vcpu) == -1 && errno == EINTR,
		      "KVM_RUN does not return at once");
		run->immediate_exit = 0;
		memset(&run->tdx, 0x5a, sizeof(run->tdx));
	}
}

static void do_call(struct worker *w, bool exits)
{
	struct kvm_vcpu *vcpu = w->proxy->vcpu;
	struct call *c = &w->call;
	struct ucall uc;
	bool exited = false;
	int r;

	tdx_proxy_set_tdcall(w->proxy, &c->in);
	if (c->change)
		start_changing(w);

	for (;;) {
		r = __vcpu_run(vcpu);
		if (r == -1 && errno == EINTR) {
			w->nr_interrupted++;
			continue;
		}
		CHECK(w, !r, "KVM_RUN returned %d, errno %d", r, errno);

		if (get_ucall(vcpu, &uc) == UCALL_SYNC)
			break;
		if (uc.cmd == UCALL_ABORT)
			REPORT_GUEST_ASSERT(uc);
		CHECK(w, exits && !exited, "unexpected exit to userspace: %s, TDVMCALL %#llx",
		      exit_reason_str(vcpu->run->exit_reason), vcpu->run->tdx.nr);
		exited = true;
		answer_exit(w);
	}

	if (c->change)
		stop_changing(w);
	c->out = w->proxy->cmd->regs;
	CHECK(w, exits == exited, "no exit to userspace");
}

/* What has come of it */

static bool is_mix(u64 seen, u64 a, u64 b, u64 c, int size)
{
	int i;

	for (i = 0; i < size; i++, seen >>= 8, a >>= 8, b >>= 8, c >>= 8) {
		if ((u8)seen != (u8)a && (u8)seen != (u8)b && (u8)seen != (u8)c)
			return false;
	}

	return true;
}

static u64 span_size(struct worker *w)
{
	if (!w->call.has_message || w->call.offset % SZ_4K)
		return 0;

	return min_t(u64, fuzz.nr_pages * SZ_4K, arena_size(&w->arena) - w->call.offset);
}

/*
 * Is this what the part of the buffer that a Quote can take up looks like? If so, it
 * is in @seen_span and @want_span.
 */
static bool span_matches(struct worker *w, const struct outcome *o)
{
	u64 size = span_size(w), room = size - sizeof(struct tdx_quote_req);
	struct call *c = &w->call;
	struct tdx_quote_req *want = (void *)w->arena.want_span, *seen = (void *)w->arena.seen_span;
	const struct tdx_quote_req *req = &c->msg.req, *alt = &c->alt.req;
	u64 at = c->data_offset;

	if (!size)
		return !o->written;

	memcpy(want, w->arena.want + c->offset, size);

	if (o->written) {
		want->status = o->status;
		want->out_len = o->out_len;
	}

	switch (o->data) {
	case DATA_SAME:
		break;
	case DATA_QUOTE:
		if (fuzz.same_quotes) {
			memcpy(want->data, fuzz.quotes[c->report], fuzz.len);
			break;
		}
		if (!memmem(seen->data, fuzz.len, fuzz.reports[c->report] + TDX_REPORTDATA_OFFSET,
			    TDX_REPORTDATA_SIZE))
			return false;
		memcpy(want->data, seen->data, fuzz.len);
		break;
	case DATA_ANY:
		memcpy(want->data, seen->data, min_t(u64, fuzz.len, room));
		break;
	}

	/* A buffer that goes away may do so at any time. */
	if (o->answer == A_GONE && c->change & CHANGE_SLOT) {
		if (seen->status == req->status)
			want->status = req->status;
		if (seen->out_len == req->out_len)
			want->out_len = req->out_len;
	}

	if (c->change & CHANGE_VERSION && seen->version == alt->version)
		want->version = alt->version;
	if (c->change & CHANGE_IN_LEN && seen->in_len == alt->in_len)
		want->in_len = alt->in_len;
	if (c->change & CHANGE_STATUS &&
	    is_mix(seen->status, want->status, req->status, alt->status, sizeof(want->status)))
		want->status = seen->status;
	if (c->change & CHANGE_OUT_LEN &&
	    is_mix(seen->out_len, want->out_len, req->out_len, alt->out_len, sizeof(want->out_len)))
		want->out_len = seen->out_len;
	if (c->change & CHANGE_DATA &&
	    is_mix(seen->data[at], want->data[at], req->data[at], alt->data[at], 1))
		want->data[at] = seen->data[at];

	return !memcmp(want, seen, size);
}

static void check_regs(struct worker *w, const struct outcome *o)
{
	struct call *c = &w->call;
	struct tdcall_regs want = c->in;
	const u64 *in = (u64 *)&want, *out = (u64 *)&c->out;
	u64 info[4] = {};
	int i;

#define EXPOSED(reg, val) do { if (c->in.rcx & BIT(reg)) want.r##reg = (val); } while (0)
	EXPOSED(10, o->r10);
	if (o->answer == A_INFO || (o->exits && c->r11 == TDVMCALL_GET_TD_VM_CALL_INFO)) {
		if (o->exits)
			memcpy(info, &c->answers[1], sizeof(info));
		EXPOSED(11, info[0]);
		EXPOSED(12, info[1]);
		EXPOSED(13, info[2]);
		EXPOSED(14, info[3]);
	}
#undef EXPOSED

	for (i = 0; i < sizeof(want) / sizeof(*in); i++)
		CHECK(w, in[i] == out[i], "register %d (of struct tdcall_regs) is %#lx, not %#lx",
		      i, out[i], in[i]);
}

/* All that is around the Quote, in each page that there is */
static void check_memory(struct worker *w)
{
	struct arena *a = &w->arena;
	u64 i;

	for (i = 0; i < a->nr_pages; i++) {
		if (a->mem[i] && memcmp(a->mem[i], a->want + i * SZ_4K, SZ_4K)) {
			u64 b = 0;

			while (a->mem[i][b] == a->want[i * SZ_4K + b])
				b++;
			fail(w, "page %lu, which is \"%c\", has changed at byte %#lx", i,
			     page_letters[a->kinds[i]], b);
		}
	}
}

static void check_call(struct worker *w, const struct outcomes *outcomes)
{
	struct arena *a = &w->arena;
	struct call *c = &w->call;
	const struct outcome *o = NULL;
	u64 size = span_size(w), page;
	bool r10_hidden = !(c->in.rcx & BIT(10));
	int i;

	CHECK(w, !c->out.rax, "RAX is %#lx", c->out.rax);

	arena_read(a, c->offset, a->seen_span, size);
	for (i = 0; i < outcomes->nr && !o; i++) {
		if ((r10_hidden || c->out.r10 == outcomes->o[i].r10) &&
		    span_matches(w, &outcomes->o[i]))
			o = &outcomes->o[i];
	}

	if (!o) {
		if (size)
			print_message("after:", (void *)a->seen_span);
		for (i = 0; i < outcomes->nr; i++)
			ksft_print_msg("  documented: %s (R10 %#lx)\n",
				       answer_names[outcomes->o[i].answer], outcomes->o[i].r10);
		fail(w, "R10 is %#lx, or the buffer is not as it should be", c->out.r10);
	}

	check_regs(w, o);
	memcpy(a->want + c->offset, a->want_span, size);
	check_memory(w);

	/* As before */
	if (c->has_message) {
		page = c->offset / SZ_4K * SZ_4K;
		arena_write(a, page, a->fill + page,
			    min_t(u64, (fuzz.nr_pages + 1) * SZ_4K, arena_size(a) - page));
	}

	w->nr_answers[c->leaf][o->answer]++;
	w->nr_changing += !!c->change;
}

static bool time_is_up(void)
{
	return fuzz.seconds && now_ms() - fuzz.start_ms >= fuzz.seconds * 1000;
}

static void *worker_thread(void *arg)
{
	struct worker *w = arg;
	u64 nr;

	for (nr = w->index; (!fuzz.nr_calls || nr < fuzz.nr_calls) && !time_is_up();
	     nr += fuzz.nr_vcpus) {
		struct outcomes outcomes = {};
		struct call *c = &w->call;

		make_call(w, fuzz.first + nr);
		if (c->has_message)
			arena_write(&w->arena, c->offset, &c->msg, sizeof(c->msg));
		expect(w, &outcomes);

		w->in_call = true;
		do_call(w, outcomes.o[0].exits);
		check_call(w, &outcomes);
		w->in_call = false;
		WRITE_ONCE(w->nr_calls, w->nr_calls + 1);
	}

	WRITE_ONCE(w->running, false);
	return NULL;
}

/* Before */

static u64 probe_quote(struct tdx_quote_req *req, const u8 *report)
{
	struct tdx_proxy *proxy = &fuzz.proxies[0];

	memset(req, 0, SZ_4K);
	req->version = 1;
	req->in_len = TDX_REPORT_SIZE;
	memcpy(req->data, report, TDX_REPORT_SIZE);
	TEST_ASSERT_EQ(tdx_proxy_tdvmcall(proxy, TDVMCALL_GET_QUOTE, PROBE_GPA | TDX_SHARED_BIT,
					  SANE_QUOTE_SIZE + SZ_4K),
		       TDVMCALL_STATUS_SUCCESS);
	TEST_ASSERT_EQ(req->status, TDX_QUOTE_STATUS_SUCCESS);
	TEST_ASSERT(req->out_len && req->out_len <= SANE_QUOTE_SIZE, "A Quote of %u bytes",
		    req->out_len);

	return req->out_len;
}

static void collect_quotes(void)
{
	struct tdx_quote_req *req;
	int i;

	vm_userspace_mem_region_add(fuzz.vm, VM_MEM_SRC_ANONYMOUS, PROBE_GPA, PROBE_SLOT,
				    (SANE_QUOTE_SIZE + SZ_4K) / SZ_4K, 0);
	req = addr_gpa2hva(fuzz.vm, PROBE_GPA);

	fuzz.same_quotes = true;
	for (i = 0; i < NR_REPORTS; i++) {
		u8 reportdata[TDX_REPORTDATA_SIZE];

		memset(reportdata, 0x40 + i, sizeof(reportdata));
		tdx_proxy_get_report(&fuzz.proxies[0], reportdata, fuzz.reports[i]);

		fuzz.len = probe_quote(req, fuzz.reports[i]);
		fuzz.quotes[i] = malloc(fuzz.len);
		TEST_ASSERT(fuzz.quotes[i], "-ENOMEM when allocating a Quote");
		memcpy(fuzz.quotes[i], req->data, fuzz.len);

		TEST_ASSERT_EQ(probe_quote(req, fuzz.reports[i]), fuzz.len);
		fuzz.same_quotes &= !memcmp(fuzz.quotes[i], req->data, fuzz.len);
	}
	vm_mem_region_delete(fuzz.vm, PROBE_SLOT);

	if (!fuzz.max_is_known)
		fuzz.max_len = SANE_QUOTE_SIZE;
	TEST_ASSERT(fuzz.len <= fuzz.max_len, "A Quote of %lu bytes is larger than the largest",
		    fuzz.len);
	fuzz.nr_pages = nr_pages_of(-1, fuzz.len);
	ksft_print_msg("Quotes have %lu bytes, %s for the same TDREPORT\n", fuzz.len,
		       fuzz.same_quotes ? "the same" : "others");
}

static void create_td(void)
{
	int i;

	fuzz.nr_vcpus = min_t(u32, kvm_tdx_max_vcpus(), MAX_VCPUS);
	fuzz.vm = __vm_tdx_create_with_proxies(fuzz.proxies, fuzz.nr_vcpus);
	fuzz.private_gpa = fuzz.proxies[0].private_gpa;
	vm_tdx_launch(fuzz.vm);

	fuzz.in_userspace = vm_tdx_quotes_in_userspace(fuzz.vm);
	ksft_print_msg("Quotes are made %s, %u vCPUs\n",
		       fuzz.in_userspace ? "in userspace" : "by KVM", fuzz.nr_vcpus);

	fuzz.nr_pages = 2;
	fuzz.len = SZ_4K;
	if (!fuzz.in_userspace)
		collect_quotes();

	for (i = 0; i < fuzz.nr_vcpus; i++) {
		struct worker *w = &fuzz.workers[i];

		w->index = i;
		w->proxy = &fuzz.proxies[i];
		w->running = true;
		arena_init(&w->arena, i);
		sem_init(&w->change, 0, 0);
		sem_init(&w->changed, 0, 0);
		/* Have the vCPU come up. */
		tdx_proxy_tdvmcall(w->proxy, TDVMCALL_GET_TD_VM_CALL_INFO, 0, 0);
	}
}

/* All together */

static void ignore_signal(int sig)
{
}

static u64 total_calls(void)
{
	u64 nr = 0;
	int i;

	for (i = 0; i < fuzz.nr_vcpus; i++)
		nr += READ_ONCE(fuzz.workers[i].nr_calls);

	return nr;
}

static void print_progress(void)
{
	u64 nr = total_calls(), ms = now_ms() - fuzz.start_ms;

	ksft_print_msg("%lu calls in %lu s, %lu calls per second, seed %#lx\n", nr, ms / 1000,
		       nr * 1000 / (ms ?: 1), fuzz.seed);
}

static void run_workers(void)
{
	struct rng rng = { .state = fuzz.seed };
	const struct sigaction sa = { .sa_handler = ignore_signal };
	u64 next_ms;
	int i;

	sigaction(SIGUSR1, &sa, NULL);
	fuzz.start_ms = now_ms();
	next_ms = fuzz.start_ms + 10000;

	for (i = 0; i < fuzz.nr_vcpus; i++) {
		struct worker *w = &fuzz.workers[i];

		pthread_create(&w->changer, NULL, changer_thread, w);
		pthread_create(&w->thread, NULL, worker_thread, w);
	}

	/* Signals, which nobody must notice */
	for (i = 0; i < fuzz.nr_vcpus;) {
		struct worker *w = &fuzz.workers[below(&rng, fuzz.nr_vcpus)];

		usleep(500 + below(&rng, 20000));
		if (READ_ONCE(w->running))
			pthread_kill(w->thread, SIGUSR1);
		if (now_ms() >= next_ms) {
			print_progress();
			next_ms += 10000;
		}
		while (i < fuzz.nr_vcpus && !READ_ONCE(fuzz.workers[i].running))
			i++;
	}

	for (i = 0; i < fuzz.nr_vcpus; i++) {
		struct worker *w = &fuzz.workers[i];

		pthread_join(w->thread, NULL);
		w->call.change = 0;
		sem_post(&w->change);
		pthread_join(w->changer, NULL);
	}
}

static u64 report_answers(enum leaf leaf)
{
	u64 total = 0;
	int answer, i;

	for (answer = 0; answer < NR_ANSWERS; answer++) {
		u64 nr = 0;

		for (i = 0; i < fuzz.nr_vcpus; i++)
			nr += fuzz.workers[i].nr_answers[leaf][answer];
		if (nr)
			ksft_print_msg("  %8lu %s: %s\n", nr, leaf_names[leaf],
				       answer_names[answer]);
		total += nr;
	}
	ksft_test_result_pass("%s: %lu calls answered as documented\n", leaf_names[leaf], total);

	return total;
}

/* In so many calls, all that can be answered is. */
static void report_coverage(void)
{
	const bool user = fuzz.in_userspace;
	const u64 wanted = user ? BIT(A_INVALID) | BIT(A_USERSPACE) :
				  BIT(A_SUCCESS) | BIT(A_UNAVAILABLE) | BIT(A_INVALID) |
				  BIT(A_INVALID_STATUS) | BIT(A_UNALIGNED) |
				  (fuzz.nr_pages > 1 ? BIT(A_TOO_SMALL) | BIT(A_GONE) : 0);
	u64 seen = 0;
	int answer, i;

	for (answer = 0; answer < NR_ANSWERS; answer++) {
		for (i = 0; i < fuzz.nr_vcpus; i++) {
			if (fuzz.workers[i].nr_answers[GET_QUOTE][answer])
				seen |= BIT(answer);
		}
	}

	if (total_calls() < 3000)
		ksft_test_result_skip("less than 3000 calls\n");
	else
		ksft_test_result(!(wanted & ~seen), "GetQuote has had all answers there are\n");
}

static void report(void)
{
	u64 nr_changing = 0, nr_interrupted = 0, nr_irqs = 0;
	int i, v;

	for (i = 0; i < fuzz.nr_vcpus; i++) {
		nr_changing += fuzz.workers[i].nr_changing;
		nr_interrupted += fuzz.workers[i].nr_interrupted;
		for (v = 0; v < 256; v++)
			nr_irqs += fuzz.proxies[i].cmd->nr_irqs[v];
	}

	for (i = 0; i < NR_LEAVES; i++)
		report_answers(i);
	report_coverage();
	ksft_test_result(!nr_irqs, "no interrupt came uninvited\n");

	ksft_print_msg("%lu times something changed meanwhile, KVM_RUN was interrupted %lu times\n",
		       nr_changing, nr_interrupted);
	print_progress();
}

static void help(const char *name)
{
	printf("usage: %s [-s SEED] [-f FIRST] [-n CALLS] [-t SECONDS] [-q BYTES]\n"
	       " -s: what calls there are; at random if not given\n"
	       " -f: number of the first call (default 0)\n"
	       " -n: how many calls (default 0: no limit)\n"
	       " -t: for how long (default 10, or no limit if there is one for the calls)\n"
	       " -q: size of the largest Quote that the TDX module makes, if that is known\n",
	       name);
	exit(1);
}

static u64 number(const char *name, const char *arg)
{
	char *end;
	u64 val = strtoull(arg, &end, 0);

	if (!*arg || *end)
		help(name);
	return val;
}

int main(int argc, char *argv[])
{
	bool has_time = false;
	int opt;

	setlinebuf(stdout);
	fuzz.seed = now_ms() * 0x9e3779b97f4a7c15ULL ^ getpid();

	while ((opt = getopt(argc, argv, "s:f:n:t:q:")) != -1) {
		switch (opt) {
		case 's':
			fuzz.seed = number(argv[0], optarg);
			break;
		case 'f':
			fuzz.first = number(argv[0], optarg);
			break;
		case 'n':
			fuzz.nr_calls = number(argv[0], optarg);
			break;
		case 't':
			fuzz.seconds = number(argv[0], optarg);
			has_time = true;
			break;
		case 'q':
			fuzz.max_len = number(argv[0], optarg);
			fuzz.max_is_known = true;
			break;
		default:
			help(argv[0]);
		}
	}
	if (optind < argc)
		help(argv[0]);
	if (!has_time && !fuzz.nr_calls)
		fuzz.seconds = 10;

	TEST_REQUIRE(kvm_has_tdx());

	ksft_print_header();
	ksft_set_plan(NR_LEAVES + 2);
	ksft_print_msg("seed %#lx\n", fuzz.seed);
	atexit(print_calls_at_exit);

	create_td();
	run_workers();
	report();

	fuzz.finished = true;
	kvm_vm_free(fuzz.vm);
	ksft_finished();
}
