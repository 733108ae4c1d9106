// SPDX-License-Identifier: GPL-2.0
/*
 * tdxsim: life of a TD, from TDH.MNG.CREATE to the last TDH.PHYMEM.PAGE.RECLAIM.
 */
#include <linux/bitfield.h>
#include <linux/bitops.h>
#include <linux/mm.h>
#include <linux/string.h>
#include <linux/timekeeping.h>
#include <asm/cpuid/api.h>
#include <asm/topology.h>

#include "td.h"

/* Key Ownership Table: which KeyID is used by a TD, and which wait for their caches. */
enum hkid_state { HKID_FREE, HKID_ASSIGNED, HKID_FLUSHED };

static struct {
	struct tdxsim_lock lock;
	struct {
		enum hkid_state state;
		unsigned long dirty_pkgs;	/* HKID_FLUSHED: caches not written back yet */
	} hkid[TDXSIM_NR_TDX_KEYIDS];
} kot;

/* TDH.PHYMEM.CACHE.WB in progress on a package. */
static struct cache_wb {
	struct tdxsim_lock lock;
	bool interrupted;
	unsigned long hkids;		/* those that it is for, counted from the first one */
	struct tdxsim_steps steps;
} cache_wbs[TDXSIM_MAX_PKGS];

static_assert(TDXSIM_NR_TDX_KEYIDS <= BITS_PER_LONG && TDXSIM_MAX_PKGS <= BITS_PER_LONG);

/* Key Encryption Table: one key is programmed at a time. */
static struct tdxsim_lock ket_lock;

static unsigned long all_pkgs(void)
{
	return GENMASK(min(topology_max_packages(), TDXSIM_MAX_PKGS) - 1, 0);
}

static unsigned int this_pkg(void)
{
	return topology_logical_package_id(raw_smp_processor_id());
}

u64 tdxsim_td_get(u64 tdr, enum tdxsim_lock_mode mode, u32 opid, struct tdxsim_td_ref *ref)
{
	u64 status = tdxsim_pamt_get_type(tdr, PT_TDR, mode, opid, &ref->pamt);

	if (status)
		return status;

	ref->td = tdxsim_va(tdr);
	ref->mode = mode;
	return ST_SUCCESS;
}

void tdxsim_td_put(struct tdxsim_td_ref *ref)
{
	tdxsim_pamt_put(ref->pamt, ref->mode);
}

static u64 check_op(const struct tdxsim_td *td, enum tdxsim_td_op op)
{
	if (td->fatal)
		return ST_TD_FATAL;
	if (td->life != TD_KEYS_CONFIGURED)
		return ST_TD_KEYS_NOT_CONFIGURED;
	if (td->nr_tdcx != TDXSIM_TDCS_PAGES)
		return ST_TDCS_NOT_ALLOCATED;
	if (td->op < op)
		return ST_OP_STATE_INCORRECT;

	return ST_SUCCESS;
}

u64 tdxsim_td_get_op(u64 tdr, enum tdxsim_lock_mode mode, u32 opid, enum tdxsim_td_op op,
		     struct tdxsim_td_ref *ref)
{
	u64 status = tdxsim_td_get(tdr, mode, opid, ref);

	if (status)
		return status;

	status = check_op(ref->td, op);
	if (status)
		tdxsim_td_put(ref);

	return status;
}

u64 tdxsim_td_take_page(struct tdxsim_td *td, u64 hpa, enum tdxsim_page_type type, u32 opid,
			struct tdxsim_pamt **pamt)
{
	u64 status = tdxsim_pamt_get_type(hpa, PT_NDA, TDXSIM_EXCLUSIVE, opid, pamt);

	if (status)
		return status;

	memset(tdxsim_va(hpa), 0, PAGE_SIZE);
	tdxsim_pamt_set(*pamt, type, td->tdr);
	atomic_inc(&td->children);
	return ST_SUCCESS;
}

unsigned int tdxsim_td_gpaw(const struct tdxsim_td *td)
{
	return td->params.config_flags & TD_CONFIG_GPAW ? 52 : 48;
}

