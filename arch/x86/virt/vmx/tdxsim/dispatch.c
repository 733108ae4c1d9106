// SPDX-License-Identifier: GPL-2.0
/*
 * tdxsim: from a SEAMCALL to the function that answers it.
 */
#include <linux/bitfield.h>
#include <linux/errno.h>
#include <linux/percpu.h>
#include <linux/string.h>
#include <asm/processor-flags.h>

#include "td.h"

struct tdxsim_stats tdxsim_stats;

#define INITIALIZED	(BIT(SYS_INIT_DONE) | BIT(SYS_CONFIG_DONE) | BIT(SYS_READY))

/*
 * In the order of the leaf numbers. What a leaf does is in the section of its
 * name in the TDX Module ABI Reference Specification, "TDH.MNG.CREATE Leaf" and
 * so on. TDH.EXT.* and TDH.QUOTE.*, and version 1 of TDH.SYS.CONFIG and
 * TDH.SYS.UPDATE, are too new for the public one: they follow what was said
 * of them on the mailing lists. SEAMLDR.* are in the SEAM Loader (SEAMLDR)
 * Interface Specification, as SEAMLDR.INFO and SEAMLDR.INSTALL.
 */
const struct tdxsim_leaf_desc tdxsim_leaves[TDXSIM_NR_LEAVES] = {
	[LEAF_VP_ENTER] = {
		.name = "TDH.VP.ENTER",
		.handler = tdxsim_vp_enter,
		.states = BIT(SYS_READY),
	},
	[LEAF_MNG_ADDCX] = {
		.name = "TDH.MNG.ADDCX",
		.handler = tdxsim_mng_addcx,
		.states = BIT(SYS_READY),
	},
	[LEAF_MEM_PAGE_ADD] = {
		.name = "TDH.MEM.PAGE.ADD",
		.handler = tdxsim_mem_page_add,
		.states = BIT(SYS_READY),
	},
	[LEAF_MEM_SEPT_ADD] = {
		.name = "TDH.MEM.SEPT.ADD",
		.handler = tdxsim_mem_sept_add,
		.states = BIT(SYS_READY),
	},
	[LEAF_VP_ADDCX] = {
		.name = "TDH.VP.ADDCX",
		.handler = tdxsim_vp_addcx,
		.states = BIT(SYS_READY),
	},
	[LEAF_MEM_PAGE_AUG] = {
		.name = "TDH.MEM.PAGE.AUG",
		.handler = tdxsim_mem_page_aug,
		.states = BIT(SYS_READY),
	},
	[LEAF_MEM_RANGE_BLOCK] = {
		.name = "TDH.MEM.RANGE.BLOCK",
		.handler = tdxsim_mem_range_block,
		.states = BIT(SYS_READY),
	},
	[LEAF_MNG_KEY_CONFIG] = {
		.name = "TDH.MNG.KEY.CONFIG",
		.handler = tdxsim_mng_key_config,
		.states = BIT(SYS_READY),
	},
	[LEAF_MNG_CREATE] = {
		.name = "TDH.MNG.CREATE",
		.handler = tdxsim_mng_create,
		.states = BIT(SYS_READY),
	},
	[LEAF_VP_CREATE] = {
		.name = "TDH.VP.CREATE",
		.handler = tdxsim_vp_create,
		.states = BIT(SYS_READY),
	},
	[LEAF_MNG_RD] = {
		.name = "TDH.MNG.RD",
		.handler = tdxsim_mng_rd,
		.states = BIT(SYS_READY),
	},
	[LEAF_MR_EXTEND] = {
		.name = "TDH.MR.EXTEND",
		.handler = tdxsim_mr_extend,
		.states = BIT(SYS_READY),
	},
	[LEAF_MR_FINALIZE] = {
		.name = "TDH.MR.FINALIZE",
		.handler = tdxsim_mr_finalize,
		.states = BIT(SYS_READY),
	},
	[LEAF_VP_FLUSH] = {
		.name = "TDH.VP.FLUSH",
		.handler = tdxsim_vp_flush,
		.states = BIT(SYS_READY),
	},
	[LEAF_MNG_VPFLUSHDONE] = {
		.name = "TDH.MNG.VPFLUSHDONE",
		.handler = tdxsim_mng_vpflushdone,
		.states = BIT(SYS_READY),
	},
	[LEAF_MNG_KEY_FREEID] = {
		.name = "TDH.MNG.KEY.FREEID",
		.handler = tdxsim_mng_key_freeid,
		.states = BIT(SYS_READY),
	},
	[LEAF_MNG_INIT] = {
		.name = "TDH.MNG.INIT",
		.handler = tdxsim_mng_init,
		.states = BIT(SYS_READY),
	},
	[LEAF_VP_INIT] = {
		.name = "TDH.VP.INIT",
		.handler = tdxsim_vp_init,
		.max_version = 1,
		.states = BIT(SYS_READY),
	},
	[LEAF_PHYMEM_PAGE_RDMD] = {
		.name = "TDH.PHYMEM.PAGE.RDMD",
		.handler = tdxsim_phymem_page_rdmd,
		.states = BIT(SYS_READY),
	},
	[LEAF_VP_RD] = {
		.name = "TDH.VP.RD",
		.handler = tdxsim_vp_rd,
		.states = BIT(SYS_READY),
	},
	[LEAF_PHYMEM_PAGE_RECLAIM] = {
		.name = "TDH.PHYMEM.PAGE.RECLAIM",
		.handler = tdxsim_phymem_page_reclaim,
		.states = BIT(SYS_READY),
	},
	[LEAF_MEM_PAGE_REMOVE] = {
		.name = "TDH.MEM.PAGE.REMOVE",
		.handler = tdxsim_mem_page_remove,
		.states = BIT(SYS_READY),
	},
	[LEAF_SYS_KEY_CONFIG] = {
		.name = "TDH.SYS.KEY.CONFIG",
		.handler = tdxsim_sys_key_config,
		.states = BIT(SYS_CONFIG_DONE),
		.wrong_state = ST_SYS_KEY_CONFIG_NOT_PENDING,
		.lock = SYS_LOCK_EXCLUSIVE,
	},
	[LEAF_SYS_INIT] = {
		.name = "TDH.SYS.INIT",
		.handler = tdxsim_sys_init,
		.states = BIT(SYS_INIT_PENDING),
		.wrong_state = ST_SYS_INIT_NOT_PENDING,
		.lock = SYS_LOCK_EXCLUSIVE,
		.before_lp_init = true,
	},
	[LEAF_SYS_RD] = {
		.name = "TDH.SYS.RD",
		.handler = tdxsim_sys_rd,
		.states = INITIALIZED,
		.wrong_state = ST_SYS_LP_INIT_NOT_DONE,
	},
	[LEAF_SYS_LP_INIT] = {
		.name = "TDH.SYS.LP.INIT",
		.handler = tdxsim_sys_lp_init,
		.states = BIT(SYS_INIT_DONE),
		.wrong_state = ST_SYS_LP_INIT_NOT_PENDING,
		.before_lp_init = true,
	},
	[LEAF_SYS_TDMR_INIT] = {
		.name = "TDH.SYS.TDMR.INIT",
		.handler = tdxsim_sys_tdmr_init,
		.states = BIT(SYS_READY),
	},
	[LEAF_MEM_TRACK] = {
		.name = "TDH.MEM.TRACK",
		.handler = tdxsim_mem_track,
		.states = BIT(SYS_READY),
	},
	[LEAF_PHYMEM_CACHE_WB] = {
		.name = "TDH.PHYMEM.CACHE.WB",
		.handler = tdxsim_phymem_cache_wb,
		.states = BIT(SYS_READY),
	},
	[LEAF_PHYMEM_PAGE_WBINVD] = {
		.name = "TDH.PHYMEM.PAGE.WBINVD",
		.handler = tdxsim_phymem_page_wbinvd,
		.states = BIT(SYS_READY),
	},
	[LEAF_VP_WR] = {
		.name = "TDH.VP.WR",
		.handler = tdxsim_vp_wr,
		.states = BIT(SYS_READY),
	},
	[LEAF_SYS_CONFIG] = {
		.name = "TDH.SYS.CONFIG",
		.handler = tdxsim_sys_config,
		.max_version = 1,
		.states = BIT(SYS_INIT_DONE),
		.wrong_state = ST_SYS_CONFIG_NOT_PENDING,
		.lock = SYS_LOCK_EXCLUSIVE,
	},
	[LEAF_SYS_SHUTDOWN] = {
		.name = "TDH.SYS.SHUTDOWN",
		.handler = tdxsim_sys_shutdown,
		.states = BIT(SYS_READY),
		.lock = SYS_LOCK_EXCLUSIVE,
	},
	[LEAF_SYS_UPDATE] = {
		.name = "TDH.SYS.UPDATE",
		.handler = tdxsim_sys_update,
		.max_version = 1,
		.states = BIT(SYS_INIT_DONE),
		.wrong_state = ST_SYS_STATE_INCORRECT,
		.lock = SYS_LOCK_EXCLUSIVE,
	},
	[LEAF_EXT_INIT] = {
		.name = "TDH.EXT.INIT",
		.handler = tdxsim_ext_init,
		.states = BIT(SYS_READY),
		.needs_feature = TDXSIM_FEATURE_EXT,
	},
	[LEAF_EXT_MEM_ADD] = {
		.name = "TDH.EXT.MEM.ADD",
		.handler = tdxsim_ext_mem_add,
		.states = BIT(SYS_READY),
		.needs_feature = TDXSIM_FEATURE_EXT,
	},
	[LEAF_SYS_DISABLE] = {
		.name = "TDH.SYS.DISABLE",
		.handler = tdxsim_sys_disable,
		.states = TDXSIM_ANY_STATE & ~BIT(SYS_DISABLED),
		.lock = SYS_LOCK_EXCLUSIVE,
		.before_lp_init = true,
	},
	[LEAF_QUOTE_GET] = {
		.name = "TDH.QUOTE.GET",
		.handler = tdxsim_quote_get,
		.states = BIT(SYS_READY),
		.needs_feature = TDXSIM_FEATURE_QUOTING,
	},
	[LEAF_QUOTE_INIT] = {
		.name = "TDH.QUOTE.INIT",
		.handler = tdxsim_quote_init,
		.states = BIT(SYS_READY),
		.needs_feature = TDXSIM_FEATURE_QUOTING,
	},
	[LEAF_SEAMLDR_INFO] = {
		.name = "SEAMLDR.INFO",
		.handler = tdxsim_seamldr_info,
		.states = TDXSIM_ANY_STATE,
		.before_lp_init = true,
	},
	[LEAF_SEAMLDR_INSTALL] = {
		.name = "SEAMLDR.INSTALL",
		.handler = tdxsim_seamldr_install,
		.states = TDXSIM_ANY_STATE,
		.lock = SYS_LOCK_EXCLUSIVE,
		.before_lp_init = true,
	},
};

