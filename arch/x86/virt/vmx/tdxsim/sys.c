// SPDX-License-Identifier: GPL-2.0
/*
 * tdxsim: life of the module as a whole, from TDH.SYS.INIT to TDH.SYS.DISABLE.
 */
#include <linux/array_size.h>
#include <linux/bitfield.h>
#include <linux/bitmap.h>
#include <linux/cpumask.h>
#include <linux/string.h>
#include <asm/topology.h>

#include "tdxsim.h"

/* Version of the state that TDH.SYS.SHUTDOWN hands over to TDH.SYS.UPDATE. */
#define MODULE_HV	1
#define MIN_UPDATE_HV	0

struct tdxsim_sys tdxsim_sys;

void tdxsim_module_load(bool keep_handoff)
{
	struct tdxsim_lock lock = tdxsim_sys.lock;
	int cpu;

	if (!keep_handoff) {
		memset(&tdxsim_sys, 0, sizeof(tdxsim_sys));
		tdxsim_sys.lock = lock;		/* P-SEAMLDR holds it */
		memset(tdxsim_stats.pages, 0, sizeof(tdxsim_stats.pages));
	} else {
		tdxsim_sys.update_version++;
	}

	tdxsim_sys.state = SYS_INIT_PENDING;
	atomic_set(&tdxsim_sys.nr_lps, 0);
	for_each_possible_cpu(cpu)
		per_cpu(tdxsim_lp, cpu).lp_init = false;
}

/*
 * What can be done with the extensions after TDH.SYS.CONFIG or UPDATE. The
 * memory that they have survives an update; a new module may need more.
 */
static void enable_features(u64 features)
{
	bool quoting = features & TDXSIM_FEATURE_QUOTING;

	tdxsim_sys.features = features;
	tdxsim_sys.ext_pages_needed = quoting ? tdxsim_opt(ext_pages) : 0;
	if (!quoting)
		tdxsim_sys.ext_state = EXT_OFF;
	else if (tdxsim_sys.ext_pages < tdxsim_sys.ext_pages_needed)
		tdxsim_sys.ext_state = EXT_NEEDS_MEM;
	else
		tdxsim_sys.ext_state = EXT_NEEDS_INIT;
	tdxsim_sys.quote_state = quoting ? QUOTE_NEEDS_INIT : QUOTE_OFF;
}

/*
 * Version 1 of CONFIG and UPDATE came with the add-on features: a module that
 * offers none does not know it. Extensions have no bit of their own to ask
 * for; they come with the feature that needs them.
 */
static u64 check_features_asked_for(struct pt_regs *regs, u8 version)
{
	u64 addons = tdxsim_sys.offered & TDXSIM_FEATURE_QUOTING;

	if (!version)
		return ST_SUCCESS;
	if (!addons)
		return tdxsim_status(ST_OPERAND_INVALID, OPID_RAX);
	if (regs->r9 & ~addons)
		return tdxsim_status(ST_OPERAND_INVALID, OPID_R9);

	return ST_SUCCESS;
}

static bool all_lps_initialized(void)
{
	return atomic_read(&tdxsim_sys.nr_lps) >= num_present_cpus();
}

/* RCX: attributes, all reserved. */
u64 tdxsim_sys_init(struct pt_regs *regs, u8 version)
{
	if (regs->cx)
		return tdxsim_status(ST_OPERAND_INVALID, OPID_RCX);

	tdxsim_sys.offered = TDXSIM_FEATURE_TD_PRESERVING | TDXSIM_FEATURE_NO_RBP_MOD |
			     TDXSIM_FEATURE_TOPOLOGY_ENUM;
	if (tdxsim_opt(quoting))
		tdxsim_sys.offered |= TDXSIM_FEATURE_EXT | TDXSIM_FEATURE_QUOTING;

	tdxsim_sys.state = SYS_INIT_DONE;
	return ST_SUCCESS;
}

u64 tdxsim_sys_lp_init(struct pt_regs *regs, u8 version)
{
	struct tdxsim_lp *lp = this_cpu_ptr(&tdxsim_lp);

	regs->cx = 0;
	regs->dx = 0;
	regs->r8 = 0;

	if (lp->lp_init)
		return ST_SYS_LP_INIT_DONE;

	lp->lp_init = true;
	atomic_inc(&tdxsim_sys.nr_lps);
	return ST_SUCCESS;
}