/* RCX: TDR, RDX: KeyID */
u64 tdxsim_mng_create(struct pt_regs *regs, u8 version)
{
	u64 hkid = regs->dx;
	unsigned int i = hkid - TDXSIM_FIRST_TDX_KEYID;
	struct tdxsim_pamt *pamt;
	struct tdxsim_td *td;
	u64 status;

	if (!tdxsim_hkid_is_private(hkid))
		return tdxsim_status(ST_OPERAND_INVALID, OPID_RDX);

	status = tdxsim_pamt_get_type(regs->cx, PT_NDA, TDXSIM_EXCLUSIVE, OPID_RCX, &pamt);
	if (status)
		return status;

	if (!tdxsim_trylock(&kot.lock, TDXSIM_EXCLUSIVE)) {
		status = tdxsim_status(ST_OPERAND_BUSY, OPID_KOT);
		goto out;
	}

	if (kot.hkid[i].state != HKID_FREE || hkid == tdxsim_sys.global_hkid) {
		status = ST_HKID_NOT_FREE;
		goto unlock;
	}

	kot.hkid[i].state = HKID_ASSIGNED;
	tdxsim_pamt_set(pamt, PT_TDR, 0);

	td = tdxsim_va(regs->cx);
	memset(td, 0, PAGE_SIZE);
	td->tdr = regs->cx;
	td->hkid = hkid;
	td->epoch = 1;
	td->life = TD_HKID_ASSIGNED;
	atomic_inc(&tdxsim_stats.tds);
unlock:
	tdxsim_unlock(&kot.lock, TDXSIM_EXCLUSIVE);
out:
	tdxsim_pamt_put(pamt, TDXSIM_EXCLUSIVE);
	return status;
}

static u64 key_config(struct tdxsim_td *td)
{
	if (td->fatal)
		return ST_TD_FATAL;
	if (td->life != TD_HKID_ASSIGNED)
		return ST_LIFECYCLE_STATE_INCORRECT;
	if (td->key_pkgs & BIT(this_pkg()))
		return ST_KEY_CONFIGURED;

	if (!tdxsim_trylock(&ket_lock, TDXSIM_EXCLUSIVE))
		return tdxsim_status(ST_OPERAND_BUSY, OPID_KET);

	/* Another one for each TD is enough: it keeps nobody out. */
	if (!td->key)
		td->key = ktime_get_mono_fast_ns() * 0x9e3779b97f4a7c15ULL ^ td->tdr;
	td->key_pkgs |= BIT(this_pkg());
	if (td->key_pkgs == all_pkgs())
		td->life = TD_KEYS_CONFIGURED;
	tdxsim_unlock(&ket_lock, TDXSIM_EXCLUSIVE);

	return ST_SUCCESS;
}

/* RCX: TDR. Once on each package. */
u64 tdxsim_mng_key_config(struct pt_regs *regs, u8 version)
{
	struct tdxsim_td_ref ref;
	u64 status;

	status = tdxsim_td_get(regs->cx, TDXSIM_EXCLUSIVE, OPID_RCX, &ref);
	if (status)
		return status;

	status = key_config(ref.td);
	tdxsim_td_put(&ref);
	return status;
}

/* RCX: page, RDX: TDR */
u64 tdxsim_mng_addcx(struct pt_regs *regs, u8 version)
{
	struct tdxsim_pamt *pamt;
	struct tdxsim_td_ref ref;
	u64 status;

	status = tdxsim_td_get(regs->dx, TDXSIM_EXCLUSIVE, OPID_RDX, &ref);
	if (status)
		return status;

	if (ref.td->fatal)
		status = ST_TD_FATAL;
	else if (ref.td->life != TD_KEYS_CONFIGURED)
		status = ST_TD_KEYS_NOT_CONFIGURED;
	else if (ref.td->nr_tdcx == TDXSIM_TDCS_PAGES)
		status = ST_TDCX_NUM_INCORRECT;
	else
		status = tdxsim_td_take_page(ref.td, regs->cx, PT_TDCX, OPID_RCX, &pamt);

	if (!status) {
		ref.td->tdcx[ref.td->nr_tdcx++] = regs->cx;
		tdxsim_pamt_put(pamt, TDXSIM_EXCLUSIVE);
	}

	tdxsim_td_put(&ref);
	return status;
}