int tdxsim_leaf_by_name(const char *name, size_t len)
{
	int i;

	for (i = 0; i < TDXSIM_NR_LEAVES; i++) {
		const char *known = tdxsim_leaves[i].name;

		if (known && strlen(known) == len && !strncasecmp(known, name, len))
			return i;
	}

	return -ENOENT;
}

static u64 check_state(const struct tdxsim_leaf_desc *desc)
{
	enum tdxsim_sys_state state = READ_ONCE(tdxsim_sys.state);

	if (!(desc->states & BIT(state))) {
		if (state == SYS_SHUTDOWN || state == SYS_DISABLED)
			return ST_SYS_SHUTDOWN;
		return desc->wrong_state ?: ST_SYS_NOT_READY;
	}

	if (!desc->before_lp_init && !this_cpu_read(tdxsim_lp.lp_init))
		return ST_SYS_LP_INIT_NOT_DONE;

	return ST_SUCCESS;
}

static u64 run_leaf(const struct tdxsim_leaf_desc *desc, struct pt_regs *regs, u8 version)
{
	enum tdxsim_lock_mode mode = desc->lock == SYS_LOCK_EXCLUSIVE ? TDXSIM_EXCLUSIVE :
								       TDXSIM_SHARED;
	u64 status;

	if (!tdxsim_trylock(&tdxsim_sys.lock, mode))
		return ST_SYS_BUSY;

	status = check_state(desc);
	if (!status) {
		if (desc->needs_feature & ~tdxsim_sys.offered)
			status = tdxsim_status(ST_OPERAND_INVALID, OPID_RAX);
		else
			status = desc->handler(regs, version);
	}

	tdxsim_unlock(&tdxsim_sys.lock, mode);
	return status;
}

