// SPDX-License-Identifier: GPL-2.0
/*
 * tdxsim: private memory of TDs, Secure EPT and TLB tracking.
 */
#include <linux/bitfield.h>
#include <linux/mm.h>
#include <linux/spinlock.h>
#include <linux/string.h>

#include "td.h"

/*
 * Pages open on any CPU, and how often, are counted in the upper bits of their
 * BEPOCH. Held for the time of a page's scrambling, never across leaves.
 */
static DEFINE_RAW_SPINLOCK(open_lock);

#define PAMT_EPOCH	GENMASK_ULL(47, 0)
#define PAMT_OPEN	GENMASK_ULL(63, 48)

/* Plays the memory encryption: the same again takes it away. */
static void scramble(u64 key, u64 hpa)
{
	u64 *p = tdxsim_va(hpa);
	u64 s = key ^ hpa * 0xd1342543de82ef95ULL;
	unsigned int i;

	for (i = 0; i < PAGE_SIZE / sizeof(*p); i++) {
		u64 v;

		s += 0x9e3779b97f4a7c15ULL;
		v = (s ^ s >> 30) * 0xbf58476d1ce4e5b9ULL;
		p[i] ^= v ^ v >> 27;
	}
}

void tdxsim_page_open(struct tdxsim_td *td, u64 hpa)
{
	struct tdxsim_pamt *pamt = tdxsim_pamt_peek(hpa);

	raw_spin_lock(&open_lock);
	if (!FIELD_GET(PAMT_OPEN, pamt->bepoch))
		scramble(td->key, hpa);
	pamt->bepoch += FIELD_PREP(PAMT_OPEN, 1);
	raw_spin_unlock(&open_lock);
}

void tdxsim_page_close(struct tdxsim_td *td, u64 hpa)
{
	struct tdxsim_pamt *pamt = tdxsim_pamt_peek(hpa);

	raw_spin_lock(&open_lock);
	pamt->bepoch -= FIELD_PREP(PAMT_OPEN, 1);
	if (!FIELD_GET(PAMT_OPEN, pamt->bepoch))
		scramble(td->key, hpa);
	raw_spin_unlock(&open_lock);
}

static void set_bepoch(u64 hpa, u64 epoch)
{
	struct tdxsim_pamt *pamt = tdxsim_pamt_peek(hpa);

	raw_spin_lock(&open_lock);
	FIELD_MODIFY(PAMT_EPOCH, &pamt->bepoch, epoch);
	raw_spin_unlock(&open_lock);
}

static unsigned int nr_levels(const struct tdxsim_td *td)
{
	return FIELD_GET(GENMASK_ULL(5, 3), td->params.eptp_controls) + 1;
}

/* Find the entry for @gpa at @level. False: the walk ended before, at walk->level. */
bool tdxsim_sept_walk(struct tdxsim_td *td, u64 gpa, unsigned int level,
		      struct tdxsim_sept_walk *walk)
{
	u64 table = td->tdcx[0];
	unsigned int l;

	for (l = nr_levels(td) - 1; ; l--) {
		u64 *entries = tdxsim_va(table);
		u64 entry;

		walk->entry = &entries[gpa >> (PAGE_SHIFT + 9 * l) & 511];
		walk->level = l;
		if (l == level)
			return true;

		entry = READ_ONCE(*walk->entry);
		if ((entry & SEPT_STATE) != SEPT_TABLE)
			return false;
		table = entry & SEPT_HPA;
	}
}

/* RCX, RDX of an error: the entry, and its level and state. */
void tdxsim_sept_details(struct pt_regs *regs, const struct tdxsim_sept_walk *walk)
{
	u64 entry = READ_ONCE(*walk->entry);

	regs->cx = entry & SEPT_HPA;
	regs->dx = (entry & SEPT_STATE) << 8 | walk->level;
}

#define GPA_LEVEL	GENMASK_ULL(2, 0)

/*
 * What leaves on an entry of the Secure EPT have in common: RCX has GPA and
 * level, RDX the TDR.
 */
struct sept_op {
	struct tdxsim_td_ref ref;
	struct tdxsim_sept_walk walk;
	u64 gpa;
	unsigned int level;
	enum tdxsim_lock_mode tree_mode;
};