#define EPTP_MEMTYPE	GENMASK_ULL(2, 0)
#define EPTP_PWL	GENMASK_ULL(5, 3)

static u64 check_params(const struct tdxsim_td_params *p)
{
	unsigned int pwl = FIELD_GET(EPTP_PWL, p->eptp_controls) + 1;
	unsigned int i;

	if ((p->attributes & ~TDXSIM_ATTRIBUTES_FIXED0) ||
	    (~p->attributes & TDXSIM_ATTRIBUTES_FIXED1))
		return tdxsim_status(ST_OPERAND_INVALID, OPID_ATTRIBUTES);
	if ((p->xfam & ~TDXSIM_XFAM_FIXED0) || (~p->xfam & TDXSIM_XFAM_FIXED1))
		return tdxsim_status(ST_OPERAND_INVALID, OPID_XFAM);
	if (!p->max_vcpus || p->max_vcpus > TDXSIM_MAX_VCPUS_PER_TD)
		return tdxsim_status(ST_OPERAND_INVALID, OPID_MAX_VCPUS);
	if ((p->eptp_controls & ~(EPTP_MEMTYPE | EPTP_PWL)) ||
	    FIELD_GET(EPTP_MEMTYPE, p->eptp_controls) != 6 || (pwl != 4 && pwl != 5))
		return tdxsim_status(ST_OPERAND_INVALID, OPID_EPTP_CONTROLS);
	if (p->config_flags & ~(TD_CONFIG_GPAW | TD_CONFIG_FLEXIBLE_PENDING_VE |
				TD_CONFIG_NO_RBP_MOD | TD_CONFIG_MAXPA))
		return tdxsim_status(ST_OPERAND_INVALID, OPID_EXEC_CONTROLS);
	if ((p->config_flags & TD_CONFIG_GPAW) && pwl != 5)
		return tdxsim_status(ST_OPERAND_INVALID, OPID_EXEC_CONTROLS);
	if (p->tsc_frequency < 4 || p->tsc_frequency > 400)
		return tdxsim_status(ST_OPERAND_INVALID, OPID_TSC_FREQUENCY);
	if (memchr_inv(p->reserved0, 0, sizeof(p->reserved0)) ||
	    memchr_inv(p->reserved1, 0, sizeof(p->reserved1)) ||
	    memchr_inv(p->reserved2, 0, sizeof(p->reserved2)))
		return tdxsim_status(ST_OPERAND_INVALID, OPID_RDX);

	for (i = 0; i < ARRAY_SIZE(p->cpuid_values); i++) {
		struct tdxsim_cpuid_config none = {};
		const struct tdxsim_cpuid_config *c =
			i < tdxsim_nr_cpuid_configs ? &tdxsim_cpuid_configs[i] : &none;
		const u32 *v = p->cpuid_values[i];

		if ((v[0] & ~c->eax) || (v[1] & ~c->ebx) || (v[2] & ~c->ecx) || (v[3] & ~c->edx))
			return tdxsim_status(ST_OPERAND_INVALID, OPID_CPUID_CONFIG);
	}

	return ST_SUCCESS;
}

/* RCX: TDR, RDX: TD_PARAMS. RCX out: more about an error. */
u64 tdxsim_mng_init(struct pt_regs *regs, u8 version)
{
	struct tdxsim_td_ref ref;
	u64 tdr = regs->cx;
	u64 status;

	regs->cx = 0;
	status = tdxsim_td_get_op(tdr, TDXSIM_EXCLUSIVE, OPID_RCX, TD_UNINITIALIZED, &ref);
	if (status)
		return status;

	if (ref.td->op != TD_UNINITIALIZED) {
		status = ST_OP_STATE_INCORRECT;
		goto out;
	}
	if (!tdxsim_hpa_is_memory(regs->dx, 1024, sizeof(ref.td->params))) {
		status = tdxsim_status(ST_OPERAND_INVALID, OPID_RDX);
		goto out;
	}

	/* The host may change it meanwhile: check what is used. */
	memcpy(&ref.td->params, tdxsim_va(regs->dx), sizeof(ref.td->params));
	status = check_params(&ref.td->params);
	if (status)
		goto out;

	sha384_init(&ref.td->mr_ctx);
	ref.td->op = TD_INITIALIZED;
out:
	tdxsim_td_put(&ref);
	return status;
}