/* What P-SEAMLDR has other words for than the module. */
static u64 seamldr_status(u64 status)
{
	if (status == tdxsim_status(ST_OPERAND_INVALID, OPID_RAX))
		return ST_SEAMLDR_EBADPARAM;

	return status;
}

static u64 call_leaf(struct pt_regs *regs, unsigned int leaf)
{
	u8 version = FIELD_GET(TDXSIM_RAX_VERSION, regs->ax);
	const struct tdxsim_leaf_desc *desc = &tdxsim_leaves[leaf];
	u64 field = leaf == LEAF_SYS_RD ? regs->dx : 0;
	u64 status, value;

	atomic64_inc(&tdxsim_stats.calls[leaf]);

	if ((regs->ax & TDXSIM_RAX_RESERVED) || version > desc->max_version ||
	    version < desc->min_version)
		status = tdxsim_status(ST_OPERAND_INVALID, OPID_RAX);
	else if (!tdxsim_fault(leaf, field, &status))
		status = run_leaf(desc, regs, version);

	if (!status && tdxsim_lie(leaf, field, &value)) {
		if (leaf == LEAF_SYS_RD)
			regs->r8 = value;
		else
			regs->cx = value;
	}

	if (tdxsim_failed(status) && status != ST_INTERRUPTED_RESUMABLE)
		atomic64_inc(&tdxsim_stats.failed[leaf]);

	return status;
}