/* R8 of TDH.SYS.CONFIG */
#define CONFIG_HKID	GENMASK_ULL(15, 0)

/* RCX: array of addresses of TDMR_INFO, RDX: how many, R8: KeyID, R9 (version 1): features. */
u64 tdxsim_sys_config(struct pt_regs *regs, u8 version)
{
	u16 hkid = FIELD_GET(CONFIG_HKID, regs->r8);
	u64 status;

	if (!all_lps_initialized())
		return ST_SYS_CONFIG_NOT_PENDING;

	status = check_features_asked_for(regs, version);
	if (status)
		return status;
	if (!tdxsim_hpa_is_memory(regs->cx, TDXSIM_MAX_TDMRS * sizeof(u64),
				  TDXSIM_MAX_TDMRS * sizeof(u64)))
		return tdxsim_status(ST_OPERAND_INVALID, OPID_RCX);
	if (!regs->dx || regs->dx > TDXSIM_MAX_TDMRS)
		return tdxsim_status(ST_OPERAND_INVALID, OPID_RDX);
	if ((regs->r8 & ~CONFIG_HKID) || !tdxsim_hkid_is_private(hkid))
		return tdxsim_status(ST_OPERAND_INVALID, OPID_R8);

	status = tdxsim_tdmrs_config(tdxsim_va(regs->cx), regs->dx);
	if (status)
		return status;

	tdxsim_sys.global_hkid = hkid;
	enable_features(version ? regs->r9 : 0);
	tdxsim_sys.state = SYS_CONFIG_DONE;
	return ST_SUCCESS;
}

u64 tdxsim_sys_key_config(struct pt_regs *regs, u8 version)
{
	unsigned int pkg = topology_logical_package_id(smp_processor_id());

	if (pkg >= TDXSIM_MAX_PKGS || test_and_set_bit(pkg, tdxsim_sys.key_pkgs))
		return ST_KEY_CONFIGURED;

	if (++tdxsim_sys.nr_key_pkgs == topology_max_packages())
		tdxsim_sys.state = SYS_READY;

	return ST_SUCCESS;
}

/* RCX: version of the state to hand over */
u64 tdxsim_sys_shutdown(struct pt_regs *regs, u8 version)
{
	if (regs->cx < MIN_UPDATE_HV || regs->cx > MODULE_HV)
		return tdxsim_status(ST_OPERAND_INVALID, OPID_RCX);

	tdxsim_quotes_drop();
	tdxsim_sys.ext_mem_next = 0;
	tdxsim_sys.ext_mem_steps.done = 0;
	tdxsim_sys.ext_init_steps.done = 0;
	tdxsim_sys.quote_init_steps.done = 0;
	tdxsim_sys.max_quote_size = 0;
	enable_features(0);

	tdxsim_sys.handoff = true;
	tdxsim_sys.state = SYS_SHUTDOWN;
	return ST_SUCCESS;
}

/* R9 (version 1): features */
u64 tdxsim_sys_update(struct pt_regs *regs, u8 version)
{
	u64 status;

	if (!all_lps_initialized())
		return ST_SYS_STATE_INCORRECT;
	if (!tdxsim_sys.handoff)
		return ST_SYS_INVALID_HANDOFF;

	status = check_features_asked_for(regs, version);
	if (status)
		return status;

	enable_features(version ? regs->r9 : 0);
	tdxsim_sys.handoff = false;
	tdxsim_sys.state = SYS_READY;
	return ST_SUCCESS;
}

/* Legal in any state: a host that goes down may not know how far it came. */
u64 tdxsim_sys_disable(struct pt_regs *regs, u8 version)
{
	if (tdxsim_step(&tdxsim_sys.disable_steps))
		return ST_INTERRUPTED_RESUMABLE;

	tdxsim_quotes_drop();
	tdxsim_tds_drop();
	tdxsim_sys.nr_tdmrs = 0;
	memset(tdxsim_stats.pages, 0, sizeof(tdxsim_stats.pages));
	tdxsim_sys.state = SYS_DISABLED;
	return ST_SUCCESS;
}

/*
 * Leaves that a VMM may configure. KVM takes the CPUID of a TD apart by this
 * list and refuses what is not on it. Leaf 0x80000008 has to be there for the
 * width of guest-physical addresses, which no bit below configures: KVM makes
 * a flag of TDH.MNG.INIT of it.
 */