/*
 * CPUID
 */
bool tdxsim_cpuid_is_virtual(u32 leaf)
{
	return leaf <= 0x21 || (leaf >= 0x80000000 && leaf <= 0x80000008);
}

static bool has_subleaves(u32 leaf)
{
	return leaf == 0x4 || leaf == 0x7 || leaf == 0xb || leaf == 0xd || leaf == 0x1f;
}

static unsigned int nr_subleaves(u32 leaf)
{
	switch (leaf) {
	case 0x4:
		return 4;
	case 0x7:
		return 1;
	case 0xd:
		return 3;
	default:
		return 2;
	}
}

/* What TDX fixes, whatever the CPU has and the host says. */
static void cpuid_fixed(const struct tdxsim_td *td, u32 leaf, u32 subleaf, u32 regs[4])
{
	switch (leaf) {
	case 0x0:
		regs[0] = 0x21;
		break;
	case 0x1:
		regs[2] &= ~(BIT(5) | BIT(6) | BIT(3));		/* VMX, SMX, MONITOR */
		regs[2] |= BIT(31) | BIT(21);			/* hypervisor, x2APIC */
		break;
	case 0xd:
		if (subleaf == 0) {
			regs[0] = td->params.xfam;
			regs[3] = 0;
		}
		break;
	case 0x21:
		if (!subleaf) {
			regs[0] = 0;
			memcpy(&regs[1], "Inte", 4);
			memcpy(&regs[3], "lTDX", 4);
			memcpy(&regs[2], "    ", 4);
		}
		break;
	case 0x80000008:
		/* TCG has fewer bits than where the shared bit is. */
		regs[0] = (regs[0] & ~0xffffffU) | 48 << 8 | tdxsim_td_gpaw(td);
		break;
	}
}

void tdxsim_cpuid_for_td(const struct tdxsim_td *td, u32 leaf, u32 subleaf, u32 regs[4])
{
	unsigned int i;

	regs[0] = leaf;
	regs[2] = subleaf;
	native_cpuid(&regs[0], &regs[1], &regs[2], &regs[3]);

	for (i = 0; i < tdxsim_nr_cpuid_configs; i++) {
		const struct tdxsim_cpuid_config *c = &tdxsim_cpuid_configs[i];
		const u32 *v = td->params.cpuid_values[i];

		if (c->leaf != leaf || (c->subleaf != ~0U && c->subleaf != subleaf))
			continue;

		regs[0] = (regs[0] & ~c->eax) | v[0];
		regs[1] = (regs[1] & ~c->ebx) | v[1];
		regs[2] = (regs[2] & ~c->ecx) | v[2];
		regs[3] = (regs[3] & ~c->edx) | v[3];
	}

	cpuid_fixed(td, leaf, subleaf, regs);
}

/* Fields of TDH.MNG.RD */
#define FIELD_TSC_OFFSET	0x110000000000000aULL
#define FIELD_TSC_MULTIPLIER	0x110000000000000bULL
#define FIELD_CPUID		0x9410000300000000ULL
#define FIELD_CPUID_MASK	GENMASK_ULL(16, 0)
#define FIELD_CPUID_LEAF_31	BIT(16)
#define FIELD_CPUID_LEAF	GENMASK(15, 9)
#define FIELD_CPUID_NO_SUBLEAF	BIT(8)
#define FIELD_CPUID_SUBLEAF	GENMASK(7, 1)
#define FIELD_CPUID_ELEMENT	BIT(0)

