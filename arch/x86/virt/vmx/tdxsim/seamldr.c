// SPDX-License-Identifier: GPL-2.0
/*
 * tdxsim: the P-SEAMLDR, which puts a new module in the place of one that was
 * shut down. The image is not looked into: the new module is this one again,
 * with the options as they are then.
 */
#include <linux/cpumask.h>
#include <linux/percpu.h>
#include <linux/string.h>

#include "tdxsim.h"

/* SEAMLDR_PARAMS */
#define MAX_SIG_PAGES		1
#define MAX_MODULE_PAGES	496

enum { SCENARIO_LOAD, SCENARIO_UPDATE };

struct seamldr_params {
	u32 version;
	u32 scenario;
	u64 sig_pages[MAX_SIG_PAGES];
	u8 reserved[104];
	u64 nr_module_pages;
	u64 module_pages[MAX_MODULE_PAGES];
} __packed;

static_assert(sizeof(struct seamldr_params) == PAGE_SIZE);

/* SEAMLDR_INFO */
struct seamldr_info {
	u32 version;
	u32 attributes;
	u32 vendor_id;
	u32 build_date;
	u16 build_num;
	u16 minor_version;
	u16 major_version;
	u16 update_version;
	u32 acm_x2apicid;
	u32 nr_remaining_updates;
	u8 seam_info[128];
	u8 seam_ready;
	u8 seam_debug;
	u8 p_seam_ready;
	u8 reserved[93];
} __packed;

static_assert(sizeof(struct seamldr_info) == 256);

#define VENDOR_INTEL		0x8086
#define BUILD_DATE		20260101	/* as decimal digits */
#define NR_REMAINING_UPDATES	100		/* never counted down */

/* CPUs that called SEAMLDR.INSTALL; from the first to the last of them there is no module. */
static DEFINE_PER_CPU(bool, installed);
static unsigned int nr_installed;

bool tdxsim_module_is_loaded(void)
{
	return !READ_ONCE(nr_installed);
}

/* RCX: where to put SEAMLDR_INFO. Its version is P-SEAMLDR's own, which is not updated. */
u64 tdxsim_seamldr_info(struct pt_regs *regs, u8 version)
{
	struct seamldr_info info = {
		.vendor_id = VENDOR_INTEL,
		.build_date = BUILD_DATE,
		.major_version = 2,
		.nr_remaining_updates = NR_REMAINING_UPDATES,
		.seam_ready = tdxsim_module_is_loaded(),
		.p_seam_ready = 1,
	};

	if (!tdxsim_hpa_is_memory(regs->cx, sizeof(info), sizeof(info)))
		return ST_SEAMLDR_EBADPARAM;

	memcpy(tdxsim_va(regs->cx), &info, sizeof(info));
	return ST_SUCCESS;
}

static bool pages_ok(const u64 *pages, u64 nr)
{
	u64 i;

	for (i = 0; i < nr; i++) {
		if (!tdxsim_hpa_is_memory(pages[i], PAGE_SIZE, PAGE_SIZE))
			return false;
	}

	return true;
}

static u64 check_params(const struct seamldr_params *params)
{
	if (params->version || memchr_inv(params->reserved, 0, sizeof(params->reserved)))
		return ST_SEAMLDR_EBADPARAM;
	if (params->scenario != SCENARIO_LOAD && params->scenario != SCENARIO_UPDATE)
		return ST_SEAMLDR_EBADPARAM;
	if (!params->nr_module_pages || params->nr_module_pages > MAX_MODULE_PAGES)
		return ST_SEAMLDR_EBADPARAM;
	if (!pages_ok(params->sig_pages, MAX_SIG_PAGES) ||
	    !pages_ok(params->module_pages, params->nr_module_pages))
		return ST_SEAMLDR_EBADPARAM;
	if (params->scenario == SCENARIO_UPDATE && !tdxsim_sys.handoff)
		return ST_SEAMLDR_EBADHANDOFF;

	return ST_SUCCESS;
}

/* RCX: SEAMLDR_PARAMS. Called on every CPU; the last one gets the new module loaded. */
u64 tdxsim_seamldr_install(struct pt_regs *regs, u8 version)
{
	const struct seamldr_params *params;
	u64 status;
	int cpu;

	if (this_cpu_read(installed))
		return ST_SEAMLDR_EBADCALL;
	if (!tdxsim_hpa_is_memory(regs->cx, PAGE_SIZE, PAGE_SIZE))
		return ST_SEAMLDR_EBADPARAM;

	params = tdxsim_va(regs->cx);
	status = check_params(params);
	if (status)
		return status;

	this_cpu_write(installed, true);
	WRITE_ONCE(nr_installed, nr_installed + 1);
	if (nr_installed < num_present_cpus())
		return ST_SUCCESS;

	if (params->scenario == SCENARIO_LOAD)
		tdxsim_tds_drop();
	tdxsim_module_load(params->scenario == SCENARIO_UPDATE);

	for_each_possible_cpu(cpu)
		per_cpu(installed, cpu) = false;
	WRITE_ONCE(nr_installed, 0);
	return ST_SUCCESS;
}
