// SPDX-License-Identifier: GPL-2.0
/*
 * tdxsim: the TDX module's guest side, TDCALL.
 */
#include <linux/bitfield.h>
#include <linux/mm.h>
#include <linux/string.h>
#include <linux/vmalloc.h>
#include <asm/cpuid/api.h>

#include "td.h"

#define TDG_VP_VMCALL		0
#define TDG_VP_INFO		1
#define TDG_MR_RTMR_EXTEND	2
#define TDG_VP_VEINFO_GET	3
#define TDG_MR_REPORT		4
#define TDG_MEM_PAGE_ACCEPT	6
#define TDG_VM_RD		7
#define TDG_VM_WR		8

#define TDCALL_LEN		4
#define EXIT_TDCALL		77

/* TDREPORT_STRUCT */
struct report {
	u8 type[4];			/* 0x81: TDX */
	u8 reserved1[12];
	u8 cpusvn[16];
	u8 tee_tcb_info_hash[48];
	u8 tee_info_hash[48];
	u8 reportdata[64];
	u8 reserved2[32];
	u8 mac[32];
	u8 tee_tcb_info[239];
	u8 reserved3[17];
	u64 attributes;
	u64 xfam;
	u8 mrtd[48];
	u8 mrconfigid[48];
	u8 mrowner[48];
	u8 mrownerconfig[48];
	u8 rtmr[4][48];
	u8 servtd_hash[48];
	u8 reserved4[64];
} __packed;

static_assert(sizeof(struct report) == 1024);
static_assert(offsetof(struct report, reportdata) == 128);
static_assert(offsetof(struct report, attributes) == 512);

static enum tdxsim_run done(struct tdxsim_run_ctx *ctx, u64 status)
{
	ctx->vcpu->gpr[GPR_RAX] = status;
	tdxsim_skip_insn(ctx, TDCALL_LEN);
	return RUN_GUEST;
}

static enum tdxsim_run bad_operand(struct tdxsim_run_ctx *ctx, u32 opid)
{
	return done(ctx, tdxsim_status(ST_OPERAND_INVALID, opid));
}

/*
 * An operand in the TD's private memory, within one page. If it is not there,
 * *run is what becomes of the TDCALL: it is run again when it is.
 */
static void *private_operand(struct tdxsim_run_ctx *ctx, u64 gpa, u64 align, u32 opid,
			     enum tdxsim_run *run)
{
	struct tdxsim_fault f = {};
	enum tdxsim_xlate ret;

	if (!IS_ALIGNED(gpa, align) || gpa >= tdxsim_td_shared_bit(ctx->td)) {
		*run = bad_operand(ctx, opid);
		return NULL;
	}

	ret = tdxsim_gpa_to_hpa(ctx->td, ctx->vcpu, gpa, ACCESS_WRITE, &f);
	if (ret != XLATE_OK) {
		*run = tdxsim_inject_fault(ctx, ret, &f);
		return NULL;
	}

	return tdxsim_va(f.hpa);
}

/* RCX: which registers are passed. */
static enum tdxsim_run vp_vmcall(struct tdxsim_run_ctx *ctx)
{
	struct tdxsim_vcpu *vcpu = ctx->vcpu;
	u64 mask = vcpu->gpr[GPR_RCX];
	u64 bad = GENMASK_ULL(63, 32) | BIT(GPR_RAX) | BIT(GPR_RCX) | BIT(GPR_RSP);

	if (ctx->td->params.config_flags & TD_CONFIG_NO_RBP_MOD)
		bad |= BIT(GPR_RBP);
	if (mask & bad)
		return bad_operand(ctx, OPID_RCX);

	vcpu->vmcall_mask = mask;
	vcpu->in_vmcall = true;
	tdxsim_skip_insn(ctx, TDCALL_LEN);
	ctx->exit.status = ST_SUCCESS | EXIT_TDCALL;
	return EXIT_TO_HOST;
}

static enum tdxsim_run vp_info(struct tdxsim_run_ctx *ctx)
{
	u64 *gpr = ctx->vcpu->gpr;

	gpr[GPR_RCX] = tdxsim_td_gpaw(ctx->td);
	gpr[GPR_RDX] = ctx->td->params.attributes;
	gpr[GPR_R8] = atomic_read(&ctx->td->nr_vcpus) | (u64)ctx->td->params.max_vcpus << 32;
	gpr[GPR_R9] = ctx->vcpu->index;
	gpr[GPR_R10] = 0;
	gpr[GPR_R11] = 0;
	return done(ctx, ST_SUCCESS);
}

/* RCX: address of 48 bytes, RDX: which register */
static enum tdxsim_run mr_rtmr_extend(struct tdxsim_run_ctx *ctx)
{
	u64 *gpr = ctx->vcpu->gpr;
	u8 data[2 * SHA384_DIGEST_SIZE];
	enum tdxsim_run run;
	void *p;

