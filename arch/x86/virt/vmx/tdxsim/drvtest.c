// SPDX-License-Identifier: GPL-2.0
/*
 * tdxsim: how the guest's driver (tdx-guest) gets on with a VMM
 *
 * The driver runs in TDs, and there is none here that Linux runs in. So take it in
 * as it is, with a VMM of our own behind its GetQuote, and with seconds that pass at
 * once.
 */
#include <linux/delay.h>
#include <linux/io.h>
#include <linux/kernel.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/set_memory.h>
#include <linux/slab.h>
#include <linux/sockptr.h>
#include <linux/string.h>
#include <linux/tsm-mr.h>
#include <linux/tsm.h>
#include <linux/uaccess.h>
#include <asm/cpu_device_id.h>
#include <asm/tdx.h>
#include <uapi/linux/tdx-guest.h>

#include "result.h"

/* Kernels before the series' patch that shares the layout are built as well. */
#ifdef TDX_QUOTE_VERSION

#define NEVER		(~0U)

#define STATUS_ERROR		0x8000000000000000ULL
#define STATUS_UNAVAILABLE	0x8000000000000001ULL

static struct {
	/* How it is to behave: seconds until all is done, or a signal comes */
	unsigned int ready_after, signal_after;
	u64 ret, status;
	u32 out_len;

	/* What it has seen */
	unsigned int calls, seconds;
	struct tdx_quote_req *req, header;
	u8 reportdata;
	size_t size;
} vmm;

static void vmm_proceed(void)
{
	if (vmm.seconds < vmm.ready_after) {
		vmm.req->status = TDX_QUOTE_STATUS_IN_FLIGHT;
		return;
	}
	vmm.req->out_len = vmm.out_len;
	vmm.req->data[0] = 'Q';
	vmm.req->status = vmm.status;
}

static u64 vmm_get_quote(u8 *buf, size_t size)
{
	vmm.calls++;
	vmm.req = (void *)buf;
	vmm.header = *vmm.req;
	vmm.reportdata = vmm.req->data[128];
	vmm.size = size;
	if (!vmm.ret)
		vmm_proceed();
	return vmm.ret;
}

static unsigned long vmm_sleep(unsigned int ms)
{
	vmm.seconds += ms / MSEC_PER_SEC;
	if (vmm.seconds >= vmm.signal_after)
		return 1;
	vmm_proceed();
	return 0;
}

static int make_report(u8 *reportdata, u8 *report)
{
	return 0;
}

static int extend_rtmr(u8 index, u8 *data)
{
	return 0;
}

#define msleep_interruptible(ms)		vmm_sleep(ms)
#define tdx_hcall_get_quote(buf, size)		vmm_get_quote(buf, size)
#define tdx_mcall_get_report0(data, report)	make_report(data, report)
#define tdx_mcall_extend_rtmr(index, data)	extend_rtmr(index, data)
#undef module_init
#undef module_exit
#undef __exit
#define __exit
#define module_init(fn)
#define module_exit(fn)

#undef pr_fmt
#include "../../../../../drivers/virt/coco/tdx-guest/tdx-guest.c"

/* Ask the driver for a Quote. Returns what it returns, and checks the Quote if there is one. */
static int request(unsigned int ready_after, u64 status, u32 out_len)
{
	struct tsm_report report = { .desc.inblob_len = TDX_REPORTDATA_LEN };
	int ret;

	vmm.ready_after = ready_after;
	vmm.status = status;
	vmm.out_len = out_len;
	vmm.seconds = 0;
	report.desc.inblob[0] = 'R';

	ret = tdx_report_new(&report, NULL);
	if (!ret) {
		result("the driver has the whole Quote", report.outblob_len, out_len);
		result("it begins as the VMM has it", report.outblob[0], 'Q');
	}
	kvfree(report.outblob);
	return ret;
}

static void test_times(void)
{
	result("Quote at once", request(0, 0, 100), 0);
	result("no time has passed", vmm.seconds, 0);
	result("Quote after 1 s", request(1, 0, 100), 0);
	result("1 s has passed", vmm.seconds, 1);
	result("Quote in the last second", request(getquote_timeout, 0, 100), 0);
	result("all of the time has passed", vmm.seconds, getquote_timeout);

	result("no Quote", request(NEVER, 0, 100), -ETIMEDOUT);
	result("it was waited for as long as it should", vmm.seconds, getquote_timeout);
	vmm.calls = 0;
	result("the buffer is still the VMM's", request(0, 0, 100), -EBUSY);
	result("the VMM is not asked", vmm.calls, 0);
	vmm.req->status = 0;

	vmm.signal_after = 3;
	result("a signal", request(NEVER, 0, 100), -EINTR);
	vmm.req->status = 0;
	vmm.signal_after = NEVER;
}

static void test_message(void)
{
	struct tsm_report report = { .desc.inblob_len = TDX_REPORTDATA_LEN - 1 };

	result("Quote", request(0, 0, 100), 0);
	result("version", vmm.header.version, 1);
	result("status", vmm.header.status, 0);
	result("in_len", vmm.header.in_len, 1024);
	result("out_len", vmm.header.out_len, 0);
	result("size", vmm.size, SZ_128K);
	result("REPORTDATA", vmm.reportdata, 'R');

	result("largest Quote", request(0, 0, SZ_128K - 24), 0);
	result("Quote of a byte more", request(0, 0, SZ_128K - 23), -EFBIG);
	result("ERROR", request(0, STATUS_ERROR, 0), -EIO);
	result("SERVICE_UNAVAILABLE", request(0, STATUS_UNAVAILABLE, 0), -EIO);
	result("SERVICE_UNAVAILABLE later", request(2, STATUS_UNAVAILABLE, 0), -EIO);
	vmm.ret = TDVMCALL_STATUS_INVALID_OPERAND;
	result("the call is refused", request(0, 0, 100), -EIO);
	vmm.ret = 0;
	result("REPORTDATA that are too short", tdx_report_new(&report, NULL), -EINVAL);
}

void test_guest_driver(void)
{
	quote_data = kvzalloc(GET_QUOTE_BUF_SIZE, GFP_KERNEL);
	tdx_report_buf = kzalloc(TDX_REPORT_LEN, GFP_KERNEL);
	vmm.signal_after = NEVER;

	result("memory for the guest's driver", quote_data && tdx_report_buf, true);
	if (quote_data && tdx_report_buf) {
		test_times();
		test_message();
	}

	kfree(tdx_report_buf);
	kvfree(quote_data);
}

#else

void test_guest_driver(void)
{
}

#endif