const struct tdxsim_cpuid_config tdxsim_cpuid_configs[] = {
	/* Family, model, stepping; number of CPUs; features without VMX, SMX, x2APIC, OSXSAVE. */
	{ .leaf = 0x1, .subleaf = ~0u, .eax = 0x0fff3fff, .ebx = 0x00ff0000,
	  .ecx = 0x77dfff9f, .edx = 0xbfebfbff },
	{ .leaf = 0x4, .subleaf = 0, .eax = ~0u, .ebx = ~0u, .ecx = ~0u, .edx = 0x7 },
	{ .leaf = 0x4, .subleaf = 1, .eax = ~0u, .ebx = ~0u, .ecx = ~0u, .edx = 0x7 },
	{ .leaf = 0x4, .subleaf = 2, .eax = ~0u, .ebx = ~0u, .ecx = ~0u, .edx = 0x7 },
	{ .leaf = 0x4, .subleaf = 3, .eax = ~0u, .ebx = ~0u, .ecx = ~0u, .edx = 0x7 },
	{ .leaf = 0x7, .subleaf = 0, .ebx = 0x219c07a9, .ecx = 0x00400004, .edx = 0x10 },
	/* Topology */
	{ .leaf = 0x1f, .subleaf = 0, .eax = 0x1f, .ebx = 0xffff, .ecx = 0xffff },
	{ .leaf = 0x1f, .subleaf = 1, .eax = 0x1f, .ebx = 0xffff, .ecx = 0xffff },
	{ .leaf = 0x80000008, .subleaf = ~0u, .ebx = 0x200 },
};

const unsigned int tdxsim_nr_cpuid_configs = ARRAY_SIZE(tdxsim_cpuid_configs);

static u64 rd_features0(u64 *val)
{
	*val = tdxsim_sys.offered;
	return ST_SUCCESS;
}

static u64 rd_update_version(u64 *val)
{
	*val = tdxsim_sys.update_version;
	return ST_SUCCESS;
}

static u64 rd_nr_cpuid_configs(u64 *val)
{
	*val = tdxsim_nr_cpuid_configs;
	return ST_SUCCESS;
}

/* What features need is known when it was said which ones are wanted. */
static bool features_decided(void)
{
	return tdxsim_sys.state == SYS_CONFIG_DONE || tdxsim_sys.state == SYS_READY;
}

static u64 rd_ext_required(u64 *val)
{
	if (!features_decided())
		return ST_METADATA_FIELD_NOT_READABLE;

	*val = tdxsim_sys.ext_state != EXT_OFF;
	return ST_SUCCESS;
}

/* Pages that are still to be given. */
static u64 rd_ext_pages(u64 *val)
{
	if (!features_decided())
		return ST_METADATA_FIELD_NOT_READABLE;

	*val = tdxsim_sys.ext_pages_needed - min(tdxsim_sys.ext_pages_needed, tdxsim_sys.ext_pages);
	return ST_SUCCESS;
}

static u64 rd_max_quote_size(u64 *val)
{
	if (tdxsim_quote_check_ready())
		return ST_METADATA_FIELD_NOT_READABLE;

	*val = tdxsim_sys.max_quote_size;
	return ST_SUCCESS;
}

struct sys_field {
	u64 id;
	u64 value;			/* if it is always the same */
	u64 (*read)(u64 *val);		/* else */
	u64 needs_feature;		/* without it there is no such field */
};

#define FIELD_CPUID_CONFIG_LEAVES	0x9900000300000400ULL
#define FIELD_CPUID_CONFIG_VALUES	0x9900000300000500ULL

