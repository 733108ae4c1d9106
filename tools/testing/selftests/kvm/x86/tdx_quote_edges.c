// SPDX-License-Identifier: GPL-2.0-only
/*
 * Edges of TDG.VP.VMCALL<GetQuote> where KVM makes the Quotes: what the selftest of
 * the series leaves out because it takes many rounds, or a TDX module that is known
 * to be fast or slow. Written for mutations that nobody else noticed.
 */
#include <linux/sizes.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <time.h>

#include "kvm_test_harness.h"
#include "kvm_util.h"
#include "tdx.h"
#include "tdx_proxy.h"
#include "tdx_quote.h"
#include "test_util.h"

#define NR_VCPUS	2
#define NR_ROUNDS	200

/* Time enough to do something while a Quote is made; too much for many rounds */
#define SLOW_MS		300

#define UNTOUCHED		0xa5
#define UNTOUCHED_U64		0xa5a5a5a5a5a5a5a5ULL

/* One buffer per vCPU, in a memslot with nothing behind it. */
#define BUF_SLOT		10
#define BUF_GPA			SZ_4G
#define BUF_SIZE		((u64)SZ_8M)

#define OTHER_SLOT		11
#define OTHER_GPA		(2UL * SZ_4G)

struct quote_td {
	struct kvm_vm *vm;
	struct tdx_proxy vcpus[NR_VCPUS];
	struct tdx_quote_req *reqs[NR_VCPUS];
	u8 report[TDX_REPORT_SIZE];
	u64 len;		/* of a Quote */
	u64 size;		/* of the smallest buffer for it */
	u64 ms;			/* the time it took */
};

FIXTURE(edges)
{
	struct quote_td td;
};

static u64 now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static gpa_t buf_gpa(int vcpu)
{
	return BUF_GPA + vcpu * BUF_SIZE;
}

static void make_request(struct quote_td *td, int vcpu, u64 size)
{
	struct tdx_quote_req *req = td->reqs[vcpu];

	memset(req, UNTOUCHED, size);
	tdx_quote_req_init(req, td->report);
}

static u64 get_quote(struct quote_td *td, gpa_t gpa, u64 size)
{
	return tdx_proxy_tdvmcall(&td->vcpus[0], TDVMCALL_GET_QUOTE, gpa | TDX_SHARED_BIT, size);
}

FIXTURE_SETUP(edges)
{
	const u8 reportdata[TDX_REPORTDATA_SIZE] = {};
	int i;

	self->td.vm = vm_tdx_create_with_proxies(self->td.vcpus, NR_VCPUS);
	vm_userspace_mem_region_add(self->td.vm, VM_MEM_SRC_ANONYMOUS, BUF_GPA, BUF_SLOT,
				    NR_VCPUS * BUF_SIZE / SZ_4K, 0);

	TEST_ASSERT(!vm_tdx_quotes_in_userspace(self->td.vm), "Quotes are made in userspace");

	for (i = 0; i < NR_VCPUS; i++)
		self->td.reqs[i] = addr_gpa2hva(self->td.vm, buf_gpa(i));
	tdx_proxy_get_report(&self->td.vcpus[0], reportdata, self->td.report);

	make_request(&self->td, 0, BUF_SIZE);
	self->td.ms = now_ms();
	TEST_ASSERT_EQ(get_quote(&self->td, BUF_GPA, BUF_SIZE), TDVMCALL_STATUS_SUCCESS);
	self->td.ms = now_ms() - self->td.ms;
	TEST_ASSERT_EQ(self->td.reqs[0]->status, TDX_QUOTE_STATUS_SUCCESS);
	self->td.len = self->td.reqs[0]->out_len;
	self->td.size = align_up(sizeof(struct tdx_quote_req) + self->td.len, SZ_4K);
}

FIXTURE_TEARDOWN(edges)
{
	kvm_vm_free(self->td.vm);
}

/* The range comes first: that it is not aligned as well does not matter. */
TEST_F(edges, unaligned_above_shared_memory)
{
	make_request(&self->td, 0, self->td.size);
	TEST_ASSERT_EQ(get_quote(&self->td, (BUF_GPA + 8) | 1ULL << 48, SZ_64K),
		       TDVMCALL_STATUS_INVALID_OPERAND);
	TEST_ASSERT_EQ(self->td.reqs[0]->status, UNTOUCHED_U64);
}