static u64 sept_op_begin(struct pt_regs *regs, struct sept_op *op, enum tdxsim_td_op td_op,
			 enum tdxsim_lock_mode td_mode, enum tdxsim_lock_mode tree_mode,
			 unsigned int min_level, unsigned int max_level)
{
	u64 gpa_level = regs->cx, tdr = regs->dx;
	u64 status;

	regs->cx = 0;
	regs->dx = 0;
	op->gpa = gpa_level & PAGE_MASK;
	op->level = FIELD_GET(GPA_LEVEL, gpa_level);
	op->tree_mode = tree_mode;

	status = tdxsim_td_get_op(tdr, td_mode, OPID_RDX, td_op, &op->ref);
	if (status)
		return status;

	if ((gpa_level & ~(PAGE_MASK | GPA_LEVEL)) || op->level < min_level ||
	    op->level > min(max_level, nr_levels(op->ref.td) - 1) ||
	    op->gpa >= tdxsim_td_shared_bit(op->ref.td) ||
	    !IS_ALIGNED(op->gpa, 1ULL << (PAGE_SHIFT + 9 * op->level))) {
		status = tdxsim_status(ST_OPERAND_INVALID, OPID_RCX);
		goto put;
	}

	if (!tdxsim_trylock(&op->ref.td->sept_lock, tree_mode)) {
		status = tdxsim_status(ST_OPERAND_BUSY, OPID_SEPT_TREE);
		goto put;
	}

	if (tdxsim_sept_walk(op->ref.td, op->gpa, op->level, &op->walk))
		return ST_SUCCESS;

	tdxsim_sept_details(regs, &op->walk);
	status = tdxsim_status(ST_EPT_WALK_FAILED, OPID_RCX);
	tdxsim_unlock(&op->ref.td->sept_lock, tree_mode);
put:
	tdxsim_td_put(&op->ref);
	return status;
}

static void sept_op_end(struct sept_op *op)
{
	tdxsim_unlock(&op->ref.td->sept_lock, op->tree_mode);
	tdxsim_td_put(&op->ref);
}

static u64 wrong_state(struct pt_regs *regs, struct sept_op *op)
{
	tdxsim_sept_details(regs, &op->walk);
	return tdxsim_status(ST_EPT_ENTRY_STATE_INCORRECT, OPID_RCX);
}

/* Put @hpa into a free entry. The tree may be held shared: others may try the same. */
static u64 fill_entry(struct pt_regs *regs, struct sept_op *op, u64 hpa,
		      enum tdxsim_sept_state state)
{
	u64 old = SEPT_FREE;

	if (try_cmpxchg(op->walk.entry, &old, hpa | state))
		return ST_SUCCESS;

	return wrong_state(regs, op);
}

/* Take a page of the host for an entry; give it back if somebody else was faster. */
static u64 take_and_fill(struct pt_regs *regs, struct sept_op *op, u64 hpa,
			 enum tdxsim_page_type type, enum tdxsim_sept_state state)
{
	struct tdxsim_td *td = op->ref.td;
	struct tdxsim_pamt *pamt;
	u64 status;

	if ((READ_ONCE(*op->walk.entry) & SEPT_STATE) != SEPT_FREE)
		return wrong_state(regs, op);

	status = tdxsim_pamt_get_type(hpa, PT_NDA, TDXSIM_EXCLUSIVE, OPID_R8, &pamt);
	if (status)
		return status;

	if (type == PT_SEPT)
		memset(tdxsim_va(hpa), 0, PAGE_SIZE);
	tdxsim_pamt_set(pamt, type, td->tdr);
	status = fill_entry(regs, op, hpa, state);
	if (status)
		tdxsim_pamt_set(pamt, PT_NDA, 0);
	else
		atomic_inc(&td->children);

	tdxsim_pamt_put(pamt, TDXSIM_EXCLUSIVE);
	return status;
}

/* RCX: GPA and level of the entry, RDX: TDR, R8: page for the table */
u64 tdxsim_mem_sept_add(struct pt_regs *regs, u8 version)
{
	struct sept_op op;
	u64 status;

	status = sept_op_begin(regs, &op, TD_INITIALIZED, TDXSIM_SHARED, TDXSIM_SHARED, 1, 4);
	if (status)
		return status;

	status = take_and_fill(regs, &op, regs->r8, PT_SEPT, SEPT_TABLE);
	sept_op_end(&op);
	return status;
}

