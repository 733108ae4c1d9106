// SPDX-License-Identifier: GPL-2.0
/*
 * tdxsim: Trust Domain Memory Regions, as TDH.SYS.CONFIG checks and
 * TDH.SYS.TDMR.INIT initializes them.
 */
#include <linux/align.h>
#include <linux/limits.h>
#include <linux/minmax.h>
#include <linux/overflow.h>
#include <linux/pfn.h>
#include <linux/sizes.h>
#include <linux/string.h>

#include "tdxsim.h"

/* TDMR_INFO */
struct tdmr_rsvd_info {
	u64 offset;
	u64 size;
} __packed;

struct tdmr_pamt_info {
	u64 base;
	u64 size;
} __packed;

struct tdmr_info {
	u64 base;
	u64 size;
	struct tdmr_pamt_info pamt[TDXSIM_NR_SIZES];	/* 1G, 2M, 4K */
	struct tdmr_rsvd_info rsvd[TDXSIM_MAX_RSVD];
} __packed;

static_assert(sizeof(struct tdmr_info) == 320);

#define TDMR_INFO_ALIGN		512

/* Memory that one TDH.SYS.TDMR.INIT initializes: less than the 1 GB in which its progress shows. */
#define TDMR_INIT_STEP		SZ_256M

static const u64 pamt_page_size[TDXSIM_NR_SIZES] = { SZ_4K, SZ_2M, SZ_1G };

/* Details of a TDMR status: index of the TDMR, and of what is wrong in it. */
static u64 tdmr_status(u64 status, unsigned int tdmr, unsigned int what, unsigned int other)
{
	return status | other << 16 | what << 8 | tdmr;
}

static bool overlap(const struct tdxsim_range *a, const struct tdxsim_range *b)
{
	return a->start < b->end && b->start < a->end;
}

static bool to_range(struct tdxsim_range *range, u64 base, u64 size)
{
	range->start = base;
	return !check_add_overflow(base, size, &range->end);
}

/* @base and the last byte are below the end of the address space, without KeyID. */
static bool range_hpa_ok(const struct tdxsim_range *range, u64 align)
{
	return tdxsim_hpa_ok(range->start, align) && IS_ALIGNED(range->end, align) &&
	       tdxsim_hpa_ok(range->end - 1, 1);
}

static u64 check_range(struct tdxsim_tdmr *tdmr, const struct tdmr_info *info, unsigned int i)
{
	const struct tdxsim_range *prev = i ? &tdmr[-1].range : NULL;

	if (!to_range(&tdmr->range, info->base, info->size))
		return tdmr_status(ST_INVALID_TDMR, i, 0, 0);

	/* In ascending order, so an overlap is a wrong order. */
	if (prev && tdmr->range.start < prev->end)
		return tdmr_status(ST_NON_ORDERED_TDMR, i, 0, 0);

	if (!info->size || !range_hpa_ok(&tdmr->range, SZ_1G))
		return tdmr_status(ST_INVALID_TDMR, i, 0, 0);

	return ST_SUCCESS;
}

static u64 check_reserved(struct tdxsim_tdmr *tdmr, const struct tdmr_info *info, unsigned int i)
{
	u64 prev_end = 0;
	unsigned int j;

	tdmr->nr_rsvd = 0;
	for (j = 0; j < TDXSIM_MAX_RSVD; j++) {
		const struct tdmr_rsvd_info *rsvd = &info->rsvd[j];
		struct tdxsim_range r;

		if (!rsvd->size)
			continue;
		/* An area of size 0 ends the list. */
		if (j != tdmr->nr_rsvd)
			return tdmr_status(ST_NON_ORDERED_RESERVED_IN_TDMR, i, j - 1, 0);
		if (!to_range(&r, rsvd->offset, rsvd->size))
			return tdmr_status(ST_INVALID_RESERVED_IN_TDMR, i, j, 0);
		if (r.start < prev_end)
			return tdmr_status(ST_NON_ORDERED_RESERVED_IN_TDMR, i, j, 0);
		if (!IS_ALIGNED(r.start | r.end, SZ_4K) || r.end > info->size)
			return tdmr_status(ST_INVALID_RESERVED_IN_TDMR, i, j, 0);

		prev_end = r.end;
		tdmr->rsvd[tdmr->nr_rsvd].start = tdmr->range.start + r.start;
		tdmr->rsvd[tdmr->nr_rsvd].end = tdmr->range.start + r.end;
		tdmr->nr_rsvd++;
	}

	return ST_SUCCESS;
}

