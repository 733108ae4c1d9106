// SPDX-License-Identifier: GPL-2.0-only
/*
 * A Quote that there is no memory for
 *
 * By fault injection the first allocation fails that is made for a GetQuote, the next time
 * the second one, and so on until none is left to fail. Each time the TD has to be told
 * that there is no Quote to be had for now, or to get one.
 *
 * Takes a kernel with CONFIG_FAILSLAB and CONFIG_FAIL_PAGE_ALLOC.
 */
#include <fcntl.h>
#include <linux/sizes.h>

#include "kselftest.h"
#include "kvm_util.h"
#include "tdx.h"
#include "tdx_proxy.h"
#include "tdx_quote.h"
#include "test_util.h"

#define NR_WARM_UP	3

/* At least: the TDREPORT, the Quote, and the list of the Quote's pages */
#define MIN_ALLOCS	3

#define UNTOUCHED	0xa5

#define BUF_SLOT	10
#define BUF_GPA		SZ_4G
#define BUF_SIZE	((u64)SZ_8M)

struct quote_td {
	struct tdx_proxy vcpu;
	struct tdx_quote_req *req;
	u64 size;
	u8 report[TDX_REPORT_SIZE];
};

static void inject(const char *file, const char *val)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "/sys/kernel/debug/%s", file);
	fd = open(path, O_WRONLY);
	__TEST_REQUIRE(fd >= 0, "No fault injection: %s", path);
	TEST_ASSERT(write(fd, val, strlen(val)) == strlen(val), "%s, errno %d", path, errno);
	close(fd);
}

/* Have all kinds of allocations fail, and do not take that for something to report. */
static void set_up_injection(void)
{
	inject("failslab/ignore-gfp-wait", "N");
	inject("failslab/verbose", "0");
	inject("fail_page_alloc/ignore-gfp-wait", "N");
	inject("fail_page_alloc/ignore-gfp-highmem", "N");
	inject("fail_page_alloc/min-order", "0");
	inject("fail_page_alloc/verbose", "0");
}

static void set_fail_nth(int fd, int nth)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%d", nth);

	TEST_ASSERT(pwrite(fd, text, len, 0) == len, "fail-nth=%d, errno %d", nth, errno);
}

static int get_fail_nth(int fd)
{
	char text[16] = "";

	TEST_ASSERT(pread(fd, text, sizeof(text) - 1, 0) > 0, "fail-nth, errno %d", errno);
	return atoi(text);
}

static void set_request(struct quote_td *td)
{
	memset(td->req, UNTOUCHED, td->size);
	tdx_quote_req_init(td->req, td->report);
	tdx_proxy_set_tdvmcall(&td->vcpu, TDVMCALL_GET_QUOTE, BUF_GPA | TDX_SHARED_BIT, td->size);
}

/* Whatever KVM has no memory for is there when it is called again. */
static void run_with_failure(struct quote_td *td)
{
	struct ucall uc;
	int r;

	r = __vcpu_run(td->vcpu.vcpu);
	if (r == -1 && errno == ENOMEM)
		r = __vcpu_run(td->vcpu.vcpu);

	TEST_ASSERT(!r, "KVM_RUN returned %d, errno %d", r, errno);
	TEST_ASSERT_EQ(get_ucall(td->vcpu.vcpu, &uc), UCALL_SYNC);
	TEST_ASSERT_EQ(td->vcpu.cmd->regs.rax, 0);
}

static bool check_answer(struct quote_td *td)
{
	struct tdx_quote_req *req = td->req;

	TEST_ASSERT_EQ(td->vcpu.cmd->regs.r10, TDVMCALL_STATUS_SUCCESS);

	if (req->status == TDX_QUOTE_STATUS_SUCCESS) {
		TEST_ASSERT(req->out_len, "An empty Quote");
		return true;
	}

	TEST_ASSERT_EQ(req->status, TDX_QUOTE_STATUS_SERVICE_UNAVAILABLE);
	TEST_ASSERT_EQ(req->out_len, 0);
	TEST_ASSERT(!memcmp(req->data, td->report, TDX_REPORT_SIZE),
		    "The TDREPORT was overwritten");
	return false;
}

static void get_quote(struct quote_td *td)
{
	set_request(td);
	tdx_proxy_run_without_exit(&td->vcpu);
	TEST_ASSERT(check_answer(td), "There is no Quote");
}

/* Returns whether there was an allocation to fail. */
static bool get_quote_with_failure(struct quote_td *td, int fail_nth, int nth, int *nr_refused)
{
	int left;

	set_request(td);
	set_fail_nth(fail_nth, nth);
	run_with_failure(td);
	left = get_fail_nth(fail_nth);
	set_fail_nth(fail_nth, 0);

	if (!check_answer(td)) {
		TEST_ASSERT(!left, "Refused, and nothing has failed");
		(*nr_refused)++;
	}

	return !left;
}

int main(int argc, char *argv[])
{
	struct quote_td td = { .size = BUF_SIZE };
	const u8 reportdata[TDX_REPORTDATA_SIZE] = {};
	struct kvm_vm *vm;
	int fail_nth, nth, i, nr_refused = 0;

	TEST_REQUIRE(kvm_has_tdx());
	set_up_injection();

	vm = vm_tdx_create_with_proxies(&td.vcpu, 1);
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, BUF_GPA, BUF_SLOT,
				    BUF_SIZE / SZ_4K, 0);

	td.req = addr_gpa2hva(vm, BUF_GPA);
	tdx_proxy_get_report(&td.vcpu, reportdata, td.report);
	for (i = 0; i < NR_WARM_UP; i++) {
		get_quote(&td);
		td.size = align_up(sizeof(*td.req) + td.req->out_len, SZ_4K);
	}

	fail_nth = open("/proc/thread-self/fail-nth", O_RDWR);
	TEST_ASSERT(fail_nth >= 0, "No fail-nth, errno %d", errno);
	for (nth = 1; get_quote_with_failure(&td, fail_nth, nth, &nr_refused); nth++)
		;
	close(fail_nth);

	ksft_print_msg("%d allocations failed, and %d requests for it\n", nth - 1, nr_refused);
	TEST_ASSERT(nr_refused >= MIN_ALLOCS, "There are allocations that have not failed");

	get_quote(&td);
	kvm_vm_free(vm);
	return 0;
}