	if (gpr[GPR_RDX] >= ARRAY_SIZE(ctx->td->rtmr))
		return bad_operand(ctx, OPID_RDX);
	p = private_operand(ctx, gpr[GPR_RCX], 64, OPID_RCX, &run);
	if (!p)
		return run;

	tdxsim_page_open(ctx->td, __pa(p) & PAGE_MASK);
	memcpy(data + SHA384_DIGEST_SIZE, p, SHA384_DIGEST_SIZE);
	tdxsim_page_close(ctx->td, __pa(p) & PAGE_MASK);

	if (!tdxsim_trylock(&ctx->td->rtmr_lock, TDXSIM_EXCLUSIVE))
		return done(ctx, tdxsim_status(ST_OPERAND_BUSY, OPID_RTMR));

	memcpy(data, ctx->td->rtmr[gpr[GPR_RDX]], SHA384_DIGEST_SIZE);
	/* It may use vector registers: those are the TD's now. */
	tdxsim_fpu_put(ctx->td, ctx->vcpu);
	sha384(data, sizeof(data), ctx->td->rtmr[gpr[GPR_RDX]]);
	tdxsim_fpu_get(ctx->td, ctx->vcpu);
	tdxsim_unlock(&ctx->td->rtmr_lock, TDXSIM_EXCLUSIVE);
	return done(ctx, ST_SUCCESS);
}

/* RCX: address of the report, RDX: address of REPORTDATA, R8: subtype */
static enum tdxsim_run mr_report(struct tdxsim_run_ctx *ctx)
{
	u64 *gpr = ctx->vcpu->gpr;
	struct report report = { .type = { 0x81 } };
	struct tdxsim_td *td = ctx->td;
	void *out, *data;
	enum tdxsim_run run;

	if (gpr[GPR_R8])
		return bad_operand(ctx, OPID_R8);
	out = private_operand(ctx, gpr[GPR_RCX], 1024, OPID_RCX, &run);
	if (!out)
		return run;
	data = private_operand(ctx, gpr[GPR_RDX], 64, OPID_RDX, &run);
	if (!data)
		return run;

	if (!tdxsim_trylock(&td->rtmr_lock, TDXSIM_SHARED))
		return done(ctx, tdxsim_status(ST_OPERAND_BUSY, OPID_RTMR));
	memcpy(report.rtmr, td->rtmr, sizeof(report.rtmr));
	tdxsim_unlock(&td->rtmr_lock, TDXSIM_SHARED);

	report.attributes = td->params.attributes;
	report.xfam = td->params.xfam;
	memcpy(report.mrtd, td->mrtd, sizeof(report.mrtd));
	memcpy(report.mrconfigid, td->params.mrconfigid, sizeof(report.mrconfigid));
	memcpy(report.mrowner, td->params.mrowner, sizeof(report.mrowner));
	memcpy(report.mrownerconfig, td->params.mrownerconfig, sizeof(report.mrownerconfig));

	tdxsim_page_open(td, __pa(data) & PAGE_MASK);
	memcpy(report.reportdata, data, sizeof(report.reportdata));
	tdxsim_page_close(td, __pa(data) & PAGE_MASK);

	tdxsim_make_report_mac((u8 *)&report, report.mac);

	tdxsim_page_open(td, __pa(out) & PAGE_MASK);
	memcpy(out, &report, sizeof(report));
	tdxsim_page_close(td, __pa(out) & PAGE_MASK);
	return done(ctx, ST_SUCCESS);
}

static enum tdxsim_run vp_veinfo_get(struct tdxsim_run_ctx *ctx)
{
	struct tdxsim_ve *ve = &ctx->vcpu->ve;
	u64 *gpr = ctx->vcpu->gpr;

	if (!ve->valid)
		return done(ctx, ST_NO_VALID_VE_INFO);

	gpr[GPR_RCX] = ve->reason;
	gpr[GPR_RDX] = ve->qual;
	gpr[GPR_R8] = ve->gla;
	gpr[GPR_R9] = ve->gpa;
	gpr[GPR_R10] = ve->len | (u64)ve->info << 32;
	ve->valid = false;
	return done(ctx, ST_SUCCESS);
}

#define ACCEPT_LEVEL	GENMASK_ULL(2, 0)
#define QUAL_WRITE	BIT_ULL(1)
#define EXT_QUAL_ACCEPT	1

/* RCX: GPA, and level in bits 2:0 */
static enum tdxsim_run mem_page_accept(struct tdxsim_run_ctx *ctx)
{
	u64 rcx = ctx->vcpu->gpr[GPR_RCX];
	u64 gpa = rcx & PAGE_MASK;
	unsigned int level = FIELD_GET(ACCEPT_LEVEL, rcx);
	struct tdxsim_fault f = { .gpa = gpa };
	bool violation;
	u64 status;