static u64 check_pamt_sizes(struct tdxsim_tdmr *tdmr, const struct tdmr_info *info, unsigned int i)
{
	unsigned int sz;

	for (sz = 0; sz < TDXSIM_NR_SIZES; sz++) {
		const struct tdmr_pamt_info *pamt = &info->pamt[TDXSIM_1G - sz];
		u64 needed = info->size / pamt_page_size[sz] * TDXSIM_PAMT_ENTRY_SIZE;

		if (!to_range(&tdmr->pamt[sz], pamt->base, pamt->size) || pamt->size < needed ||
		    !range_hpa_ok(&tdmr->pamt[sz], SZ_4K))
			return tdmr_status(ST_INVALID_PAMT, i, sz, 0);
	}

	return ST_SUCCESS;
}

typedef bool (*usable_fn_t)(const struct tdxsim_range *usable, const void *arg);

/* Is @fn true for each part of @tdmr that is not reserved? */
static bool all_usable(const struct tdxsim_tdmr *tdmr, usable_fn_t fn, const void *arg)
{
	struct tdxsim_range usable = { .start = tdmr->range.start };
	unsigned int j;

	for (j = 0; j <= tdmr->nr_rsvd; j++) {
		usable.end = j < tdmr->nr_rsvd ? tdmr->rsvd[j].start : tdmr->range.end;
		if (usable.end > usable.start && !fn(&usable, arg))
			return false;
		if (j < tdmr->nr_rsvd)
			usable.start = tdmr->rsvd[j].end;
	}

	return true;
}

static bool usable_in_cmr(const struct tdxsim_range *usable, const void *unused)
{
	return tdxsim_in_cmr(usable->start, usable->end);
}

static bool usable_apart_from(const struct tdxsim_range *usable, const void *pamt)
{
	return !overlap(usable, pamt);
}

/* PAMTs lie in no other PAMT and in no usable part of any TDMR, checked for TDMRs 0 to @i. */
static u64 check_pamt_overlaps(struct tdxsim_tdmr *tdmrs, unsigned int i)
{
	unsigned int j, a, b;

	for (j = 0; j <= i; j++) {
		for (a = 0; a < TDXSIM_NR_SIZES; a++) {
			const struct tdxsim_range *mine = &tdmrs[i].pamt[a];

			for (b = 0; b < TDXSIM_NR_SIZES; b++) {
				if ((i != j || a != b) && overlap(mine, &tdmrs[j].pamt[b]))
					return tdmr_status(ST_PAMT_OVERLAP, i, a, j);
			}
			if (!all_usable(&tdmrs[j], usable_apart_from, mine))
				return tdmr_status(ST_PAMT_OVERLAP, i, a, j);
			if (!all_usable(&tdmrs[i], usable_apart_from, &tdmrs[j].pamt[a]))
				return tdmr_status(ST_PAMT_OVERLAP, j, a, i);
		}
	}

	return ST_SUCCESS;
}

