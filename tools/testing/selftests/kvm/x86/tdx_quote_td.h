/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A TD that asks for Quotes, and tdxsim's debugfs to have a TDX module fail: for tests
 * that only a software TDX module can take part in.
 */
#ifndef SELFTEST_KVM_TDX_QUOTE_TD_H
#define SELFTEST_KVM_TDX_QUOTE_TD_H

#include <linux/sizes.h>
#include <fcntl.h>
#include <unistd.h>

#include "kselftest.h"
#include "kvm_util.h"
#include "tdx.h"
#include "tdx_proxy.h"
#include "tdx_quote.h"
#include "test_util.h"

#define DEBUGFS		"/sys/kernel/debug/tdxsim/"

#define BUF_SIZE	((u64)SZ_64K)
#define UNTOUCHED	0xa5

/* The length of a Quote, with the module's options as they are by default */
#define QUOTE_LEN	8192

struct quote_td {
	struct kvm_vm *vm;
	struct tdx_proxy vcpu;
	struct tdx_quote_req *req;
	gpa_t gpa;
	u8 report[TDX_REPORT_SIZE];
};

static inline void write_file(const char *name, const void *text, size_t len)
{
	int fd = open(name, O_WRONLY);
	ssize_t ret;

	TEST_ASSERT(fd >= 0, "open(%s) failed, errno %d", name, errno);
	/* Files of sysfs take a page at a time. */
	for (; len; text += ret, len -= ret) {
		ret = write(fd, text, len);
		TEST_ASSERT(ret > 0, "write() to %s returned %zd, errno %d", name, ret, errno);
	}
	close(fd);
}

/* A fault of tdxsim, see Documentation/tdxsim.rst; "clear" ends all of them. */
static inline void inject(const char *spec)
{
	write_file(DEBUGFS "fault", spec, strlen(spec));
}

/* A number from tdxsim's status file */
static inline long status_of(const char *name)
{
	FILE *file = fopen(DEBUGFS "status", "r");
	char line[128];
	long val = 0;

	TEST_ASSERT(file, "No file %s", DEBUGFS "status");
	while (fgets(line, sizeof(line), file)) {
		if (!strncmp(line, name, strlen(name)) && line[strlen(name)] == ' ')
			val = atol(line + strlen(name));
	}
	fclose(file);

	return val;
}

/* A TD with a TDREPORT */
static inline void quote_td_create(struct quote_td *td)
{
	const u8 reportdata[TDX_REPORTDATA_SIZE] = {};
	gva_t buf;

	td->vm = __vm_tdx_create_with_proxies(&td->vcpu, 1);
	buf = vm_alloc_shared(td->vm, BUF_SIZE, KVM_UTIL_MIN_VADDR, MEM_REGION_TEST_DATA);
	td->req = addr_gva2hva(td->vm, buf);
	td->gpa = addr_gva2gpa(td->vm, buf);
	vm_tdx_launch(td->vm);

	tdx_proxy_get_report(&td->vcpu, reportdata, td->report);
}

/* The vCPU will ask for a Quote when it runs. */
static inline void make_request(struct quote_td *td)
{
	memset(td->req, UNTOUCHED, BUF_SIZE);
	tdx_quote_req_init(td->req, td->report);
	tdx_proxy_set_tdvmcall(&td->vcpu, TDVMCALL_GET_QUOTE, td->gpa | TDX_SHARED_BIT, BUF_SIZE);
}

static inline bool all_are(const u8 *p, u8 byte, size_t len)
{
	while (len && *p == byte) {
		p++;
		len--;
	}

	return !len;
}

/* Is the answer that of a Quote with @len bytes, or, if that is 0, SERVICE_UNAVAILABLE? */
static inline bool answer_ok(struct quote_td *td, u32 len)
{
	struct tdx_quote_req *req = td->req;
	u32 used = len > TDX_REPORT_SIZE ? len : TDX_REPORT_SIZE;
	u64 status = len ? TDX_QUOTE_STATUS_SUCCESS : TDX_QUOTE_STATUS_SERVICE_UNAVAILABLE;
	u64 r10 = td->vcpu.cmd->regs.r10;

	if (r10 != TDVMCALL_STATUS_SUCCESS || req->status != status || req->out_len != len) {
		ksft_print_msg("R10 0x%lx, status 0x%lx, out_len %u\n", r10, req->status,
			       req->out_len);
		return false;
	}
	if (req->version != 1 || req->in_len != TDX_REPORT_SIZE) {
		ksft_print_msg("version or in_len have changed\n");
		return false;
	}
	if (!len && memcmp(req->data, td->report, TDX_REPORT_SIZE)) {
		ksft_print_msg("There is no Quote, and the TDREPORT has changed\n");
		return false;
	}
	if (!all_are(req->data + used, UNTOUCHED, BUF_SIZE - sizeof(*req) - used)) {
		ksft_print_msg("Bytes behind the Quote have changed\n");
		return false;
	}

	return true;
}

static inline bool get_quote(struct quote_td *td, u32 len)
{
	make_request(td);
	tdx_proxy_run_without_exit(&td->vcpu);
	return answer_ok(td, len);
}

#endif /* SELFTEST_KVM_TDX_QUOTE_TD_H */