/* RCX: GPA, RDX: TDR, R8: page, R9: page with the content */
u64 tdxsim_mem_page_add(struct pt_regs *regs, u8 version)
{
	u8 header[128] = "MEM.PAGE.ADD";
	struct sept_op op;
	u64 status;

	status = sept_op_begin(regs, &op, TD_INITIALIZED, TDXSIM_EXCLUSIVE, TDXSIM_EXCLUSIVE, 0, 0);
	if (status)
		return status;

	if (op.ref.td->op != TD_INITIALIZED) {
		status = ST_OP_STATE_INCORRECT;
		goto out;
	}
	if ((READ_ONCE(*op.walk.entry) & SEPT_STATE) != SEPT_FREE) {
		status = wrong_state(regs, &op);
		goto out;
	}
	if (!tdxsim_hpa_is_memory(regs->r9, PAGE_SIZE, PAGE_SIZE)) {
		status = tdxsim_status(ST_OPERAND_INVALID, OPID_R9);
		goto out;
	}

	status = take_and_fill(regs, &op, regs->r8, PT_REG, SEPT_MAPPED);
	if (status)
		goto out;

	/* It may be the same page. */
	memmove(tdxsim_va(regs->r8), tdxsim_va(regs->r9), PAGE_SIZE);
	scramble(op.ref.td->key, regs->r8);
	memcpy(header + 16, &op.gpa, sizeof(op.gpa));
	sha384_update(&op.ref.td->mr_ctx, header, sizeof(header));
out:
	sept_op_end(&op);
	return status;
}

/* RCX: GPA and level, RDX: TDR, R8: page */
u64 tdxsim_mem_page_aug(struct pt_regs *regs, u8 version)
{
	struct sept_op op;
	u64 status;

	status = sept_op_begin(regs, &op, TD_RUNNABLE, TDXSIM_SHARED, TDXSIM_SHARED, 0, 0);
	if (status)
		return status;

	status = take_and_fill(regs, &op, regs->r8, PT_REG, SEPT_PENDING);
	sept_op_end(&op);
	return status;
}

/* RCX: GPA and level, RDX: TDR */
u64 tdxsim_mem_range_block(struct pt_regs *regs, u8 version)
{
	struct sept_op op;
	u64 status, entry;

	status = sept_op_begin(regs, &op, TD_INITIALIZED, TDXSIM_SHARED, TDXSIM_EXCLUSIVE, 0, 0);
	if (status)
		return status;

	entry = READ_ONCE(*op.walk.entry);
	switch (entry & SEPT_STATE) {
	case SEPT_MAPPED:
	case SEPT_PENDING:
		WRITE_ONCE(*op.walk.entry, (entry & SEPT_HPA) |
			   ((entry & SEPT_STATE) == SEPT_MAPPED ? SEPT_BLOCKED :
								 SEPT_PENDING_BLOCKED));
		/* Who enters in a later epoch has seen the entry blocked. */
		smp_mb();
		set_bepoch(entry & SEPT_HPA, READ_ONCE(op.ref.td->epoch));
		break;
	case SEPT_BLOCKED:
	case SEPT_PENDING_BLOCKED:
		tdxsim_sept_details(regs, &op.walk);
		status = tdxsim_status(ST_GPA_RANGE_ALREADY_BLOCKED, OPID_RCX);
		break;
	default:
		status = wrong_state(regs, &op);
	}

	sept_op_end(&op);
	return status;
}

/* RCX: TDR */
u64 tdxsim_mem_track(struct pt_regs *regs, u8 version)
{
	struct tdxsim_td_ref ref;
	struct tdxsim_td *td;
	u64 status;

	status = tdxsim_td_get_op(regs->cx, TDXSIM_SHARED, OPID_RCX, TD_INITIALIZED, &ref);
	if (status)
		return status;

	td = ref.td;
	if (!tdxsim_trylock(&td->epoch_lock, TDXSIM_EXCLUSIVE)) {
		status = tdxsim_status(ST_OPERAND_BUSY, OPID_TD_EPOCH);
	} else {
		if (atomic_read(&td->running[(td->epoch - 1) & 1]))
			status = ST_PREVIOUS_TLB_EPOCH_BUSY;
		else
			WRITE_ONCE(td->epoch, td->epoch + 1);
		tdxsim_unlock(&td->epoch_lock, TDXSIM_EXCLUSIVE);
	}

	tdxsim_td_put(&ref);
	return status;
}

/* Can no CPU have a translation from before the page was blocked? */
static bool is_tracked(struct tdxsim_td *td, u64 hpa)
{
	u64 bepoch = FIELD_GET(PAMT_EPOCH, READ_ONCE(tdxsim_pamt_peek(hpa)->bepoch));
	u64 epoch = READ_ONCE(td->epoch);

	if (bepoch >= epoch)
		return false;

	return bepoch + 1 < epoch || !atomic_read(&td->running[bepoch & 1]);
}