static u64 check_cmrs(const struct tdxsim_tdmr *tdmr, unsigned int i)
{
	unsigned int sz;

	for (sz = 0; sz < TDXSIM_NR_SIZES; sz++) {
		if (!tdxsim_in_cmr(tdmr->pamt[sz].start, tdmr->pamt[sz].end))
			return tdmr_status(ST_PAMT_OUTSIDE_CMRS, i, sz, 0);
	}

	if (!all_usable(tdmr, usable_in_cmr, NULL))
		return tdmr_status(ST_TDMR_OUTSIDE_CMRS, i, 0, 0);

	return ST_SUCCESS;
}

u64 tdxsim_tdmrs_config(const u64 *tdmr_info_pas, unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < nr; i++) {
		struct tdxsim_tdmr *tdmr = &tdxsim_sys.tdmrs[i];
		u64 pa = READ_ONCE(tdmr_info_pas[i]);
		struct tdmr_info info;
		u64 status;

		if (!tdxsim_hpa_is_memory(pa, TDMR_INFO_ALIGN, sizeof(info)))
			return tdxsim_status(ST_OPERAND_INVALID, OPID_RCX);
		memcpy(&info, tdxsim_va(pa), sizeof(info));

		status = check_range(tdmr, &info, i) ?:
			 check_reserved(tdmr, &info, i) ?:
			 check_pamt_sizes(tdmr, &info, i) ?:
			 check_pamt_overlaps(tdxsim_sys.tdmrs, i) ?:
			 check_cmrs(tdmr, i);
		if (status)
			return status;

		tdmr->next = tdmr->range.start;
	}

	tdxsim_sys.nr_tdmrs = nr;
	return ST_SUCCESS;
}

static void init_step(struct tdxsim_tdmr *tdmr)
{
	struct tdxsim_pamt *pamts = tdxsim_va(tdmr->pamt[TDXSIM_4K].start);
	u64 end = min(tdmr->next + TDMR_INIT_STEP, tdmr->range.end);
	unsigned int r = 0, rsvd = 0;
	u64 hpa;

	for (hpa = tdmr->next; hpa < end; hpa += SZ_4K) {
		struct tdxsim_pamt *pamt = &pamts[PHYS_PFN(hpa - tdmr->range.start)];

		while (r < tdmr->nr_rsvd && hpa >= tdmr->rsvd[r].end)
			r++;

		memset(pamt, 0, sizeof(*pamt));
		if (r < tdmr->nr_rsvd && hpa >= tdmr->rsvd[r].start) {
			pamt->type = PT_RSVD;
			rsvd++;
		}
	}
	atomic_add(rsvd, &tdxsim_stats.pages[PT_RSVD]);
	atomic_add(PHYS_PFN(end - tdmr->next) - rsvd, &tdxsim_stats.pages[PT_NDA]);

	/* Pairs with tdxsim_pamt_peek(). */
	smp_store_release(&tdmr->next, end);
}

/* RCX: base of a TDMR. Out: RDX, up to where it can be used. */
u64 tdxsim_sys_tdmr_init(struct pt_regs *regs, u8 version)
{
	struct tdxsim_tdmr *tdmr = NULL;
	u64 status = ST_SUCCESS;
	unsigned int i;

	regs->dx = 0;

	for (i = 0; i < tdxsim_sys.nr_tdmrs; i++) {
		if (regs->cx == tdxsim_sys.tdmrs[i].range.start)
			tdmr = &tdxsim_sys.tdmrs[i];
	}
	if (!tdmr)
		return tdxsim_status(ST_OPERAND_INVALID, OPID_RCX);

	if (!tdxsim_trylock(&tdmr->lock, TDXSIM_EXCLUSIVE))
		return tdxsim_status(ST_OPERAND_BUSY, OPID_RCX);

	if (tdmr->next >= tdmr->range.end) {
		status = ST_TDMR_ALREADY_INITIALIZED;
	} else {
		init_step(tdmr);
		regs->dx = ALIGN_DOWN(tdmr->next, SZ_1G);
	}

	tdxsim_unlock(&tdmr->lock, TDXSIM_EXCLUSIVE);
	return status;
}