/* A buffer that is too small, with nothing behind it. */
TEST_F(edges, last_page)
{
	gpa_t gpa = BUF_GPA + NR_VCPUS * BUF_SIZE - SZ_4K;
	struct tdx_quote_req *req = addr_gpa2hva(self->td.vm, gpa);

	if (self->td.size == SZ_4K)
		SKIP(return, "A Quote has not more than a page");

	make_request(&self->td, 0, SZ_4K);
	memcpy(req, self->td.reqs[0], SZ_4K);
	TEST_ASSERT_EQ(get_quote(&self->td, gpa, SZ_4K), TDVMCALL_STATUS_SUCCESS);
	TEST_ASSERT_EQ(req->status, TDX_QUOTE_STATUS_ERROR);
	TEST_ASSERT_EQ(req->out_len, 0);
}

/*
 * Each page of the Quote is where the TDX module was told to put it. The kernel's
 * memory for it is zeroed, a page that went elsewhere is read as zeroes.
 */
TEST_F(edges, no_page_is_missing)
{
	static const u8 zeroes[SZ_4K];
	struct tdx_quote_req *req = self->td.reqs[0];
	u64 offset, len;

	for (offset = 0; offset < req->out_len; offset += SZ_4K) {
		len = min_t(u64, SZ_4K, req->out_len - offset);
		/* A few bytes can be 0 by chance. */
		if (len < 64)
			break;
		TEST_ASSERT(memcmp(req->data + offset, zeroes, len),
			    "Nothing but zeroes in %lu bytes from %#lx on", len, offset);
	}
}

/* A failure that the status cannot tell is one of the buffer. */
TEST_F(edges, status_not_writable)
{
	u64 ret;

	if (self->td.size == SZ_4K)
		SKIP(return, "A Quote has not more than a page");

	make_request(&self->td, 0, SZ_4K);
	TEST_ASSERT_EQ(mprotect(self->td.reqs[0], SZ_4K, PROT_READ), 0);
	ret = get_quote(&self->td, BUF_GPA, SZ_4K);
	TEST_ASSERT_EQ(mprotect(self->td.reqs[0], SZ_4K, PROT_READ | PROT_WRITE), 0);

	TEST_ASSERT_EQ(ret, TDVMCALL_STATUS_INVALID_OPERAND);
	TEST_ASSERT_EQ(self->td.reqs[0]->status, UNTOUCHED_U64);
}

struct thread {
	pthread_t thread;
	struct quote_td *td;
	int vcpu;
	bool stop;

	/* Another request is made: what is in the buffer from here on is not a Quote. */
	u64 round;

	/* What the observer found */
	u64 nr_seen;
	u64 nr_early;
};

/*
 * To see the status change, and then find something else not in place, it takes some
 * luck. Look at what is written last first: the end of the Quote, then out_len.
 */
static void *observe(void *arg)
{
	struct thread *t = arg;
	struct tdx_quote_req *req = t->td->reqs[0];
	u8 *last = req->data + t->td->len - 8;

	while (!READ_ONCE(t->stop)) {
		u64 round = __atomic_load_n(&t->round, __ATOMIC_ACQUIRE);
		u64 tail;
		u32 out_len;

		if (__atomic_load_n(&req->status, __ATOMIC_ACQUIRE) != TDX_QUOTE_STATUS_SUCCESS)
			continue;

		out_len = READ_ONCE(req->out_len);
		tail = __atomic_load_n((u64 *)last, __ATOMIC_ACQUIRE);
		/* The CPU may have had other things to do meanwhile. */
		if (__atomic_load_n(&t->round, __ATOMIC_ACQUIRE) != round)
			continue;

		t->nr_seen++;
		t->nr_early += out_len != t->td->len || tail == UNTOUCHED_U64;
		while (READ_ONCE(req->status) == TDX_QUOTE_STATUS_SUCCESS && !READ_ONCE(t->stop))
			;
	}

	return NULL;
}

