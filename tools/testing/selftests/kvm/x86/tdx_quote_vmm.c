// SPDX-License-Identifier: GPL-2.0-only
/*
 * A VMM that works against KVM while Quotes are made: takes the buffer away, stops, dies
 *
 * Whatever it does, its TD is told what is documented, another TD gets its Quotes, and
 * in the end the TDX module has nothing left of either.
 *
 *	tdx_quote_vmm [-s SECONDS] [OPTION OF THE HARNESS...]
 *	tdx_quote_vmm -e		make Quotes, for ever
 *
 * SECONDS: how long a VMM stays stopped, 2 is the default.
 */
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/sizes.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "kvm_test_harness.h"
#include "kvm_util.h"
#include "tdx.h"
#include "tdx_proxy.h"
#include "tdx_quote.h"
#include "test_util.h"

#define MAX_VCPUS	2

/* Where the TDX module is fast, each of them hits another moment. */
#define NR_ROUNDS	60
#define NR_KILLS	15
#define NR_OFFLINES	3

/* Time enough to do something while a Quote is made; too much for many rounds */
#define SLOW_MS		300

/* A TD that is gone may have left something that is cleaned up later. */
#define CLEAN_UP_MS	30000

#define UNTOUCHED	0xa5
#define UNTOUCHED_U32	0xa5a5a5a5U
#define UNTOUCHED_U64	0xa5a5a5a5a5a5a5a5ULL

/* One buffer per vCPU, in one file and one memslot. */
#define BUF_SLOT	10
#define BUF_GPA		SZ_4G
#define BUF_SIZE	((u64)SZ_1M)
#define BUFS_SIZE	(MAX_VCPUS * BUF_SIZE)
#define OTHER_GPA	(2UL * SZ_4G)

#define STATUS_FILE	"/sys/kernel/debug/tdxsim/status"
#define FAULT_FILE	"/sys/kernel/debug/tdxsim/fault"

static int stop_seconds = 2;

struct quote_td {
	struct kvm_vm *vm;
	struct tdx_proxy vcpus[MAX_VCPUS];
	u32 nr_vcpus;
	int buf_fd;
	void *bufs;
	gpa_t spare;		/* a private page that the TD does not use */
	u8 reportdata[TDX_REPORTDATA_SIZE];
	u8 report[TDX_REPORT_SIZE];
	u64 len;		/* of a Quote */
	u64 size;		/* of the smallest buffer for it */
	u64 us;			/* the time it took */
};

static u64 now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000ULL + ts.tv_nsec / 1000;
}

/* Of the software TDX module; -1 where it is another one */
static int module_status(const char *name)
{
	FILE *file = fopen(STATUS_FILE, "r");
	char found[64];
	int val, ret = -1;

	if (!file)
		return -1;

	while (ret < 0 && fscanf(file, "%63s %d%*[^\n]", found, &val) >= 1) {
		if (!strcmp(found, name))
			ret = val;
	}
	fclose(file);

	return ret;
}

static void wait_for_module(const char *name, int val)
{
	u64 end = now_us() + CLEAN_UP_MS * 1000ULL;
	int is;

	while ((is = module_status(name)) != val && is >= 0) {
		TEST_ASSERT(now_us() < end, "The TDX module has %d %s, not %d", is, name, val);
		usleep(1000);
	}
}

static void check_nothing_left(void)
{
	static const char * const names[] = {
		"tds", "vcpus", "quotes_running",
		"pages_reg", "pages_tdr", "pages_tdcx", "pages_tdvpr", "pages_sept",
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(names); i++)
		wait_for_module(names[i], 0);
}

static gpa_t buf_gpa(int vcpu)
{
	return BUF_GPA + vcpu * BUF_SIZE;
}

static struct tdx_quote_req *td_req(struct quote_td *td, int vcpu)
{
	return td->bufs + vcpu * BUF_SIZE;
}

static void make_request(struct quote_td *td, int vcpu, u64 size)
{
	struct tdx_quote_req *req = td_req(td, vcpu);

	memset(req, UNTOUCHED, size);
	req->version = 1;
	req->in_len = TDX_REPORT_SIZE;
	memcpy(req->data, td->report, TDX_REPORT_SIZE);
}

static void check_quote(struct quote_td *td, int vcpu)
{
	struct tdx_quote_req *req = td_req(td, vcpu);

	TEST_ASSERT_EQ(td->vcpus[vcpu].cmd->regs.r10, TDVMCALL_STATUS_SUCCESS);
	TEST_ASSERT_EQ(req->status, TDX_QUOTE_STATUS_SUCCESS);
	TEST_ASSERT(req->out_len && req->out_len <= BUF_SIZE - sizeof(*req),
		    "A Quote of %u bytes", req->out_len);
	/* However it is encoded, a Quote has the REPORTDATA in it as they are. */
	TEST_ASSERT(memmem(req->data, req->out_len, td->reportdata, TDX_REPORTDATA_SIZE),
		    "The Quote is for other REPORTDATA");
}

/* A Quote from start to end, in the smallest buffer or, the first time, in all there is. */
static void get_quote(struct quote_td *td, int vcpu)
{
	u64 size = td->size ?: BUF_SIZE;

	make_request(td, vcpu, size);
	tdx_proxy_tdvmcall(&td->vcpus[vcpu], TDVMCALL_GET_QUOTE, buf_gpa(vcpu) | TDX_SHARED_BIT,
			   size);
	check_quote(td, vcpu);
}

static void *map_bufs(struct quote_td *td, void *where)
{
	void *mem = mmap(where, BUFS_SIZE, PROT_READ | PROT_WRITE,
			 MAP_SHARED | (where ? MAP_FIXED : 0), td->buf_fd, 0);

	TEST_ASSERT(mem != MAP_FAILED, "mmap() of a buffer, errno %d", errno);
	return mem;
}

