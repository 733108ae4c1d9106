// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a TD is answered
 *
 * Runs a TD that calls SetupEventNotifyInterrupt and GetQuote, and prints what came
 * back and how often userspace was asked, each as "# name=value" for a table. The
 * selftests of the series test; this one shows.
 */
#include <linux/sizes.h>

#include "kselftest.h"
#include "kvm_util.h"
#include "tdx.h"
#include "tdx_proxy.h"
#include "tdx_quote.h"
#include "test_util.h"

#define VECTOR		64
#define QUOTE_BUF_SIZE	SZ_64K

static unsigned int nr_exits;

/* Do the call. If it gets to userspace, be a VMM that accepts it. */
static u64 call(struct tdx_proxy *td, u64 function, u64 r12, u64 r13)
{
	tdx_proxy_set_tdvmcall(td, function, r12, r13);
	while (!tdx_proxy_run(td)) {
		TEST_ASSERT_KVM_EXIT_REASON(td->vcpu, KVM_EXIT_TDX);
		TEST_ASSERT_EQ(td->vcpu->run->tdx.nr, function);
		td->vcpu->run->tdx.unknown.ret = TDVMCALL_STATUS_SUCCESS;
		nr_exits++;
	}

	return td->cmd->regs.r10;
}

int main(int argc, char *argv[])
{
	struct kvm_tdx_capabilities *caps;
	struct tdx_quote_req *req;
	struct tdx_proxy td;
	struct kvm_vm *vm;
	u8 reportdata[TDX_REPORTDATA_SIZE] = {}, report[TDX_REPORT_SIZE];
	gpa_t buf_gpa;
	gva_t buf;
	u64 notify, quote;

	TEST_REQUIRE(kvm_has_tdx());

	vm = __vm_tdx_create_with_proxies(&td, 1);
	buf = vm_alloc_shared(vm, QUOTE_BUF_SIZE, KVM_UTIL_MIN_VADDR, MEM_REGION_TEST_DATA);
	req = addr_gva2hva(vm, buf);
	buf_gpa = addr_gva2gpa(vm, buf);
	vm_tdx_launch(vm);

	caps = vm_tdx_get_capabilities(vm);
	ksft_print_msg("user_tdvmcallinfo_1_r11=0x%llx\n", caps->user_tdvmcallinfo_1_r11);

	notify = call(&td, TDVMCALL_SETUP_EVENT_NOTIFY_INTERRUPT, VECTOR, 0);
	ksft_print_msg("set_event_notify=0x%lx\n", notify);

	tdx_proxy_get_report(&td, reportdata, report);
	memset(req, 0, QUOTE_BUF_SIZE);
	tdx_quote_req_init(req, report);
	quote = call(&td, TDVMCALL_GET_QUOTE, buf_gpa | TDX_SHARED_BIT, QUOTE_BUF_SIZE);
	ksft_print_msg("get_quote=0x%lx\n", quote);
	ksft_print_msg("quote_status=0x%lx\n", req->status);
	ksft_print_msg("quote_len=%u\n", req->out_len);
	ksft_print_msg("exits=%u\n", nr_exits);

	free(caps);
	kvm_vm_free(vm);
	return 0;
}