void tdxsim_seamcall(struct pt_regs *regs)
{
	bool seamldr = regs->ax & TDXSIM_RAX_SEAMLDR;
	unsigned int leaf = FIELD_GET(TDXSIM_RAX_LEAF, regs->ax);
	u64 status;

	regs->flags &= ~(X86_EFLAGS_CF | X86_EFLAGS_PF | X86_EFLAGS_AF |
			 X86_EFLAGS_ZF | X86_EFLAGS_SF | X86_EFLAGS_OF);

	/* VMfailInvalid: there is none that could be called. */
	if (seamldr ? !tdxsim_opt(update) : !tdxsim_module_is_loaded()) {
		regs->flags |= X86_EFLAGS_CF;
		return;
	}

	if (leaf >= (seamldr ? TDXSIM_NR_LEAVES - TDXSIM_NR_MODULE_LEAVES :
			       TDXSIM_NR_MODULE_LEAVES))
		leaf = TDXSIM_NR_LEAVES;
	else if (seamldr)
		leaf += TDXSIM_NR_MODULE_LEAVES;

	if (leaf < TDXSIM_NR_LEAVES && tdxsim_leaves[leaf].handler)
		status = call_leaf(regs, leaf);
	else
		status = tdxsim_status(ST_OPERAND_INVALID, OPID_RAX);

	if (seamldr) {
		/* P-SEAMLDR runs on one CPU at a time, SEAMCALL sees to that. */
		if (status == ST_SYS_BUSY) {
			regs->flags |= X86_EFLAGS_CF;
			return;
		}
		status = seamldr_status(status);
	}

	regs->ax = status;
}