static void set_slot(struct quote_td *td, u32 flags, gpa_t gpa, u64 size)
{
	vm_set_user_memory_region(td->vm, BUF_SLOT, flags, gpa, size, td->bufs);
}

static int create_buf_file(void)
{
	int fd = memfd_create("quote", 0);

	TEST_ASSERT(fd >= 0 && !ftruncate(fd, BUFS_SIZE), "No file for a buffer, errno %d", errno);
	return fd;
}

static bool is_slow(struct quote_td *td)
{
	return td->us > SLOW_MS * 1000ULL;
}

struct thread {
	pthread_t thread;
	struct quote_td *td;
	int vcpu;
	u64 nr_rounds;
	bool stop;
};

/* What a VMM does: whoever interrupts KVM_RUN, it is called again. */
static void run_vcpu(struct quote_td *td, int vcpu)
{
	struct ucall uc;
	int r;

	while ((r = __vcpu_run(td->vcpus[vcpu].vcpu)) == -1 && errno == EINTR)
		;

	TEST_ASSERT(!r, "KVM_RUN returned %d, errno %d", r, errno);
	TEST_ASSERT_EQ(get_ucall(td->vcpus[vcpu].vcpu, &uc), UCALL_SYNC);
	TEST_ASSERT_EQ(td->vcpus[vcpu].cmd->regs.rax, 0);
}

static void *run_vcpu_thread(void *arg)
{
	struct thread *t = arg;

	run_vcpu(t->td, t->vcpu);
	return NULL;
}

static void set_request_in(struct quote_td *td, int vcpu, u64 size)
{
	make_request(td, vcpu, size);
	tdx_proxy_set_tdvmcall(&td->vcpus[vcpu], TDVMCALL_GET_QUOTE,
			       buf_gpa(vcpu) | TDX_SHARED_BIT, size);
}

static void set_request(struct quote_td *td, int vcpu)
{
	set_request_in(td, vcpu, td->size);
}

static void start_thread(struct thread *t, void *(*fn)(void *))
{
	TEST_ASSERT(!pthread_create(&t->thread, NULL, fn, t), "No thread");
}

static void start_quote(struct thread *t)
{
	set_request(t->td, t->vcpu);
	start_thread(t, run_vcpu_thread);
}

/* A TD that has made its first Quote. */
static void td_create(struct quote_td *td, int buf_fd)
{
	struct thread t = { .td = td };
	static u64 serial;
	u64 *reportdata = (u64 *)td->reportdata;
	int i;

	memset(td, 0, sizeof(*td));
	td->nr_vcpus = min_t(u32, kvm_tdx_max_vcpus(), MAX_VCPUS);
	td->vm = __vm_tdx_create_with_proxies(td->vcpus, td->nr_vcpus);
	td->spare = addr_gva2gpa(td->vm, vm_alloc_page(td->vm));
	vm_tdx_launch(td->vm);

	/* REPORTDATA that nobody else has */
	for (i = 0; i < TDX_REPORTDATA_SIZE / sizeof(u64); i++)
		reportdata[i] = 0x4041424344454647 + i;
	reportdata[0] = getpid();
	reportdata[1] = ++serial;

	td->buf_fd = buf_fd;
	td->bufs = map_bufs(td, NULL);
	set_slot(td, 0, BUF_GPA, BUFS_SIZE);

	tdx_proxy_get_report(&td->vcpus[0], td->reportdata, td->report);

	td->us = now_us();
	get_quote(td, 0);
	td->us = now_us() - td->us;
	td->len = td_req(td, 0)->out_len;
	td->size = align_up(sizeof(struct tdx_quote_req) + td->len, SZ_4K);

	/* As it will be: with a thread to start, and with what the first one leaves behind. */
	if (!is_slow(td)) {
		td->us = now_us();
		start_quote(&t);
		pthread_join(t.thread, NULL);
		td->us = now_us() - td->us;
		check_quote(td, 0);
	}
}

static void td_free(struct quote_td *td)
{
	kvm_vm_free(td->vm);
	munmap(td->bufs, BUFS_SIZE);
	close(td->buf_fd);
}

static bool in_the_making(const struct tdx_quote_req *req)
{
	return READ_ONCE(req->status) == UNTOUCHED_U64;
}

static void wait_for_quote(const struct tdx_quote_req *req)
{
	u64 end = now_us() + CLEAN_UP_MS * 1000ULL;

	while (in_the_making(req)) {
		TEST_ASSERT(now_us() < end, "There is no Quote");
		usleep(1000);
	}
	TEST_ASSERT_EQ(req->status, TDX_QUOTE_STATUS_SUCCESS);
}

/* The TDX module has begun with a Quote, or is likely to have, where it does not tell. */
static void wait_for_begun_quote(struct quote_td *td)
{
	if (module_status("quotes_running") < 0)
		usleep(td->us / 4);
	wait_for_module("quotes_running", 1);
}

/*
 * Another TD, of another VMM as far as KVM can tell: it is there before and after, and
 * must not come to harm. And one more, made as soon as nobody else is left.
 */
static void bystander_create(struct quote_td *td)
{
	td_create(td, create_buf_file());
}

static void check_harmless(struct quote_td *bystander)
{
	struct quote_td next;

	get_quote(bystander, 0);
	td_create(&next, create_buf_file());
	td_free(&next);

	wait_for_module("tds", 1);
	wait_for_module("quotes_running", 0);
	td_free(bystander);
	check_nothing_left();
}

/*
 * What the VMM does to the memory of a TD
 */
FIXTURE(memory)
{
	struct quote_td td;
	struct quote_td bystander;
};