	if ((rcx & ~(PAGE_MASK | ACCEPT_LEVEL)) || level > 1 ||
	    gpa >= tdxsim_td_shared_bit(ctx->td) ||
	    !IS_ALIGNED(gpa, 1ULL << (PAGE_SHIFT + 9 * level)))
		return bad_operand(ctx, OPID_RCX);

	status = tdxsim_sept_accept(ctx->td, gpa, level, &violation);
	if (violation) {
		/* Run again when the host has added the page. */
		f.qual = QUAL_WRITE;
		f.ext_qual = EXT_QUAL_ACCEPT | (u64)level << 32;
		return tdxsim_exit_violation(ctx, &f);
	}

	/*
	 * The real module locks the entry only, here it is the tree: where that
	 * is in use the guest must not see it. Run the TDCALL again.
	 */
	if (status == tdxsim_status(ST_OPERAND_BUSY, OPID_SEPT_TREE))
		return RUN_GUEST;

	return done(ctx, status);
}

/* TD-scope metadata a TD can read, and some of it write. */
#define FIELD_ATTRIBUTES	0x1110000300000000ULL
#define FIELD_XFAM		0x1110000300000001ULL
#define FIELD_CONFIG_FLAGS	0x1110000300000016ULL
#define FIELD_TD_CTLS		0x1110000300000017ULL
#define FIELD_NOTIFY_ENABLES	0x9100000000000010ULL
#define FIELD_TOPOLOGY		0x9100000000000019ULL

static u64 *td_field(struct tdxsim_td *td, u64 field, u64 *copy)
{
	switch (field) {
	case FIELD_TD_CTLS:
		return &td->td_ctls;
	case FIELD_NOTIFY_ENABLES:
		return &td->notify_enables;
	case FIELD_ATTRIBUTES:
		*copy = td->params.attributes;
		return copy;
	case FIELD_XFAM:
		*copy = td->params.xfam;
		return copy;
	case FIELD_CONFIG_FLAGS:
		*copy = td->params.config_flags;
		return copy;
	case FIELD_TOPOLOGY:
		*copy = 0;
		return copy;
	default:
		return NULL;
	}
}

/* RDX: field, R8 (write): value, R9 (write): mask. R8 out: the value (before). */
static enum tdxsim_run vm_rd_wr(struct tdxsim_run_ctx *ctx, bool write)
{
	u64 *gpr = ctx->vcpu->gpr;
	u64 copy, old;
	u64 *field = td_field(ctx->td, gpr[GPR_RDX], &copy);

	if (gpr[GPR_RCX])
		return bad_operand(ctx, OPID_RCX);
	if (!field) {
		gpr[GPR_R8] = 0;
		return done(ctx, ST_METADATA_FIELD_NOT_READABLE);
	}

	old = *field;
	if (write) {
		/* None of the controls is supported: nothing can be turned on. */
		if (field == &copy)
			return done(ctx, ST_METADATA_FIELD_NOT_WRITABLE);
		if (gpr[GPR_R8] & gpr[GPR_R9])
			return done(ctx, ST_METADATA_FIELD_VALUE_NOT_VALID);
	}

	gpr[GPR_R8] = old;
	return done(ctx, ST_SUCCESS);
}

/* RAX: leaf, and version in bits 23:16. TDG.VM.RD is the only one with another than 0. */
enum tdxsim_run tdxsim_tdcall(struct tdxsim_run_ctx *ctx)
{
	u64 rax = ctx->vcpu->gpr[GPR_RAX];
	u64 leaf = rax & TDXSIM_RAX_LEAF;
	u64 max_version = leaf == TDG_VM_RD ? 1 : 0;

	if ((rax & ~(TDXSIM_RAX_LEAF | TDXSIM_RAX_VERSION)) ||
	    FIELD_GET(TDXSIM_RAX_VERSION, rax) > max_version)
		return bad_operand(ctx, OPID_RAX);

	switch (leaf) {
	case TDG_VP_VMCALL:
		return vp_vmcall(ctx);
	case TDG_VP_INFO:
		return vp_info(ctx);
	case TDG_MR_RTMR_EXTEND:
		return mr_rtmr_extend(ctx);
	case TDG_VP_VEINFO_GET:
		return vp_veinfo_get(ctx);
	case TDG_MR_REPORT:
		return mr_report(ctx);
	case TDG_MEM_PAGE_ACCEPT:
		return mem_page_accept(ctx);
	case TDG_VM_RD:
		return vm_rd_wr(ctx, false);
	case TDG_VM_WR:
		return vm_rd_wr(ctx, true);
	default:
		return bad_operand(ctx, OPID_RAX);
	}
}