TEST_F_TIMEOUT(edges, status_comes_last, 120)
{
	struct thread t = { .td = &self->td };
	int i;

	if (self->td.ms > SLOW_MS)
		SKIP(return, "The TDX module takes too long for many rounds");
	if (self->td.len < TDX_REPORT_SIZE + 8)
		SKIP(return, "A Quote is not longer than the TDREPORT");

	make_request(&self->td, 0, self->td.size);
	pthread_create(&t.thread, NULL, observe, &t);
	for (i = 0; i < NR_ROUNDS; i++) {
		__atomic_store_n(&t.round, i + 1, __ATOMIC_SEQ_CST);
		make_request(&self->td, 0, self->td.size);
		TEST_ASSERT_EQ(get_quote(&self->td, BUF_GPA, self->td.size),
			       TDVMCALL_STATUS_SUCCESS);
		TEST_ASSERT_EQ(self->td.reqs[0]->status, TDX_QUOTE_STATUS_SUCCESS);
		/* Have the observer see it. */
		usleep(100);
	}
	WRITE_ONCE(t.stop, true);
	pthread_join(t.thread, NULL);

	ksft_print_msg("Quotes seen %lu times\n", t.nr_seen);
	TEST_ASSERT(t.nr_seen, "No Quote was seen");
	TEST_ASSERT(!t.nr_early, "%lu times the status was there before the rest", t.nr_early);
}

static void *flip_in_len(void *arg)
{
	struct thread *t = arg;
	struct tdx_quote_req *req = t->td->reqs[0];

	while (!READ_ONCE(t->stop)) {
		WRITE_ONCE(req->in_len, TDX_QUOTE_MAX_IN_LEN + 1);
		WRITE_ONCE(req->in_len, TDX_REPORT_SIZE);
	}

	return NULL;
}

/*
 * Whichever of the two lengths KVM finds, it is the one to go by. The longer one
 * must not get to the TDX module, who would refuse it.
 */
TEST_F_TIMEOUT(edges, in_len_changes, 120)
{
	struct thread t = { .td = &self->td };
	int i, nr_refused = 0;

	if (self->td.ms > SLOW_MS)
		SKIP(return, "The TDX module takes too long for many rounds");

	pthread_create(&t.thread, NULL, flip_in_len, &t);
	for (i = 0; i < NR_ROUNDS; i++) {
		u64 ret;

		make_request(&self->td, 0, self->td.size);
		ret = get_quote(&self->td, BUF_GPA, self->td.size);
		if (ret == TDVMCALL_STATUS_INVALID_OPERAND) {
			TEST_ASSERT_EQ(self->td.reqs[0]->status, TDX_QUOTE_STATUS_ERROR);
			nr_refused++;
		} else {
			TEST_ASSERT_EQ(ret, TDVMCALL_STATUS_SUCCESS);
			TEST_ASSERT_EQ(self->td.reqs[0]->status, TDX_QUOTE_STATUS_SUCCESS);
		}
	}
	WRITE_ONCE(t.stop, true);
	pthread_join(t.thread, NULL);

	ksft_print_msg("%d of %d requests refused\n", nr_refused, NR_ROUNDS);
	TEST_ASSERT(nr_refused && nr_refused < NR_ROUNDS, "The length has not changed in time");
}

static void *run_vcpu(void *arg)
{
	struct thread *t = arg;

	tdx_proxy_run_without_exit(&t->td->vcpus[t->vcpu]);
	return NULL;
}

static void start_quote(struct quote_td *td, struct thread *t)
{
	make_request(td, t->vcpu, td->size);
	tdx_proxy_set_tdvmcall(&td->vcpus[t->vcpu], TDVMCALL_GET_QUOTE,
			       buf_gpa(t->vcpu) | TDX_SHARED_BIT, td->size);
	pthread_create(&t->thread, NULL, run_vcpu, t);
	while (!READ_ONCE(td->vcpus[t->vcpu].cmd->in_tdcall))
		usleep(1000);
	usleep(td->ms * 1000 / 4);
	TEST_ASSERT_EQ(READ_ONCE(td->reqs[t->vcpu]->status), UNTOUCHED_U64);
}

static bool quote_in_the_making(struct quote_td *td, struct thread *t)
{
	return READ_ONCE(td->reqs[t->vcpu]->status) == UNTOUCHED_U64;
}