/* If it happens while a Quote is made, status and data stay as the TD had them. */
#define KEEPS_STATUS	BIT(0)
#define KEEPS_DATA	BIT(1)
/* KVM can get at the status, whatever has become of the rest. */
#define TELLS_STATUS	BIT(2)
/* KVM writes all of the Quote or nothing, whenever it happens. */
#define ALL_OR_NOTHING	BIT(3)
/* What was in memory is lost. */
#define LOSES_MEMORY	BIT(4)
/* There is a Quote, whenever it happens. */
#define HARMLESS	BIT(5)

struct harm {
	const char *name;
	void (*harm)(struct quote_td *td);
	void (*repair)(struct quote_td *td);

	/* What the TD is told if it happens while a Quote is made */
	u64 ret;
	unsigned int flags;
};

static void restore_slot(struct quote_td *td)
{
	set_slot(td, 0, BUF_GPA, BUFS_SIZE);
}

static void restore_mapping(struct quote_td *td)
{
	map_bufs(td, td->bufs);
}

static void nothing_to_restore(struct quote_td *td)
{
}

static void delete_slot(struct quote_td *td)
{
	set_slot(td, 0, BUF_GPA, 0);
}

static void move_slot(struct quote_td *td)
{
	set_slot(td, 0, OTHER_GPA, BUFS_SIZE);
}

static void replace_slot(struct quote_td *td)
{
	delete_slot(td);
	restore_slot(td);
}

static void try_read_only_slot(struct quote_td *td)
{
	int r = __vm_set_user_memory_region(td->vm, BUF_SLOT, KVM_MEM_READONLY, BUF_GPA,
					    BUFS_SIZE, td->bufs);

	TEST_ASSERT(r == -1 && errno == EINVAL, "Made read-only: %d, errno %d", r, errno);
}

static u64 last_page(struct quote_td *td)
{
	return td->size - SZ_4K;
}

static void first_page_private(struct quote_td *td)
{
	vm_mem_set_private(td->vm, BUF_GPA, SZ_4K);
}

static void last_page_private(struct quote_td *td)
{
	vm_mem_set_private(td->vm, BUF_GPA + last_page(td), SZ_4K);
}

static void all_shared(struct quote_td *td)
{
	vm_mem_set_shared(td->vm, BUF_GPA, BUFS_SIZE);
}

static void set_file_size(struct quote_td *td, u64 size)
{
	TEST_ASSERT(!ftruncate(td->buf_fd, size), "ftruncate(%lu), errno %d", size, errno);
}

static void truncate_all(struct quote_td *td)
{
	set_file_size(td, 0);
}

static void truncate_last_page(struct quote_td *td)
{
	set_file_size(td, last_page(td));
}

static void restore_file(struct quote_td *td)
{
	set_file_size(td, BUFS_SIZE);
}

static void punch_all(struct quote_td *td)
{
	TEST_ASSERT(!fallocate(td->buf_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
			       BUFS_SIZE), "fallocate(), errno %d", errno);
}

static void protect(void *mem, u64 size, int prot)
{
	TEST_ASSERT(!mprotect(mem, size, prot), "mprotect(%#x), errno %d", prot, errno);
}

static void protect_all(struct quote_td *td)
{
	protect(td->bufs, BUFS_SIZE, PROT_NONE);
}

static void protect_last_page(struct quote_td *td)
{
	protect(td->bufs + last_page(td), SZ_4K, PROT_NONE);
}

static void write_protect_all(struct quote_td *td)
{
	protect(td->bufs, BUFS_SIZE, PROT_READ);
}

static void write_protect_last_page(struct quote_td *td)
{
	protect(td->bufs + last_page(td), SZ_4K, PROT_READ);
}

static void unmap_all(struct quote_td *td)
{
	TEST_ASSERT(!munmap(td->bufs, BUFS_SIZE), "munmap(), errno %d", errno);
}

static void unmap_last_page(struct quote_td *td)
{
	TEST_ASSERT(!munmap(td->bufs + last_page(td), SZ_4K), "munmap(), errno %d", errno);
}

