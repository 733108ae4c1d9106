// SPDX-License-Identifier: GPL-2.0
/*
 * tdxsim: extensions, and the Quoting that is one of them.
 *
 * The host asks for Quoting with TDH.SYS.CONFIG, gives the memory that this
 * needs with TDH.EXT.MEM.ADD, then TDH.EXT.INIT, then TDH.QUOTE.INIT. After an
 * update the memory is still there and the rest has to be done again.
 */
#include <linux/bitfield.h>
#include <linux/compiler.h>
#include <linux/mm.h>

#include "tdxsim.h"

/* HPA_LIST_INFO */
#define HPA_LIST_FIRST		GENMASK_ULL(11, 3)
#define HPA_LIST_PAGE		GENMASK_ULL(51, 12)
#define HPA_LIST_LAST		GENMASK_ULL(63, 55)
#define HPA_LIST_RESERVED	(GENMASK_ULL(54, 52) | GENMASK_ULL(2, 0))

bool tdxsim_step(struct tdxsim_steps *steps)
{
	if (steps->done < tdxsim_opt(steps)) {
		steps->done++;
		return true;
	}

	steps->done = 0;
	return false;
}

unsigned int tdxsim_steps_left(const struct tdxsim_steps *steps)
{
	unsigned int all = tdxsim_opt(steps);

	return all > steps->done ? all - steps->done : 0;
}

/*
 * Takes pages of the list in RCX until @nr were taken, the list is used up or
 * the pool is full. RCX tells how far it came, also when a page was refused.
 */
static u64 take_pages(struct pt_regs *regs, unsigned int nr)
{
	const u64 *list = tdxsim_va(regs->cx & HPA_LIST_PAGE);
	unsigned int first = FIELD_GET(HPA_LIST_FIRST, regs->cx);
	u64 status = ST_SUCCESS;

	while (nr-- && tdxsim_sys.ext_pages < tdxsim_sys.ext_pages_needed) {
		status = tdxsim_pamt_take(READ_ONCE(list[first]), PT_EXT, 0, OPID_RCX);
		if (status)
			break;
		tdxsim_sys.ext_pages++;
		first++;
	}

	regs->cx &= ~HPA_LIST_FIRST;
	regs->cx |= FIELD_PREP(HPA_LIST_FIRST, first & 511);
	return status;
}

static u64 ext_mem_add(struct pt_regs *regs)
{
	unsigned int first = FIELD_GET(HPA_LIST_FIRST, regs->cx);
	unsigned int last = FIELD_GET(HPA_LIST_LAST, regs->cx);
	unsigned int nr;
	bool more;
	u64 status;

	if (tdxsim_sys.ext_state == EXT_OFF)
		return ST_SYS_STATE_INCORRECT;
	if (tdxsim_sys.ext_state != EXT_NEEDS_MEM)
		return ST_EXT_MEM_POOL_FULL;
	if ((regs->cx & HPA_LIST_RESERVED) || first > last ||
	    !tdxsim_hpa_is_memory(regs->cx & HPA_LIST_PAGE, PAGE_SIZE, PAGE_SIZE))
		return tdxsim_status(ST_OPERAND_INVALID, OPID_RCX);

	/* Another list than that of the call that was interrupted? A new operation. */
	if (regs->cx != tdxsim_sys.ext_mem_next)
		tdxsim_sys.ext_mem_steps.done = 0;

	nr = (last + 1 - first) / (tdxsim_steps_left(&tdxsim_sys.ext_mem_steps) + 1);
	more = tdxsim_step(&tdxsim_sys.ext_mem_steps);

	status = take_pages(regs, nr);
	if (tdxsim_sys.ext_pages == tdxsim_sys.ext_pages_needed)
		tdxsim_sys.ext_state = EXT_NEEDS_INIT;

	if (!status && more && tdxsim_sys.ext_state == EXT_NEEDS_MEM) {
		tdxsim_sys.ext_mem_next = regs->cx;
		return ST_INTERRUPTED_RESUMABLE;
	}

	tdxsim_sys.ext_mem_next = 0;
	tdxsim_sys.ext_mem_steps.done = 0;
	return status;
}

static u64 ext_init(void)
{
	if (tdxsim_sys.ext_state != EXT_NEEDS_INIT)
		return ST_SYS_STATE_INCORRECT;

	if (tdxsim_step(&tdxsim_sys.ext_init_steps))
		return ST_INTERRUPTED_RESUMABLE;

	tdxsim_sys.ext_state = EXT_READY;
	return ST_SUCCESS;
}

static u64 quote_init(void)
{
	if (tdxsim_sys.quote_state != QUOTE_NEEDS_INIT || tdxsim_sys.ext_state != EXT_READY)
		return ST_SYS_STATE_INCORRECT;

	if (tdxsim_step(&tdxsim_sys.quote_init_steps))
		return ST_INTERRUPTED_RESUMABLE;

	tdxsim_sys.max_quote_size = tdxsim_opt(quote_size);
	tdxsim_sys.quote_key_generation++;
	/* Pairs with tdxsim_quote_check_ready(). */
	smp_store_release(&tdxsim_sys.quote_state, QUOTE_READY);
	return ST_SUCCESS;
}

u64 tdxsim_quote_check_ready(void)
{
	/* Pairs with quote_init(). */
	if (smp_load_acquire(&tdxsim_sys.quote_state) != QUOTE_READY)
		return ST_SYS_STATE_INCORRECT;

	return ST_SUCCESS;
}

/* RCX: HPA_LIST_INFO, in and out. */
u64 tdxsim_ext_mem_add(struct pt_regs *regs, u8 version)
{
	u64 status;

	if (!tdxsim_trylock(&tdxsim_sys.ext_lock, TDXSIM_EXCLUSIVE))
		return tdxsim_status(ST_OPERAND_BUSY, OPID_SYS);
	status = ext_mem_add(regs);
	tdxsim_unlock(&tdxsim_sys.ext_lock, TDXSIM_EXCLUSIVE);

	return status;
}

u64 tdxsim_ext_init(struct pt_regs *regs, u8 version)
{
	u64 status;

	if (!tdxsim_trylock(&tdxsim_sys.ext_lock, TDXSIM_EXCLUSIVE))
		return tdxsim_status(ST_OPERAND_BUSY, OPID_SYS);
	status = ext_init();
	tdxsim_unlock(&tdxsim_sys.ext_lock, TDXSIM_EXCLUSIVE);

	return status;
}

u64 tdxsim_quote_init(struct pt_regs *regs, u8 version)
{
	u64 status;

	if (!tdxsim_trylock(&tdxsim_sys.ext_lock, TDXSIM_EXCLUSIVE))
		return tdxsim_status(ST_OPERAND_BUSY, OPID_SYS);
	status = quote_init();
	tdxsim_unlock(&tdxsim_sys.ext_lock, TDXSIM_EXCLUSIVE);

	return status;
}