static const struct sys_field fields[] = {
	{ 0x0800000100000003, .value = 0 },			/* minor_version */
	{ 0x0800000100000004, .value = 2 },			/* major_version */
	{ 0x0800000100000005, .read = rd_update_version },
	{ 0x0A00000300000008, .read = rd_features0 },		/* tdx_features0 */
	{ 0x1900000300000000, .value = TDXSIM_ATTRIBUTES_FIXED0 },
	{ 0x1900000300000001, .value = TDXSIM_ATTRIBUTES_FIXED1 },
	{ 0x1900000300000002, .value = TDXSIM_XFAM_FIXED0 },
	{ 0x1900000300000003, .value = TDXSIM_XFAM_FIXED1 },
	{ 0x2300000200000002, .read = rd_max_quote_size,
	  .needs_feature = TDXSIM_FEATURE_QUOTING },
	{ 0x3100000000000001, .read = rd_ext_required, .needs_feature = TDXSIM_FEATURE_EXT },
	/* memory_pool_required_pages */
	{ 0x3100000200000000, .read = rd_ext_pages, .needs_feature = TDXSIM_FEATURE_EXT },
	{ 0x8900000100000000, .value = MODULE_HV },
	{ 0x9100000100000008, .value = TDXSIM_MAX_TDMRS },
	{ 0x9100000100000009, .value = TDXSIM_MAX_RSVD },
	{ 0x9100000100000010, .value = TDXSIM_PAMT_ENTRY_SIZE },	/* 4K, 2M, 1G */
	{ 0x9100000100000011, .value = TDXSIM_PAMT_ENTRY_SIZE },
	{ 0x9100000100000012, .value = TDXSIM_PAMT_ENTRY_SIZE },
	{ 0x9800000100000000, .value = TDXSIM_TDR_SIZE },
	{ 0x9800000100000100, .value = TDXSIM_TDCS_PAGES * PAGE_SIZE },
	{ 0x9800000100000200, .value = TDXSIM_TDVPS_PAGES * PAGE_SIZE },
	{ 0x9900000100000004, .read = rd_nr_cpuid_configs },
	{ 0x9900000100000008, .value = TDXSIM_MAX_VCPUS_PER_TD },
};

/* The fields above, then the elements of the two arrays. */
static bool field_exists(unsigned int i)
{
	u64 needs = i < ARRAY_SIZE(fields) ? fields[i].needs_feature : 0;

	return !(needs & ~tdxsim_sys.offered);
}

static u64 field_id(unsigned int i)
{
	if (i < ARRAY_SIZE(fields))
		return fields[i].id;
	i -= ARRAY_SIZE(fields);
	if (i < tdxsim_nr_cpuid_configs)
		return FIELD_CPUID_CONFIG_LEAVES + i;
	return FIELD_CPUID_CONFIG_VALUES + i - tdxsim_nr_cpuid_configs;
}

static u64 nr_fields(void)
{
	return ARRAY_SIZE(fields) + 3 * tdxsim_nr_cpuid_configs;
}

static u64 read_field(unsigned int i, u64 *val)
{
	const struct tdxsim_cpuid_config *c;

	if (i < ARRAY_SIZE(fields)) {
		if (fields[i].read)
			return fields[i].read(val);
		*val = fields[i].value;
		return ST_SUCCESS;
	}

	i -= ARRAY_SIZE(fields);
	if (i < tdxsim_nr_cpuid_configs) {
		c = &tdxsim_cpuid_configs[i];
		*val = (u64)c->subleaf << 32 | c->leaf;
		return ST_SUCCESS;
	}

	i -= tdxsim_nr_cpuid_configs;
	c = &tdxsim_cpuid_configs[i / 2];
	*val = i % 2 ? (u64)c->edx << 32 | c->ecx : (u64)c->ebx << 32 | c->eax;
	return ST_SUCCESS;
}

/* The next field's id after the ith, ~0 after the last. */
static u64 next_field_id(unsigned int i)
{
	while (++i < nr_fields()) {
		if (field_exists(i))
			return field_id(i);
	}

	return ~0ULL;
}

/* RDX: field. Out: RDX the next field, R8 value. */
u64 tdxsim_sys_rd(struct pt_regs *regs, u8 version)
{
	u64 id = regs->dx, status, val = 0;
	unsigned int i;

	regs->dx = ~0ULL;
	regs->r8 = 0;

	if (id == ~0ULL) {
		regs->dx = field_id(0);
		return ST_METADATA_FIRST_FIELD_ID_IN_CONTEXT;
	}

	for (i = 0; i < nr_fields(); i++) {
		if (field_exists(i) && field_id(i) == id)
			break;
	}
	if (i == nr_fields())
		return ST_METADATA_FIELD_ID_INCORRECT;

	status = read_field(i, &val);
	if (status)
		return status;

	regs->r8 = val;
	regs->dx = next_field_id(i);
	return ST_SUCCESS;
}