static void map_other_memory(struct quote_td *td)
{
	void *mem = mmap(td->bufs, BUFS_SIZE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	TEST_ASSERT(mem == td->bufs, "mmap(), errno %d", errno);
}

static void punch_private_page(struct quote_td *td)
{
	vm_guest_mem_punch_hole(td->vm, td->spare, SZ_4K);
}

#define HARM(_name, _repair, _ret, _flags)	\
	{					\
		.name = #_name,			\
		.harm = _name,			\
		.repair = _repair,		\
		.ret = _ret,			\
		.flags = _flags,		\
	}

#define KEEPS_ALL	(KEEPS_STATUS | KEEPS_DATA)
#define SUCCESS		TDVMCALL_STATUS_SUCCESS
#define INVALID		TDVMCALL_STATUS_INVALID_OPERAND

static const struct harm harms[] = {
	HARM(delete_slot, restore_slot, INVALID, KEEPS_ALL),
	HARM(move_slot, restore_slot, INVALID, KEEPS_ALL),
	HARM(replace_slot, nothing_to_restore, SUCCESS, 0),
	HARM(try_read_only_slot, nothing_to_restore, SUCCESS, HARMLESS),
	HARM(first_page_private, all_shared, INVALID, ALL_OR_NOTHING),
	HARM(last_page_private, all_shared, INVALID, ALL_OR_NOTHING | TELLS_STATUS),
	HARM(truncate_all, restore_file, INVALID, LOSES_MEMORY),
	HARM(truncate_last_page, restore_file, INVALID, TELLS_STATUS | LOSES_MEMORY),
	HARM(punch_all, nothing_to_restore, SUCCESS, LOSES_MEMORY),
	HARM(protect_all, restore_mapping, INVALID, KEEPS_ALL),
	HARM(protect_last_page, restore_mapping, INVALID, TELLS_STATUS),
	HARM(write_protect_all, restore_mapping, INVALID, KEEPS_ALL),
	HARM(write_protect_last_page, restore_mapping, INVALID, TELLS_STATUS),
	HARM(unmap_all, restore_mapping, INVALID, KEEPS_ALL),
	HARM(unmap_last_page, restore_mapping, INVALID, TELLS_STATUS),
	HARM(map_other_memory, restore_mapping, SUCCESS, LOSES_MEMORY),
	HARM(punch_private_page, nothing_to_restore, SUCCESS, HARMLESS),
};

FIXTURE_SETUP(memory)
{
	bystander_create(&self->bystander);
	td_create(&self->td, create_buf_file());
}

FIXTURE_TEARDOWN(memory)
{
	td_free(&self->td);
	check_harmless(&self->bystander);
}

static void check_data_kept(struct quote_td *td)
{
	struct tdx_quote_req *req = td_req(td, 0);
	u64 i;

	TEST_ASSERT(!memcmp(req->data, td->report, TDX_REPORT_SIZE),
		    "The TDREPORT was overwritten");
	for (i = TDX_REPORT_SIZE; i < td->size - sizeof(*req); i++)
		TEST_ASSERT(req->data[i] == UNTOUCHED, "Byte %#lx was overwritten", i);
}

/* There is no Quote, because the buffer is gone. */
static void check_refused(struct quote_td *td, unsigned int flags, bool certain)
{
	struct tdx_quote_req *req = td_req(td, 0);

	if (flags & ALL_OR_NOTHING || (certain && flags & KEEPS_DATA))
		check_data_kept(td);

	/* The file has lost it, or it was lost after it was written to. */
	if (flags & LOSES_MEMORY && !(certain && flags & TELLS_STATUS))
		return;

	if (req->status == UNTOUCHED_U64) {
		TEST_ASSERT(!certain || req->out_len == UNTOUCHED_U32,
			    "The length was overwritten");
		TEST_ASSERT(!certain || !(flags & TELLS_STATUS), "The status is not told");
	} else {
		TEST_ASSERT_EQ(req->status, TDX_QUOTE_STATUS_ERROR);
		TEST_ASSERT_EQ(req->out_len, 0);
		TEST_ASSERT(!certain || !(flags & KEEPS_STATUS), "The status was overwritten");
	}
}

/*
 * @certain: it happened while the Quote was made. Otherwise it may have been too early
 * or too late to do any harm, or have hit KVM at the buffer.
 */
static bool check_answer(struct quote_td *td, u64 ret, unsigned int flags, bool certain)
{
	u64 r10 = td->vcpus[0].cmd->regs.r10;

	if (certain)
		TEST_ASSERT_EQ(r10, ret);

	if (r10 == TDVMCALL_STATUS_SUCCESS) {
		if (certain || !(flags & LOSES_MEMORY))
			check_quote(td, 0);
		return true;
	}

	TEST_ASSERT_EQ(r10, TDVMCALL_STATUS_INVALID_OPERAND);
	TEST_ASSERT(!(flags & HARMLESS), "There is no Quote");
	check_refused(td, flags, certain);
	return false;
}

static void harm_slow_quote(struct quote_td *td, const struct harm *harm)
{
	struct tdx_quote_req *req = td_req(td, 0);
	struct thread t = { .td = td };
	struct tdx_quote_req *other_view;

	/* Whatever becomes of the mapping that KVM has */
	other_view = map_bufs(td, NULL);
	start_quote(&t);
	wait_for_begun_quote(td);
	TEST_ASSERT(in_the_making(req), "It is too late");
	harm->harm(td);
	if (!(harm->flags & LOSES_MEMORY))
		TEST_ASSERT(in_the_making(other_view), "It has to wait for a Quote");
	if (module_status("tds") > 0)
		TEST_ASSERT_EQ(module_status("quotes_running"), 1);

	pthread_join(t.thread, NULL);
	munmap(other_view, BUFS_SIZE);
	if (harm->ret == TDVMCALL_STATUS_SUCCESS) {
		check_answer(td, harm->ret, harm->flags, true);
		harm->repair(td);
	} else {
		harm->repair(td);
		check_answer(td, harm->ret, harm->flags, true);
	}
}

static void harm_fast_quotes(struct quote_td *td, const struct harm *harm)
{
	struct thread t = { .td = td };
	int i, nr_quotes = 0;

	for (i = 0; i < NR_ROUNDS; i++) {
		start_quote(&t);
		usleep(random() % (td->us + 1));
		harm->harm(td);
		pthread_join(t.thread, NULL);
		harm->repair(td);
		nr_quotes += check_answer(td, harm->ret, harm->flags, false);
	}
	ksft_print_msg("%d Quotes in %d rounds\n", nr_quotes, NR_ROUNDS);
}

TEST_F_TIMEOUT(memory, meanwhile, 480)
{
	struct quote_td *td = &self->td;
	int i;

	ksft_print_msg("A Quote takes %lu us\n", td->us);
	for (i = 0; i < ARRAY_SIZE(harms); i++) {
		ksft_print_msg("%s\n", harms[i].name);
		if (is_slow(td))
			harm_slow_quote(td, &harms[i]);
		else
			harm_fast_quotes(td, &harms[i]);
		get_quote(td, 0);
		get_quote(&self->bystander, 0);
	}
}

/* The Quote has no room in the buffer. That is a status, and the status has no room either. */
TEST_F_TIMEOUT(memory, no_room, 60)
{
	struct quote_td *td = &self->td;
	struct tdx_quote_req *req = td_req(td, 0);
	struct thread t = { .td = td };
	u64 size = td->size - SZ_4K;

	if (!is_slow(td))
		SKIP(return, "The TDX module is too fast");
	if (size < sizeof(*req) + TDX_REPORT_SIZE)
		SKIP(return, "Quotes are too small");

	set_request_in(td, 0, size);
	start_thread(&t, run_vcpu_thread);
	pthread_join(t.thread, NULL);
	TEST_ASSERT_EQ(td->vcpus[0].cmd->regs.r10, TDVMCALL_STATUS_SUCCESS);
	TEST_ASSERT_EQ(req->status, TDX_QUOTE_STATUS_ERROR);

	set_request_in(td, 0, size);
	start_thread(&t, run_vcpu_thread);
	wait_for_begun_quote(td);
	TEST_ASSERT(in_the_making(req), "It is too late");
	delete_slot(td);
	pthread_join(t.thread, NULL);
	restore_slot(td);
	TEST_ASSERT_EQ(td->vcpus[0].cmd->regs.r10, TDVMCALL_STATUS_INVALID_OPERAND);
	TEST_ASSERT_EQ(req->status, UNTOUCHED_U64);
}

/* What belongs to the buffer changes all the time. */
FIXTURE(flips)
{
	struct quote_td td;
	struct quote_td bystander;
};

FIXTURE_SETUP(flips)
{
	bystander_create(&self->bystander);
	td_create(&self->td, create_buf_file());
}

FIXTURE_TEARDOWN(flips)
{
	td_free(&self->td);
	check_harmless(&self->bystander);
}

static void *flip_attributes(void *arg)
{
	struct thread *t = arg;

	while (!READ_ONCE(t->stop)) {
		last_page_private(t->td);
		all_shared(t->td);
		t->nr_rounds++;
	}

	return NULL;
}

static void *flip_slot(void *arg)
{
	struct thread *t = arg;

	while (!READ_ONCE(t->stop)) {
		delete_slot(t->td);
		restore_slot(t->td);
		t->nr_rounds++;
	}

	return NULL;
}

static void *flip_protection(void *arg)
{
	struct thread *t = arg;

	while (!READ_ONCE(t->stop)) {
		protect_last_page(t->td);
		restore_mapping(t->td);
		t->nr_rounds++;
	}

	return NULL;
}

static void check_flips(struct quote_td *td, void *(*flip)(void *), unsigned int flags)
{
	struct thread flipper = { .td = td }, t = { .td = td };
	int i, nr_quotes = 0, nr_rounds = is_slow(td) ? 4 : NR_ROUNDS;

	for (i = 0; i < nr_rounds; i++) {
		u64 nr_flips = flipper.nr_rounds;

		set_request(td, 0);
		WRITE_ONCE(flipper.stop, false);
		start_thread(&flipper, flip);
		start_thread(&t, run_vcpu_thread);
		pthread_join(t.thread, NULL);
		WRITE_ONCE(flipper.stop, true);
		pthread_join(flipper.thread, NULL);

		TEST_ASSERT(flipper.nr_rounds > nr_flips || !is_slow(td), "Nothing has changed");
		nr_quotes += check_answer(td, TDVMCALL_STATUS_INVALID_OPERAND, flags, false);
	}
	ksft_print_msg("%d Quotes in %d rounds with %lu flips\n", nr_quotes, nr_rounds,
		       flipper.nr_rounds);

	get_quote(td, 0);
}

TEST_F_TIMEOUT(flips, attributes, 240)
{
	check_flips(&self->td, flip_attributes, ALL_OR_NOTHING);
}

TEST_F_TIMEOUT(flips, slot, 240)
{
	/* It may be there again for the status, or for a part of the data. */
	check_flips(&self->td, flip_slot, 0);
}

TEST_F_TIMEOUT(flips, protection, 240)
{
	check_flips(&self->td, flip_protection, 0);
}

/*
 * A VMM that is another process
 */
#define EXIT_STATUS	7

/* What it does when its TD has asked for a Quote */
enum vmm_order {
	VMM_FINISH,		/* check the Quote, and be done */
	VMM_EXIT,		/* exit when told to */
	VMM_CLOSE,		/* close all files when told to */
};

/* What it shares with the test */
struct vmm_state {
	bool ready;		/* its TD has had a Quote made */
	bool go;		/* have it ask for another one */
	bool asked;		/* it has */
	bool end;		/* exit, or close the files, now */
};

struct vmm {
	pid_t pid;
	struct vmm_state *state;
	int buf_fd;
	struct tdx_quote_req *req;	/* of its TD */
};

static void *map_shared(u64 size, int fd)
{
	void *mem = mmap(NULL, size, PROT_READ | PROT_WRITE,
			 MAP_SHARED | (fd < 0 ? MAP_ANONYMOUS : 0), fd, 0);

	TEST_ASSERT(mem != MAP_FAILED, "No shared memory, errno %d", errno);
	return mem;
}

static void wait_until(const bool *flag)
{
	while (!READ_ONCE(*flag))
		usleep(100);
}

/* The files that hold a TD, its memory included */
static void close_all(struct quote_td *td)
{
	struct userspace_mem_region *region;
	int bkt;

	hash_for_each(td->vm->regions.slot_hash, bkt, region, slot_node) {
		if (region->region.guest_memfd >= 0)
			close(region->region.guest_memfd);
	}
	kvm_vm_release(td->vm);
}

static void *run_fd_thread(void *arg)
{
	struct thread *t = arg;

	int r = ioctl(t->td->vcpus[t->vcpu].vcpu->fd, KVM_RUN, NULL);

	/* It may find the TD without memory. */
	TEST_ASSERT(!r || errno == EFAULT, "KVM_RUN returned %d, errno %d", r, errno);
	return NULL;
}

static void close_all_meanwhile(struct quote_td *td, struct thread *t, struct vmm_state *state)
{
	int nr_tds = module_status("tds");

	wait_until(&state->end);
	close_all(td);

	/* KVM_RUN goes on with what it has, and takes the TD along in the end. */
	pthread_join(t->thread, NULL);
	if (is_slow(td))
		TEST_ASSERT_EQ(td_req(td, 0)->status, TDX_QUOTE_STATUS_SUCCESS);
	wait_for_module("tds", nr_tds - 1);
}

static void vmm_main(struct vmm *vmm, enum vmm_order order)
{
	struct quote_td td;
	struct thread t = { .td = &td };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	td_create(&td, vmm->buf_fd);

	set_request(&td, 0);
	WRITE_ONCE(vmm->state->ready, true);
	wait_until(&vmm->state->go);
	start_thread(&t, order == VMM_CLOSE ? run_fd_thread : run_vcpu_thread);
	while (!READ_ONCE(td.vcpus[0].cmd->in_tdcall) && in_the_making(td_req(&td, 0)))
		usleep(100);
	WRITE_ONCE(vmm->state->asked, true);

	switch (order) {
	case VMM_FINISH:
		pthread_join(t.thread, NULL);
		check_quote(&td, 0);
		td_free(&td);
		break;
	case VMM_EXIT:
		wait_until(&vmm->state->end);
		_exit(EXIT_STATUS);
	case VMM_CLOSE:
		close_all_meanwhile(&td, &t, vmm->state);
		break;
	}

	_exit(0);
}

static void wait_for_vmm(struct vmm *vmm, const bool *flag)
{
	while (!READ_ONCE(*flag)) {
		TEST_ASSERT(!waitpid(vmm->pid, NULL, WNOHANG), "The VMM ended too early");
		usleep(100);
	}
}

static void vmm_create(struct vmm *vmm, enum vmm_order order)
{
	vmm->buf_fd = create_buf_file();
	vmm->req = map_shared(BUFS_SIZE, vmm->buf_fd);
	vmm->state = map_shared(sizeof(*vmm->state), -1);
	fflush(stdout);

	vmm->pid = fork();
	TEST_ASSERT(vmm->pid >= 0, "fork(), errno %d", errno);
	if (!vmm->pid)
		vmm_main(vmm, order);

	wait_for_vmm(vmm, &vmm->state->ready);
}

static void vmm_go(struct vmm *vmm)
{
	WRITE_ONCE(vmm->state->go, true);
	wait_for_vmm(vmm, &vmm->state->asked);
}

static void vmm_start(struct vmm *vmm, enum vmm_order order)
{
	vmm_create(vmm, order);
	vmm_go(vmm);
}

static void vmm_tell_end(struct vmm *vmm)
{
	WRITE_ONCE(vmm->state->end, true);
}

/* Wait for the end of a VMM. Returns its status as waitpid() has it. */
static int vmm_wait(struct vmm *vmm)
{
	int status;

	TEST_ASSERT_EQ(waitpid(vmm->pid, &status, 0), vmm->pid);
	return status;
}

static void vmm_free(struct vmm *vmm)
{
	munmap(vmm->req, BUFS_SIZE);
	munmap(vmm->state, sizeof(*vmm->state));
	close(vmm->buf_fd);
}

static void vmm_kill(struct vmm *vmm, int sig)
{
	TEST_ASSERT(!kill(vmm->pid, sig), "kill(), errno %d", errno);
}

static void assert_killed(struct vmm *vmm)
{
	int status = vmm_wait(vmm);

	TEST_ASSERT(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
		    "The VMM ended with status %#x", status);
}

static void assert_exits(struct vmm *vmm, int expected)
{
	int status = vmm_wait(vmm);

	TEST_ASSERT(WIFEXITED(status) && WEXITSTATUS(status) == expected,
		    "The VMM ended with status %#x", status);
}

FIXTURE(death)
{
	struct quote_td bystander;
};

FIXTURE_SETUP(death)
{
	bystander_create(&self->bystander);
}

FIXTURE_TEARDOWN(death)
{
	check_harmless(&self->bystander);
}

/* In the middle of a Quote, where that takes long; else somewhere in it or around it */
static int nr_deaths(struct quote_td *bystander)
{
	return is_slow(bystander) ? 1 : NR_KILLS;
}

static void sleep_into_quote(struct quote_td *bystander, struct vmm *vmm)
{
	if (!is_slow(bystander)) {
		usleep(random() % (bystander->us + 1));
		return;
	}

	wait_for_begun_quote(bystander);
	TEST_ASSERT(in_the_making(vmm->req), "It is too late");
}

static void check_killed(struct quote_td *bystander, struct vmm *vmm)
{
	vmm_kill(vmm, SIGKILL);
	assert_killed(vmm);
	get_quote(bystander, 0);
	vmm_free(vmm);
}

TEST_F_TIMEOUT(death, kill_while_made, 240)
{
	struct vmm vmm;
	int i;

	for (i = 0; i < nr_deaths(&self->bystander); i++) {
		vmm_start(&vmm, VMM_EXIT);
		sleep_into_quote(&self->bystander, &vmm);
		check_killed(&self->bystander, &vmm);
	}
}

TEST_F_TIMEOUT(death, exit_while_made, 240)
{
	struct vmm vmm;
	int i;

	for (i = 0; i < nr_deaths(&self->bystander); i++) {
		vmm_start(&vmm, VMM_EXIT);
		sleep_into_quote(&self->bystander, &vmm);
		vmm_tell_end(&vmm);
		assert_exits(&vmm, EXIT_STATUS);
		get_quote(&self->bystander, 0);
		vmm_free(&vmm);
	}
}

TEST_F_TIMEOUT(death, close_while_made, 240)
{
	struct vmm vmm;
	int i;

	for (i = 0; i < nr_deaths(&self->bystander); i++) {
		vmm_start(&vmm, VMM_CLOSE);
		sleep_into_quote(&self->bystander, &vmm);
		vmm_tell_end(&vmm);
		assert_exits(&vmm, 0);
		get_quote(&self->bystander, 0);
		vmm_free(&vmm);
	}
}

/* Who dies while it waits for its turn has no turn any more, and who is first does not notice. */
TEST_F_TIMEOUT(death, kill_while_waiting, 120)
{
	struct vmm first, second;

	if (!is_slow(&self->bystander))
		SKIP(return, "The TDX module is too fast");

	vmm_create(&first, VMM_FINISH);
	vmm_create(&second, VMM_FINISH);
	vmm_go(&first);
	wait_for_begun_quote(&self->bystander);
	vmm_go(&second);
	vmm_kill(&second, SIGKILL);
	TEST_ASSERT(in_the_making(first.req), "It is too late");

	assert_killed(&second);
	TEST_ASSERT(in_the_making(second.req), "It has waited for its turn");
	assert_exits(&first, 0);
	vmm_free(&first);
	vmm_free(&second);
}

/* The TDX module goes on with a Quote that it has begun only once it is less busy. */
#define BUSY_WHEN_BEGUN	"TDH.QUOTE.GET:8000020000000000:2"

static bool write_fault(const char *fault)
{
	int fd = open(FAULT_FILE, O_WRONLY);

	if (fd < 0)
		return false;

	TEST_ASSERT_EQ(write(fd, fault, strlen(fault)), strlen(fault));
	close(fd);
	return true;
}

static void start_vmm_with_busy_module(struct vmm *vmm, enum vmm_order order)
{
	vmm_create(vmm, order);
	write_fault(BUSY_WHEN_BEGUN);
	vmm_go(vmm);
	wait_for_module("quotes_running", 1);
	usleep(20000);
	TEST_ASSERT(in_the_making(vmm->req), "It is too late");
}

/* A Quote that was begun is abandoned by who dies, and the module forgets it with the TD. */
TEST_F_TIMEOUT(death, kill_while_begun_and_busy, 120)
{
	struct vmm vmm;

	if (!write_fault("clear"))
		SKIP(return, "The TDX module cannot be told to be busy");

	start_vmm_with_busy_module(&vmm, VMM_FINISH);
	vmm_kill(&vmm, SIGKILL);
	assert_killed(&vmm);
	TEST_ASSERT(in_the_making(vmm.req), "It has waited for the TDX module");
	wait_for_module("quotes_running", 0);
	write_fault("clear");
	vmm_free(&vmm);
}

/* Of the thread that it is sent to */
static void end_thread(int sig)
{
	syscall(SYS_exit, 0);
}

static void end_vcpu_thread(struct thread *t)
{
	TEST_ASSERT(!pthread_kill(t->thread, SIGUSR1), "No thread to end");
	pthread_join(t->thread, NULL);
}

/* Whatever becomes of the thread that runs a vCPU, another one can go on where it was. */
TEST_F_TIMEOUT(death, vcpu_thread, 120)
{
	const struct sigaction sa = { .sa_handler = end_thread };
	struct quote_td td;
	struct thread t = { .td = &td }, first = { .td = &self->bystander };

	if (!is_slow(&self->bystander))
		SKIP(return, "The TDX module is too fast");

	sigaction(SIGUSR1, &sa, NULL);
	td_create(&td, create_buf_file());

	/* It ends when the Quote that was begun is there. */
	start_quote(&t);
	wait_for_begun_quote(&td);
	TEST_ASSERT(in_the_making(td_req(&td, 0)), "It is too late");
	end_vcpu_thread(&t);
	TEST_ASSERT_EQ(td_req(&td, 0)->status, TDX_QUOTE_STATUS_SUCCESS);
	run_vcpu(&td, 0);
	check_quote(&td, 0);

	/* It ends at once where none was begun, as it is not its turn. */
	start_quote(&first);
	wait_for_begun_quote(&self->bystander);
	start_quote(&t);
	while (!READ_ONCE(td.vcpus[0].cmd->in_tdcall))
		usleep(100);
	end_vcpu_thread(&t);
	TEST_ASSERT(in_the_making(td_req(&td, 0)), "A Quote out of turn");
	TEST_ASSERT(in_the_making(td_req(&self->bystander, 0)), "It is too late");
	run_vcpu(&td, 0);
	check_quote(&td, 0);

	pthread_join(first.thread, NULL);
	check_quote(&self->bystander, 0);
	td_free(&td);
}

/*
 * The VMM does not run for a while
 */
FIXTURE(pause)
{
	struct quote_td bystander;
};

FIXTURE_SETUP(pause)
{
	bystander_create(&self->bystander);
}

FIXTURE_TEARDOWN(pause)
{
	check_harmless(&self->bystander);
}

/* Nobody has to wait for a VMM that is stopped, and it gets its Quote later. */
TEST_F_TIMEOUT(pause, stop_while_slow, 240)
{
	struct vmm first, second;

	if (!is_slow(&self->bystander))
		SKIP(return, "The TDX module is too fast");

	vmm_create(&first, VMM_FINISH);
	vmm_create(&second, VMM_FINISH);
	vmm_go(&first);
	wait_for_begun_quote(&self->bystander);
	vmm_go(&second);
	vmm_kill(&second, SIGSTOP);
	vmm_kill(&first, SIGSTOP);
	TEST_ASSERT(in_the_making(first.req), "It is too late");

	/* What is begun is brought to an end. What is waiting has gone out of the way. */
	get_quote(&self->bystander, 0);
	wait_for_quote(first.req);
	sleep(stop_seconds);
	get_quote(&self->bystander, 0);
	TEST_ASSERT(in_the_making(second.req), "It was not stopped");

	vmm_kill(&second, SIGCONT);
	vmm_kill(&first, SIGCONT);
	assert_exits(&first, 0);
	assert_exits(&second, 0);
	vmm_free(&first);
	vmm_free(&second);
}

TEST_F_TIMEOUT(pause, stop_while_fast, 240)
{
	struct vmm vmm;
	int i;

	if (is_slow(&self->bystander))
		SKIP(return, "The TDX module is too slow for many rounds");

	for (i = 0; i < NR_KILLS; i++) {
		vmm_start(&vmm, VMM_FINISH);
		sleep_into_quote(&self->bystander, &vmm);
		vmm_kill(&vmm, SIGSTOP);
		get_quote(&self->bystander, 0);
		vmm_kill(&vmm, SIGCONT);
		assert_exits(&vmm, 0);
		vmm_free(&vmm);
	}
}

/* The same while the TDX module has begun and is busy: the Quote is not dropped. */
TEST_F_TIMEOUT(pause, stop_while_begun_and_busy, 120)
{
	struct vmm vmm;

	if (!write_fault("clear"))
		SKIP(return, "The TDX module cannot be told to be busy");

	start_vmm_with_busy_module(&vmm, VMM_FINISH);
	vmm_kill(&vmm, SIGSTOP);
	usleep(500000);
	TEST_ASSERT_EQ(module_status("quotes_running"), 1);
	write_fault("clear");
	wait_for_quote(vmm.req);
	wait_for_module("quotes_running", 0);

	vmm_kill(&vmm, SIGCONT);
	assert_exits(&vmm, 0);
	vmm_free(&vmm);
}

/*
 * CPUs come and go
 */
FIXTURE(cpus)
{
	struct quote_td td;
	struct quote_td bystander;
};

FIXTURE_SETUP(cpus)
{
	bystander_create(&self->bystander);
	td_create(&self->td, create_buf_file());
}

FIXTURE_TEARDOWN(cpus)
{
	td_free(&self->td);
	check_harmless(&self->bystander);
}

/*
 * Requests that wait for a module which makes one Quote at a time do not queue up, they look for it
 * at intervals that are shorter than the pause here. Without it, who is done could be the next one
 * to be served time after time, until the others have waited for too long.
 */
static void *quotes_thread(void *arg)
{
	struct thread *t = arg;

	while (!READ_ONCE(t->stop)) {
		set_request(t->td, t->vcpu);
		run_vcpu(t->td, t->vcpu);
		check_quote(t->td, t->vcpu);
		t->nr_rounds++;
		if (is_slow(t->td))
			usleep(2000);
	}

	return NULL;
}

/* Returns whether the CPU is as it should be. It may be the last one that has a TD's key. */
static bool set_cpu_online(int cpu, bool online)
{
	char path[64];
	int fd, r;

	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/online", cpu);
	fd = open(path, O_WRONLY);
	if (fd < 0)
		return false;

	r = write(fd, online ? "1" : "0", 1);
	TEST_ASSERT(r == 1 || (!online && errno == EBUSY), "CPU %d online=%d: errno %d", cpu,
		    online, errno);
	close(fd);
	return r == 1;
}

TEST_F_TIMEOUT(cpus, come_and_go, 240)
{
	struct quote_td *td = &self->td;
	struct thread threads[MAX_VCPUS] = {};
	long nr_cpus = sysconf(_SC_NPROCESSORS_CONF);
	int i, cpu, nr_gone = 0;

	if (nr_cpus < 2)
		SKIP(return, "There is one CPU only");

	for (i = 0; i < td->nr_vcpus; i++) {
		threads[i].td = td;
		threads[i].vcpu = i;
		start_thread(&threads[i], quotes_thread);
	}

	for (i = 0; i < NR_OFFLINES; i++) {
		for (cpu = 0; cpu < nr_cpus; cpu++) {
			if (!set_cpu_online(cpu, false))
				continue;
			nr_gone++;
			usleep(random() % (td->us + 1));
			get_quote(&self->bystander, 0);
			TEST_ASSERT(set_cpu_online(cpu, true), "CPU %d does not come back", cpu);
		}
	}

	for (i = 0; i < td->nr_vcpus; i++) {
		WRITE_ONCE(threads[i].stop, true);
		pthread_join(threads[i].thread, NULL);
		ksft_print_msg("vCPU %d: %lu Quotes\n", i, threads[i].nr_rounds);
		TEST_ASSERT(threads[i].nr_rounds, "No Quote");
	}
	if (!nr_gone)
		SKIP(return, "No CPU can be taken offline");
	ksft_print_msg("%d times a CPU was gone\n", nr_gone);
}

/* For what happens to the machine meanwhile */
static void __noreturn make_quotes_for_ever(void)
{
	struct thread threads[MAX_VCPUS] = {};
	struct quote_td td;
	int i;

	td_create(&td, create_buf_file());
	for (i = 0; i < td.nr_vcpus; i++) {
		threads[i].td = &td;
		threads[i].vcpu = i;
		start_thread(&threads[i], quotes_thread);
	}

	for (;;)
		pause();
}

static void assert_quotes_in_kernel(void)
{
	struct kvm_vm *vm = vm_create_barebones_type(KVM_X86_TDX_VM);
	struct kvm_tdx_capabilities *caps = vm_tdx_get_capabilities(vm);

	TEST_ASSERT(!caps->user_tdvmcallinfo_1_r11, "Quotes are made in userspace");
	free(caps);
	kvm_vm_free(vm);
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvm_has_tdx());
	assert_quotes_in_kernel();

	if (argc > 1 && !strcmp(argv[1], "-e"))
		make_quotes_for_ever();

	if (argc > 2 && !strcmp(argv[1], "-s")) {
		stop_seconds = atoi_positive("Seconds", argv[2]);
		argv[2] = argv[0];
		argv += 2;
		argc -= 2;
	}

	return test_harness_run(argc, argv);
}
