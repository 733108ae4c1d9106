// SPDX-License-Identifier: GPL-2.0
/*
 * tdxsim: host-physical addresses, and who owns which page.
 *
 * The metadata lives in the PAMT memory that the host gave with the TDMRs. So
 * a host that takes that memory back too early is found out here as well.
 */
#include <linux/align.h>
#include <linux/array_size.h>
#include <linux/build_bug.h>
#include <linux/mm.h>
#include <linux/pfn.h>
#include <linux/sizes.h>
#include <asm/page.h>

#include "tdxsim.h"

static_assert(sizeof(struct tdxsim_pamt) == TDXSIM_PAMT_ENTRY_SIZE);

bool tdxsim_hpa_ok(u64 hpa, u64 align)
{
	return IS_ALIGNED(hpa, align) && !(hpa >> TDXSIM_PHYS_BITS);
}

static struct tdxsim_tdmr *find_tdmr(u64 hpa)
{
	unsigned int i;

	for (i = 0; i < tdxsim_sys.nr_tdmrs; i++) {
		struct tdxsim_tdmr *tdmr = &tdxsim_sys.tdmrs[i];

		if (hpa >= tdmr->range.start && hpa < tdmr->range.end)
			return tdmr;
	}

	return NULL;
}

struct tdxsim_pamt *tdxsim_pamt_peek(u64 hpa)
{
	struct tdxsim_tdmr *tdmr = find_tdmr(hpa);
	struct tdxsim_pamt *pamts;

	/* A GB becomes usable at once, when all of it was initialized. */
	if (!tdmr || hpa >= ALIGN_DOWN(smp_load_acquire(&tdmr->next), SZ_1G))
		return NULL;

	pamts = tdxsim_va(tdmr->pamt[TDXSIM_4K].start);
	return &pamts[PHYS_PFN(hpa - tdmr->range.start)];
}

bool tdxsim_in_cmr(u64 start, u64 end)
{
	unsigned int i;

	for (i = 0; i < tdxsim_platform.nr_cmrs; i++) {
		if (start >= tdxsim_platform.cmrs[i].start && end <= tdxsim_platform.cmrs[i].end)
			return true;
	}

	return false;
}

static bool overlaps_pamt(u64 start, u64 end)
{
	unsigned int i, size;

	for (i = 0; i < tdxsim_sys.nr_tdmrs; i++) {
		for (size = 0; size < TDXSIM_NR_SIZES; size++) {
			const struct tdxsim_range *pamt = &tdxsim_sys.tdmrs[i].pamt[size];

			if (start < pamt->end && end > pamt->start)
				return true;
		}
	}

	return false;
}

bool tdxsim_hpa_is_memory(u64 hpa, u64 align, u64 size)
{
	u64 page;

	if (!tdxsim_hpa_ok(hpa, align) || !tdxsim_in_cmr(hpa, hpa + size) ||
	    !pfn_range_is_mapped(PHYS_PFN(hpa), PFN_UP(hpa + size)) ||
	    overlaps_pamt(hpa, hpa + size))
		return false;

	for (page = ALIGN_DOWN(hpa, PAGE_SIZE); page < hpa + size; page += PAGE_SIZE) {
		struct tdxsim_pamt *pamt = tdxsim_pamt_peek(page);

		if (pamt && READ_ONCE(pamt->type) != PT_NDA && READ_ONCE(pamt->type) != PT_RSVD)
			return false;
	}

	return true;
}

u64 tdxsim_pamt_get(u64 hpa, enum tdxsim_lock_mode mode, u32 opid, struct tdxsim_pamt **pamt)
{
	struct tdxsim_pamt *p;

	if (!tdxsim_hpa_ok(hpa, PAGE_SIZE))
		return tdxsim_status(ST_OPERAND_INVALID, opid);

	p = tdxsim_pamt_peek(hpa);
	if (!p)
		return tdxsim_status(ST_OPERAND_ADDR_RANGE_ERROR, opid);

	if (!tdxsim_trylock(&p->lock, mode))
		return tdxsim_status(ST_OPERAND_BUSY, opid);

	*pamt = p;
	return ST_SUCCESS;
}

void tdxsim_pamt_put(struct tdxsim_pamt *pamt, enum tdxsim_lock_mode mode)
{
	tdxsim_unlock(&pamt->lock, mode);
}

u64 tdxsim_pamt_get_type(u64 hpa, enum tdxsim_page_type type, enum tdxsim_lock_mode mode,
			 u32 opid, struct tdxsim_pamt **pamt)
{
	u64 status = tdxsim_pamt_get(hpa, mode, opid, pamt);

	if (status)
		return status;

	if ((*pamt)->type != type) {
		tdxsim_pamt_put(*pamt, mode);
		return tdxsim_status(ST_PAGE_METADATA_INCORRECT, opid);
	}

	return ST_SUCCESS;
}

/* A type that is out of range comes from a host that wrote to its PAMT. */
static void count_page(u8 type, int nr)
{
	if (type < ARRAY_SIZE(tdxsim_stats.pages))
		atomic_add(nr, &tdxsim_stats.pages[type]);
}

void tdxsim_pamt_set(struct tdxsim_pamt *pamt, enum tdxsim_page_type type, u64 owner)
{
	count_page(pamt->type, -1);
	count_page(type, 1);
	WRITE_ONCE(pamt->type, type);
	pamt->owner_hi = PHYS_PFN(owner) >> 32;
	pamt->owner_lo = PHYS_PFN(owner);
	pamt->bepoch = 0;
}

u64 tdxsim_pamt_take(u64 hpa, enum tdxsim_page_type type, u64 owner, u32 opid)
{
	struct tdxsim_pamt *pamt;
	u64 status;

	status = tdxsim_pamt_get_type(hpa, PT_NDA, TDXSIM_EXCLUSIVE, opid, &pamt);
	if (status)
		return status;

	tdxsim_pamt_set(pamt, type, owner);
	tdxsim_pamt_put(pamt, TDXSIM_EXCLUSIVE);
	return ST_SUCCESS;
}

/*
 * RCX: address; all pages are 4 KB, no other level is there to be asked for.
 * Out: RCX type, RDX owner, R8 size, R9 BEPOCH.
 */
u64 tdxsim_phymem_page_rdmd(struct pt_regs *regs, u8 version)
{
	struct tdxsim_pamt *pamt;
	u64 hpa = regs->cx;
	u64 status;

	regs->cx = 0;
	regs->dx = 0;
	regs->r8 = 0;
	regs->r9 = 0;
	regs->r10 = 0;
	regs->r11 = 0;

	status = tdxsim_pamt_get(hpa, TDXSIM_SHARED, OPID_RCX, &pamt);
	if (status)
		return status;

	regs->cx = pamt->type;
	regs->dx = tdxsim_pamt_owner(pamt);
	regs->r8 = TDXSIM_4K;
	if (pamt->type == PT_REG || pamt->type == PT_SEPT)
		regs->r9 = pamt->bepoch;

	tdxsim_pamt_put(pamt, TDXSIM_SHARED);
	return ST_SUCCESS;
}