static u64 read_cpuid_field(const struct tdxsim_td *td, u32 field, u64 *val)
{
	u32 leaf = FIELD_GET(FIELD_CPUID_LEAF, field) |
		   (field & FIELD_CPUID_LEAF_31 ? BIT(31) : 0);
	u32 subleaf = FIELD_GET(FIELD_CPUID_SUBLEAF, field);
	bool no_subleaf = field & FIELD_CPUID_NO_SUBLEAF;
	u32 regs[4];

	if (!tdxsim_cpuid_is_virtual(leaf) || no_subleaf == has_subleaves(leaf) ||
	    (no_subleaf ? subleaf != 0x7f : subleaf >= nr_subleaves(leaf)))
		return ST_METADATA_FIELD_NOT_READABLE;

	tdxsim_cpuid_for_td(td, leaf, no_subleaf ? 0 : subleaf, regs);
	*val = field & FIELD_CPUID_ELEMENT ? (u64)regs[3] << 32 | regs[2] :
					     (u64)regs[1] << 32 | regs[0];
	return ST_SUCCESS;
}

/* RCX: TDR, RDX: field. R8 out: value. */
u64 tdxsim_mng_rd(struct pt_regs *regs, u8 version)
{
	struct tdxsim_td_ref ref;
	u64 status, val = 0;

	regs->r8 = 0;
	status = tdxsim_td_get_op(regs->cx, TDXSIM_SHARED, OPID_RCX, TD_INITIALIZED, &ref);
	if (status)
		return status;

	if (regs->dx == FIELD_TSC_OFFSET)
		val = 0;
	else if (regs->dx == FIELD_TSC_MULTIPLIER)
		val = BIT_ULL(48);
	else if ((regs->dx & ~FIELD_CPUID_MASK) == FIELD_CPUID)
		status = read_cpuid_field(ref.td, regs->dx & FIELD_CPUID_MASK, &val);
	else
		status = ST_METADATA_FIELD_NOT_READABLE;

	regs->r8 = val;
	tdxsim_td_put(&ref);
	return status;
}

/* RCX: address of 256 bytes, RDX: TDR */
u64 tdxsim_mr_extend(struct pt_regs *regs, u8 version)
{
	u64 gpa = regs->cx, tdr = regs->dx;
	struct tdxsim_sept_walk walk;
	struct tdxsim_td_ref ref;
	u8 header[128] = "MR.EXTEND";
	u64 status, hpa;

	regs->cx = 0;
	regs->dx = 0;
	status = tdxsim_td_get_op(tdr, TDXSIM_EXCLUSIVE, OPID_RDX, TD_INITIALIZED, &ref);
	if (status)
		return status;

	if (ref.td->op != TD_INITIALIZED) {
		status = ST_OP_STATE_INCORRECT;
	} else if (gpa % 256 || gpa >= tdxsim_td_shared_bit(ref.td)) {
		status = tdxsim_status(ST_OPERAND_INVALID, OPID_RCX);
	} else if (!tdxsim_sept_walk(ref.td, gpa, 0, &walk)) {
		status = tdxsim_status(ST_EPT_ENTRY_NOT_PRESENT, OPID_RCX);
		tdxsim_sept_details(regs, &walk);
	} else if ((*walk.entry & SEPT_STATE) != SEPT_MAPPED) {
		status = ST_EPT_ENTRY_NOT_PRESENT;
	} else {
		hpa = *walk.entry & SEPT_HPA;
		memcpy(header + 16, &gpa, sizeof(gpa));
		sha384_update(&ref.td->mr_ctx, header, sizeof(header));
		tdxsim_page_open(ref.td, hpa);
		sha384_update(&ref.td->mr_ctx, tdxsim_va(hpa) + offset_in_page(gpa), 256);
		tdxsim_page_close(ref.td, hpa);
	}

	tdxsim_td_put(&ref);
	return status;
}

/* RCX: TDR */
u64 tdxsim_mr_finalize(struct pt_regs *regs, u8 version)
{
	struct tdxsim_td_ref ref;
	u64 status;

	status = tdxsim_td_get_op(regs->cx, TDXSIM_EXCLUSIVE, OPID_RCX, TD_INITIALIZED, &ref);
	if (status)
		return status;

	if (ref.td->op != TD_INITIALIZED) {
		status = ST_OP_STATE_INCORRECT;
	} else if (!atomic_read(&ref.td->nr_vcpus)) {
		status = ST_NO_VCPUS;
	} else {
		sha384_final(&ref.td->mr_ctx, ref.td->mrtd);
		ref.td->op = TD_RUNNABLE;
	}

	tdxsim_td_put(&ref);
	return status;
}