static u64 check_removable(struct pt_regs *regs, struct sept_op *op, u64 entry)
{
	/* Before finalization no vCPU has run: nothing to block or track. */
	bool tracking = op->ref.td->op == TD_RUNNABLE;

	switch (entry & SEPT_STATE) {
	case SEPT_BLOCKED:
	case SEPT_PENDING_BLOCKED:
		if (tracking && !is_tracked(op->ref.td, entry & SEPT_HPA))
			return tdxsim_status(ST_TLB_TRACKING_NOT_DONE, OPID_RCX);
		return ST_SUCCESS;
	case SEPT_MAPPED:
	case SEPT_PENDING:
		if (!tracking)
			return ST_SUCCESS;
		tdxsim_sept_details(regs, &op->walk);
		return tdxsim_status(ST_GPA_RANGE_NOT_BLOCKED, OPID_RCX);
	default:
		return wrong_state(regs, op);
	}
}

/* RCX: GPA and level, RDX: TDR. RCX out: the page. */
u64 tdxsim_mem_page_remove(struct pt_regs *regs, u8 version)
{
	struct tdxsim_pamt *pamt;
	struct sept_op op;
	u64 status, entry, hpa;

	status = sept_op_begin(regs, &op, TD_INITIALIZED, TDXSIM_SHARED, TDXSIM_SHARED, 0, 0);
	if (status)
		return status;

	entry = READ_ONCE(*op.walk.entry);
	status = check_removable(regs, &op, entry);
	if (status)
		goto out;

	/* Two CPUs may remove it at the same time: who has the page's metadata does it. */
	hpa = entry & SEPT_HPA;
	status = tdxsim_pamt_get_type(hpa, PT_REG, TDXSIM_EXCLUSIVE, OPID_RCX, &pamt);
	if (status)
		goto out;

	if (try_cmpxchg(op.walk.entry, &entry, SEPT_FREE)) {
		memset(tdxsim_va(hpa), 0, PAGE_SIZE);
		tdxsim_pamt_set(pamt, PT_NDA, 0);
		atomic_dec(&op.ref.td->children);
		regs->cx = hpa;
	} else {
		status = wrong_state(regs, &op);
	}
	tdxsim_pamt_put(pamt, TDXSIM_EXCLUSIVE);
out:
	sept_op_end(&op);
	return status;
}

/* Two vCPUs may accept a page at the same time; one of them clears it. */
static DEFINE_RAW_SPINLOCK(accept_lock);

/* Details are the level of the entry; what is neither is an EPT violation. */
static u64 check_accept(u64 entry, unsigned int level, bool *violation)
{
	*violation = false;
	switch (entry & SEPT_STATE) {
	case SEPT_MAPPED:
		return tdxsim_status(ST_PAGE_ALREADY_ACCEPTED, level);
	case SEPT_TABLE:
		return tdxsim_status(ST_PAGE_SIZE_MISMATCH, level);
	case SEPT_PENDING:
		return ST_SUCCESS;
	default:
		*violation = true;
		return ST_SUCCESS;
	}
}

u64 tdxsim_sept_accept(struct tdxsim_td *td, u64 gpa, unsigned int level, bool *violation)
{
	struct tdxsim_sept_walk walk;
	u64 status, hpa;

	if (!tdxsim_sept_walk(td, gpa, level, &walk)) {
		*violation = true;
		return ST_SUCCESS;
	}

	status = check_accept(READ_ONCE(*walk.entry), level, violation);
	if (status || *violation)
		return status;

	/* So that it is not blocked meanwhile. */
	if (!tdxsim_trylock(&td->sept_lock, TDXSIM_SHARED))
		return tdxsim_status(ST_OPERAND_BUSY, OPID_SEPT_TREE);

	/* Another vCPU may have been faster. */
	raw_spin_lock(&accept_lock);
	status = check_accept(READ_ONCE(*walk.entry), level, violation);
	if (!status && !*violation) {
		hpa = *walk.entry & SEPT_HPA;
		memset(tdxsim_va(hpa), 0, PAGE_SIZE);
		scramble(td->key, hpa);
		WRITE_ONCE(*walk.entry, hpa | SEPT_MAPPED);
	}

	raw_spin_unlock(&accept_lock);
	tdxsim_unlock(&td->sept_lock, TDXSIM_SHARED);
	return status;
}