/* Memslots can be changed while a Quote is made. */
TEST_F_TIMEOUT(edges, memslot_update, 120)
{
	struct thread t = { .td = &self->td };

	if (self->td.ms < SLOW_MS)
		SKIP(return, "The TDX module is too fast");

	start_quote(&self->td, &t);
	vm_userspace_mem_region_add(self->td.vm, VM_MEM_SRC_ANONYMOUS, OTHER_GPA, OTHER_SLOT, 1, 0);
	vm_mem_region_delete(self->td.vm, OTHER_SLOT);
	TEST_ASSERT(quote_in_the_making(&self->td, &t), "An update of memslots waits for a Quote");

	pthread_join(t.thread, NULL);
	TEST_ASSERT_EQ(self->td.vcpus[0].cmd->regs.r10, TDVMCALL_STATUS_SUCCESS);
	TEST_ASSERT_EQ(self->td.reqs[0]->status, TDX_QUOTE_STATUS_SUCCESS);
}

/* A page that becomes private while the Quote is made is not written to any more. */
TEST_F_TIMEOUT(edges, becomes_private, 120)
{
	gpa_t gpa = BUF_GPA + self->td.size - SZ_4K;
	struct thread t = { .td = &self->td };
	u8 *page = addr_gpa2hva(self->td.vm, gpa);
	int i;

	if (self->td.ms < SLOW_MS)
		SKIP(return, "The TDX module is too fast");
	if (self->td.size == SZ_4K)
		SKIP(return, "A Quote has not more than a page");

	start_quote(&self->td, &t);
	vm_mem_set_private(self->td.vm, gpa, SZ_4K);
	TEST_ASSERT(quote_in_the_making(&self->td, &t), "A change of attributes waits for a Quote");
	pthread_join(t.thread, NULL);
	vm_mem_set_shared(self->td.vm, gpa, SZ_4K);

	TEST_ASSERT_EQ(self->td.vcpus[0].cmd->regs.r10, TDVMCALL_STATUS_INVALID_OPERAND);
	TEST_ASSERT_EQ(self->td.reqs[0]->status, TDX_QUOTE_STATUS_ERROR);
	TEST_ASSERT_EQ(self->td.reqs[0]->out_len, 0);
	for (i = 0; i < SZ_4K; i++)
		TEST_ASSERT_EQ(page[i], UNTOUCHED);
}

static void ignore_signal(int sig)
{
}

static void *run_interrupted_vcpu(void *arg)
{
	struct thread *t = arg;
	struct kvm_vcpu *vcpu = t->td->vcpus[t->vcpu].vcpu;
	int r = __vcpu_run(vcpu);

	TEST_ASSERT(r == -1 && errno == EINTR, "KVM_RUN returned %d, errno %d", r, errno);
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_INTR);
	return NULL;
}

/* Userspace is told that it was a signal that ended the wait for the TDX module. */
TEST_F_TIMEOUT(edges, signal_exit, 120)
{
	const struct sigaction sa = { .sa_handler = ignore_signal };
	struct thread first = { .td = &self->td }, second = { .td = &self->td, .vcpu = 1 };

	if (self->td.ms < SLOW_MS)
		SKIP(return, "The TDX module is too fast");

	sigaction(SIGUSR1, &sa, NULL);
	make_request(&self->td, 1, self->td.size);
	tdx_proxy_set_tdvmcall(&self->td.vcpus[1], TDVMCALL_GET_QUOTE, buf_gpa(1) | TDX_SHARED_BIT,
			       self->td.size);
	start_quote(&self->td, &first);

	pthread_create(&second.thread, NULL, run_interrupted_vcpu, &second);
	while (!READ_ONCE(self->td.vcpus[1].cmd->in_tdcall))
		usleep(1000);
	usleep(self->td.ms * 1000 / 8);
	pthread_kill(second.thread, SIGUSR1);
	pthread_join(second.thread, NULL);
	TEST_ASSERT(quote_in_the_making(&self->td, &first), "The signal was seen too late");
	TEST_ASSERT(self->td.vcpus[1].cmd->in_tdcall, "The call has returned");
	TEST_ASSERT_EQ(self->td.reqs[1]->status, UNTOUCHED_U64);

	tdx_proxy_run_without_exit(&self->td.vcpus[1]);
	pthread_join(first.thread, NULL);
	TEST_ASSERT_EQ(self->td.vcpus[1].cmd->regs.r10, TDVMCALL_STATUS_SUCCESS);
	TEST_ASSERT_EQ(self->td.reqs[1]->status, TDX_QUOTE_STATUS_SUCCESS);
	TEST_ASSERT_EQ(self->td.reqs[0]->status, TDX_QUOTE_STATUS_SUCCESS);
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvm_has_tdx());

	return test_harness_run(argc, argv);
}