/* RCX: TDR. All vCPUs were flushed: no CPU uses the TD's key any more. */
u64 tdxsim_mng_vpflushdone(struct pt_regs *regs, u8 version)
{
	struct tdxsim_td_ref ref;
	u64 status;

	status = tdxsim_td_get(regs->cx, TDXSIM_EXCLUSIVE, OPID_RCX, &ref);
	if (status)
		return status;

	if (!tdxsim_trylock(&kot.lock, TDXSIM_EXCLUSIVE)) {
		status = tdxsim_status(ST_OPERAND_BUSY, OPID_KOT);
	} else {
		if (ref.td->life != TD_HKID_ASSIGNED && ref.td->life != TD_KEYS_CONFIGURED) {
			status = ST_LIFECYCLE_STATE_INCORRECT;
		} else if (atomic_read(&ref.td->nr_assoc)) {
			status = ST_FLUSHVP_NOT_DONE;
		} else {
			unsigned int i = ref.td->hkid - TDXSIM_FIRST_TDX_KEYID;

			ref.td->life = TD_BLOCKED;
			kot.hkid[i].state = HKID_FLUSHED;
			kot.hkid[i].dirty_pkgs = all_pkgs();
			tdxsim_quotes_drop_td(ref.td->tdr);
		}
		tdxsim_unlock(&kot.lock, TDXSIM_EXCLUSIVE);
	}

	tdxsim_td_put(&ref);
	return status;
}

static unsigned long flushed_hkids(void)
{
	unsigned long hkids = 0;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(kot.hkid); i++) {
		if (kot.hkid[i].state == HKID_FLUSHED)
			hkids |= BIT(i);
	}

	return hkids;
}

static u64 cache_wb(struct cache_wb *wb, bool resume)
{
	unsigned int i;

	if (!resume) {
		wb->interrupted = false;
		wb->steps.done = 0;
		wb->hkids = flushed_hkids();
		if (!wb->hkids)
			return ST_NO_HKID_READY_TO_WBCACHE;
	} else if (!wb->interrupted) {
		return ST_WBCACHE_RESUME_ERROR;
	}

	wb->interrupted = tdxsim_step(&wb->steps);
	if (wb->interrupted)
		return ST_INTERRUPTED_RESUMABLE;

	/* Other packages do the same at the same time. */
	for_each_set_bit(i, &wb->hkids, TDXSIM_NR_TDX_KEYIDS)
		clear_bit(this_pkg(), &kot.hkid[i].dirty_pkgs);

	return ST_SUCCESS;
}

/* RCX: 0 begin, 1 go on. Once on each package. */
u64 tdxsim_phymem_cache_wb(struct pt_regs *regs, u8 version)
{
	struct cache_wb *wb = &cache_wbs[this_pkg()];
	u64 status;

	if (regs->cx > 1)
		return tdxsim_status(ST_OPERAND_INVALID, OPID_RCX);

	if (!tdxsim_trylock(&wb->lock, TDXSIM_EXCLUSIVE))
		return tdxsim_status(ST_OPERAND_BUSY, OPID_WBCACHE);

	if (tdxsim_trylock(&kot.lock, TDXSIM_SHARED)) {
		status = cache_wb(wb, regs->cx);
		tdxsim_unlock(&kot.lock, TDXSIM_SHARED);
	} else {
		status = tdxsim_status(ST_OPERAND_BUSY, OPID_KOT);
	}

	tdxsim_unlock(&wb->lock, TDXSIM_EXCLUSIVE);
	return status;
}

