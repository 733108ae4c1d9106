/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a TD needs for TDG.VP.VMCALL<GetQuote>: the message, see the GHCI, and a TDREPORT
 */
#ifndef SELFTEST_KVM_TDX_QUOTE_REQ_H
#define SELFTEST_KVM_TDX_QUOTE_REQ_H

#include <linux/sizes.h>

#include "tdx_proxy.h"
#include "test_util.h"

struct quote_req {
	u64 version;
	u64 status;
	u32 in_len;
	u32 out_len;
	u8 data[];
};

#define QUOTE_STATUS_SUCCESS			0ULL
#define QUOTE_STATUS_ERROR			0x8000000000000000ULL
#define QUOTE_STATUS_SERVICE_UNAVAILABLE	0x8000000000000001ULL

#define REPORT_SIZE	1024
#define REPORTDATA_SIZE	64
#define MAX_IN_LEN	(SZ_4K - sizeof(struct quote_req))

/*
 * A TD can have a TDREPORT made only in private memory: in the page @private, which has
 * the REPORTDATA in its second KB. Have it copied @to shared memory. Both are the TD's.
 */
static inline void get_report(struct tdx_proxy *td, gva_t private, gpa_t private_gpa, gva_t to)
{
	const struct tdcall_regs regs = {
		.rax = TDG_MR_REPORT,
		.rcx = private_gpa,
		.rdx = private_gpa + REPORT_SIZE,
	};

	tdx_proxy_set_tdcall(td, &regs);
	td->cmd->after = (struct tdx_proxy_copy) {
		.to = to,
		.from = private,
		.size = REPORT_SIZE,
	};
	tdx_proxy_run_without_exit(td);
	TEST_ASSERT_EQ(td->cmd->regs.rax, 0);
}

#endif /* SELFTEST_KVM_TDX_QUOTE_REQ_H */