/* RCX: TDR */
u64 tdxsim_mng_key_freeid(struct pt_regs *regs, u8 version)
{
	struct tdxsim_td_ref ref;
	u64 status;

	status = tdxsim_td_get(regs->cx, TDXSIM_EXCLUSIVE, OPID_RCX, &ref);
	if (status)
		return status;

	if (!tdxsim_trylock(&kot.lock, TDXSIM_EXCLUSIVE)) {
		status = tdxsim_status(ST_OPERAND_BUSY, OPID_KOT);
	} else {
		unsigned int i = ref.td->hkid - TDXSIM_FIRST_TDX_KEYID;

		if (ref.td->life != TD_BLOCKED) {
			status = ST_LIFECYCLE_STATE_INCORRECT;
		} else if (kot.hkid[i].dirty_pkgs) {
			status = ST_WBCACHE_NOT_COMPLETE;
		} else {
			kot.hkid[i].state = HKID_FREE;
			ref.td->life = TD_TEARDOWN;
		}
		tdxsim_unlock(&kot.lock, TDXSIM_EXCLUSIVE);
	}

	tdxsim_td_put(&ref);
	return status;
}

static u64 reclaim(struct tdxsim_pamt *pamt, u64 hpa)
{
	struct tdxsim_td_ref ref;
	struct tdxsim_td *td;
	u64 status;

	if (pamt->type == PT_TDR) {
		td = tdxsim_va(hpa);
		if (td->life != TD_TEARDOWN)
			return ST_LIFECYCLE_STATE_INCORRECT;
		if (atomic_read(&td->children))
			return ST_TD_ASSOCIATED_PAGES_EXIST;
		atomic_dec(&tdxsim_stats.tds);
	} else {
		status = tdxsim_td_get(tdxsim_pamt_owner(pamt), TDXSIM_SHARED, OPID_TDR, &ref);
		if (status)
			return status;
		if (ref.td->life != TD_TEARDOWN) {
			tdxsim_td_put(&ref);
			return ST_LIFECYCLE_STATE_INCORRECT;
		}
		if (pamt->type == PT_TDVPR)
			atomic_dec(&tdxsim_stats.vcpus);
		atomic_dec(&ref.td->children);
		tdxsim_td_put(&ref);
	}

	memset(tdxsim_va(hpa), 0, PAGE_SIZE);
	tdxsim_pamt_set(pamt, PT_NDA, 0);
	return ST_SUCCESS;
}

/* RCX: page. Out: RCX type, RDX owner, R8 size: of the page as it was. */
u64 tdxsim_phymem_page_reclaim(struct pt_regs *regs, u8 version)
{
	struct tdxsim_pamt *pamt;
	u64 hpa = regs->cx;
	u64 status;

	regs->cx = 0;
	regs->dx = 0;
	regs->r8 = 0;
	status = tdxsim_pamt_get(hpa, TDXSIM_EXCLUSIVE, OPID_RCX, &pamt);
	if (status)
		return status;

	switch (pamt->type) {
	case PT_REG:
	case PT_TDR:
	case PT_TDCX:
	case PT_TDVPR:
	case PT_SEPT:
		regs->cx = pamt->type;
		regs->dx = tdxsim_pamt_owner(pamt);
		regs->r8 = TDXSIM_4K;
		status = reclaim(pamt, hpa);
		break;
	default:
		status = tdxsim_status(ST_PAGE_METADATA_INCORRECT, OPID_RCX);
	}

	tdxsim_pamt_put(pamt, TDXSIM_EXCLUSIVE);
	return status;
}

/* RCX: address with a KeyID, of a page that was the module's and is free now. */
u64 tdxsim_phymem_page_wbinvd(struct pt_regs *regs, u8 version)
{
	u64 hpa = regs->cx & (BIT_ULL(TDXSIM_PHYS_BITS) - 1);
	u64 hkid = regs->cx >> TDXSIM_PHYS_BITS;
	struct tdxsim_pamt *pamt;
	u64 status;

	if (!tdxsim_hkid_is_private(hkid))
		return tdxsim_status(ST_OPERAND_INVALID, OPID_RCX);

	status = tdxsim_pamt_get_type(hpa, PT_NDA, TDXSIM_SHARED, OPID_RCX, &pamt);
	if (status)
		return status;

	tdxsim_pamt_put(pamt, TDXSIM_SHARED);
	return ST_SUCCESS;
}

void tdxsim_tds_drop(void)
{
	memset(&kot, 0, sizeof(kot));
	memset(cache_wbs, 0, sizeof(cache_wbs));
	atomic_set(&tdxsim_stats.tds, 0);
	atomic_set(&tdxsim_stats.vcpus, 0);
}
