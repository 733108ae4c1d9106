// SPDX-License-Identifier: GPL-2.0
/*
 * tdxsim: what a TD's instructions do that do not run by themselves: CPUID,
 * MSRs, control registers, its interrupt controller, and #VE for the rest.
 */
#define pr_fmt(fmt) "tdxsim: " fmt

#include <linux/bitfield.h>
#include <linux/bitops.h>
#include <linux/mm.h>
#include <linux/string.h>
#include <asm/apic.h>
#include <asm/apicdef.h>
#include <asm/fpu/types.h>
#include <asm/insn.h>
#include <asm/msr.h>
#include <asm/msr-index.h>
#include <asm/processor-flags.h>
#include <asm/svm.h>
#include <asm/trap_pf.h>
#include <asm/trapnr.h>

#include "td.h"

/* Exit reasons that #VE information gives. */
#define VE_CPUID	10
#define VE_HLT		12
#define VE_INVD		13
#define VE_VMCALL	18
#define VE_CR_ACCESS	28
#define VE_IO		30
#define VE_RDMSR	31
#define VE_WRMSR	32
#define VE_EPT		48
#define VE_WBINVD	54

#define EXIT_TRIPLE_FAULT	2

/* Classes of exceptions, of which some pairs make a double fault. */
enum exception_class { BENIGN, CONTRIBUTORY, PAGE_FAULT, DOUBLE_FAULT };

static enum exception_class exception_class(u8 vector)
{
	switch (vector) {
	case X86_TRAP_DE:
	case X86_TRAP_TS:
	case X86_TRAP_NP:
	case X86_TRAP_SS:
	case X86_TRAP_GP:
		return CONTRIBUTORY;
	case X86_TRAP_PF:
	case X86_TRAP_VE:
		return PAGE_FAULT;
	case X86_TRAP_DF:
		return DOUBLE_FAULT;
	default:
		return BENIGN;
	}
}

static bool is_double_fault(u8 first, u8 second)
{
	switch (exception_class(first)) {
	case BENIGN:
		return false;
	case CONTRIBUTORY:
		return exception_class(second) == CONTRIBUTORY;
	default:
		return exception_class(second) != BENIGN;
	}
}

void tdxsim_inject(struct tdxsim_run_ctx *ctx, u8 vector, bool has_error, u32 error)
{
	struct tdxsim_event *ev = &ctx->vcpu->event;

	/* A fault while another event was being delivered. */
	if (ev->valid && ev->type == SVM_EVTINJ_TYPE_INTR >> 8) {
		tdxsim_apic_untake(ctx->vcpu, ev->vector);
	} else if (ev->valid && ev->type == SVM_EVTINJ_TYPE_NMI >> 8) {
		ctx->vcpu->pend_nmi = true;
	} else if (ev->valid && is_double_fault(ev->vector, vector)) {
		if (ev->vector == X86_TRAP_DF) {
			ctx->vcpu->state = VCPU_DISABLED;
			ev->valid = false;
			return;
		}
		vector = X86_TRAP_DF;
		has_error = true;
		error = 0;
	}

	*ev = (struct tdxsim_event) {
		.valid = true, .type = SVM_EVTINJ_TYPE_EXEPT >> 8, .vector = vector,
		.has_error = has_error, .error = error,
	};
}

/* The instruction is done: on to the next, which no STI or MOV SS holds up any more. */
void tdxsim_skip_insn(struct tdxsim_run_ctx *ctx, unsigned int len)
{
	ctx->vmcb->save.rip += len;
	ctx->vmcb->control.int_state &= ~SVM_INTERRUPT_SHADOW_MASK;
}

static enum tdxsim_run triple_fault(struct tdxsim_run_ctx *ctx)
{
	ctx->vcpu->state = VCPU_DISABLED;
	ctx->exit.status = ST_NON_RECOVERABLE_VCPU | EXIT_TRIPLE_FAULT;
	return EXIT_TO_HOST;
}

static enum tdxsim_run inject(struct tdxsim_run_ctx *ctx, u8 vector, bool has_error, u32 error)
{
	tdxsim_inject(ctx, vector, has_error, error);
	return ctx->vcpu->state == VCPU_DISABLED ? triple_fault(ctx) : RUN_GUEST;
}

static enum tdxsim_run inject_gp(struct tdxsim_run_ctx *ctx)
{
	return inject(ctx, X86_TRAP_GP, true, 0);
}

static enum tdxsim_run inject_ve(struct tdxsim_run_ctx *ctx, const struct tdxsim_ve *ve)
{
	/* The one before was not read: there is no place for this one. */
	if (ctx->vcpu->ve.valid)
		return inject(ctx, X86_TRAP_DF, true, 0);

	ctx->vcpu->ve = *ve;
	ctx->vcpu->ve.valid = true;
	return inject(ctx, X86_TRAP_VE, false, 0);
}

static enum tdxsim_run ve_for_insn(struct tdxsim_run_ctx *ctx, u32 reason, u64 qual, u32 len)
{
	struct tdxsim_ve ve = { .reason = reason, .qual = qual, .len = len };

	return inject_ve(ctx, &ve);
}

enum tdxsim_run tdxsim_inject_fault(struct tdxsim_run_ctx *ctx, enum tdxsim_xlate what,
				    const struct tdxsim_fault *f)
{
	struct tdxsim_ve ve = { .reason = VE_EPT };

	switch (what) {
	case XLATE_PF:
		ctx->vmcb->save.cr2 = f->gva;
		return inject(ctx, X86_TRAP_PF, true, f->error);
	case XLATE_VE:
		ve.qual = f->qual;
		ve.gla = f->gva;
		ve.gpa = f->gpa;
		return inject_ve(ctx, &ve);
	case XLATE_VIOLATION:
		return tdxsim_exit_violation(ctx, f);
	case XLATE_FATAL:
		return tdxsim_exit_fatal(ctx, f->why);
	default:
		return RUN_GUEST;
	}
}

static enum tdxsim_run handle_pf(struct tdxsim_run_ctx *ctx)
{
	u32 error = ctx->vmcb->control.exit_info_1;
	enum tdxsim_access access = error & X86_PF_INSTR ? ACCESS_EXEC :
				    error & X86_PF_WRITE ? ACCESS_WRITE : ACCESS_READ;
	struct tdxsim_fault f;
	enum tdxsim_xlate ret;

	ret = tdxsim_mmu_fault(ctx->td, ctx->vcpu, ctx->vmcb->control.exit_info_2, access,
			       error & X86_PF_USER, &f);
	if (ret == XLATE_OK)
		return RUN_GUEST;

	return tdxsim_inject_fault(ctx, ret, &f);
}

/*
 * Local APIC: the registers that TDX virtualizes.
 */
static int highest(const u64 *bits)
{
	int i;

	for (i = 3; i >= 0; i--) {
		if (bits[i])
			return 64 * i + __fls(bits[i]);
	}

	return -1;
}

static u8 ppr(const struct tdxsim_vcpu *vcpu)
{
	int isrv = highest(vcpu->isr);
	u8 isr_class = isrv < 0 ? 0 : isrv & 0xf0;

	return (vcpu->tpr & 0xf0) >= isr_class ? vcpu->tpr : isr_class;
}

bool tdxsim_apic_pending(const struct tdxsim_vcpu *vcpu)
{
	int irrv = highest(vcpu->irr);

	return irrv >= 0 && (irrv & 0xf0) > (ppr(vcpu) & 0xf0);
}

int tdxsim_apic_take(struct tdxsim_vcpu *vcpu)
{
	int vector = highest(vcpu->irr);

	vcpu->irr[vector / 64] &= ~BIT_ULL(vector % 64);
	vcpu->isr[vector / 64] |= BIT_ULL(vector % 64);
	return vector;
}

void tdxsim_apic_untake(struct tdxsim_vcpu *vcpu, u8 vector)
{
	vcpu->isr[vector / 64] &= ~BIT_ULL(vector % 64);
	vcpu->irr[vector / 64] |= BIT_ULL(vector % 64);
}

void tdxsim_apic_eoi(struct tdxsim_vcpu *vcpu)
{
	int vector = highest(vcpu->isr);

	if (vector >= 0)
		vcpu->isr[vector / 64] &= ~BIT_ULL(vector % 64);
}

/*
 * Posted-interrupt descriptor: 256 bits of vectors, then control with ON in bit 0.
 * Looked at only when its notification vector has come to this CPU, from whoever
 * posts an interrupt or from the host itself before it enters. Other than on
 * hardware the vector stays pending, for the host to handle.
 */
void tdxsim_apic_sync(struct tdxsim_vcpu *vcpu)
{
	u64 *pid;
	int i;

	if (!vcpu->posted_intr || !lapic_vector_set_in_irr(vcpu->pid_nv))
		return;

	pid = tdxsim_va(vcpu->pid_pa);
	clear_bit(0, (unsigned long *)&pid[4]);
	for (i = 0; i < 4; i++)
		vcpu->irr[i] |= xchg(&pid[i], 0);
}

#define X2APIC(reg)	(APIC_BASE_MSR + ((reg) >> 4))

static u32 apic_bits(const u64 *bits, u32 msr, u32 first)
{
	unsigned int i = msr - first;

	return bits[i / 2] >> 32 * (i % 2);
}

/* 1: done, 0: not virtualized (#VE), -1: #GP */
static int td_rdmsr(struct tdxsim_run_ctx *ctx, u32 msr, u64 *val)
{
	struct tdxsim_vcpu *vcpu = ctx->vcpu;
	struct vmcb_save_area *save = &ctx->vmcb->save;

	switch (msr) {
	case MSR_EFER:
		*val = vcpu->efer | (vcpu->cr0 & X86_CR0_PG ? EFER_LMA : 0);
		return 1;
	case MSR_IA32_TSC:
		*val = rdtsc();
		return 1;
	case MSR_IA32_APICBASE:
		*val = vcpu->apic_base;
		return 1;
	case MSR_IA32_CR_PAT:
		*val = vcpu->pat;
		return 1;
	case MSR_FS_BASE:
		*val = save->fs.base;
		return 1;
	case MSR_GS_BASE:
		*val = save->gs.base;
		return 1;
	case MSR_KERNEL_GS_BASE:
		*val = save->kernel_gs_base;
		return 1;
	case MSR_STAR:
		*val = save->star;
		return 1;
	case MSR_LSTAR:
		*val = save->lstar;
		return 1;
	case MSR_CSTAR:
		*val = save->cstar;
		return 1;
	case MSR_SYSCALL_MASK:
		*val = save->sfmask;
		return 1;
	case MSR_IA32_SYSENTER_CS:
		*val = save->sysenter_cs;
		return 1;
	case MSR_IA32_SYSENTER_ESP:
		*val = save->sysenter_esp;
		return 1;
	case MSR_IA32_SYSENTER_EIP:
		*val = save->sysenter_eip;
		return 1;
	case MSR_TSC_AUX:
		*val = vcpu->tsc_aux;
		return 1;
	case X2APIC(APIC_TASKPRI):
		*val = vcpu->tpr;
		return 1;
	case X2APIC(APIC_PROCPRI):
		*val = ppr(vcpu);
		return 1;
	case X2APIC(APIC_ISR) ... X2APIC(APIC_ISR) + 7:
		*val = apic_bits(vcpu->isr, msr, X2APIC(APIC_ISR));
		return 1;
	case X2APIC(APIC_TMR) ... X2APIC(APIC_TMR) + 7:
		*val = 0;
		return 1;
	case X2APIC(APIC_IRR) ... X2APIC(APIC_IRR) + 7:
		*val = apic_bits(vcpu->irr, msr, X2APIC(APIC_IRR));
		return 1;
	case X2APIC(APIC_EOI):
	case X2APIC(APIC_SELF_IPI):
		return -1;
	default:
		return 0;
	}
}

static bool is_canonical(u64 addr)
{
	return (s64)(addr << 16) >> 16 == (s64)addr;
}

static int td_wrmsr(struct tdxsim_run_ctx *ctx, u32 msr, u64 val)
{
	struct tdxsim_vcpu *vcpu = ctx->vcpu;
	struct vmcb_save_area *save = &ctx->vmcb->save;
	u64 *field;

	switch (msr) {
	case MSR_EFER:
		if ((val ^ vcpu->efer) & ~(u64)(EFER_SCE | EFER_LMA))
			return 0;
		vcpu->efer = (vcpu->efer & ~(u64)EFER_SCE) | (val & EFER_SCE);
		return 1;
	case MSR_IA32_CR_PAT:
		vcpu->pat = val;
		return 1;
	case MSR_STAR:
		save->star = val;
		return 1;
	case MSR_SYSCALL_MASK:
		save->sfmask = val;
		return 1;
	case MSR_IA32_SYSENTER_CS:
		save->sysenter_cs = val;
		return 1;
	case MSR_TSC_AUX:
		vcpu->tsc_aux = (u32)val;
		native_wrmsrq(MSR_TSC_AUX, vcpu->tsc_aux);
		return 1;
	case MSR_FS_BASE:
		field = &save->fs.base;
		break;
	case MSR_GS_BASE:
		field = &save->gs.base;
		break;
	case MSR_KERNEL_GS_BASE:
		field = &save->kernel_gs_base;
		break;
	case MSR_LSTAR:
		field = &save->lstar;
		break;
	case MSR_CSTAR:
		field = &save->cstar;
		break;
	case MSR_IA32_SYSENTER_ESP:
		field = &save->sysenter_esp;
		break;
	case MSR_IA32_SYSENTER_EIP:
		field = &save->sysenter_eip;
		break;
	case X2APIC(APIC_TASKPRI):
		if (val & ~0xffULL)
			return -1;
		vcpu->tpr = val;
		return 1;
	case X2APIC(APIC_EOI):
		if (val)
			return -1;
		tdxsim_apic_eoi(vcpu);
		return 1;
	case X2APIC(APIC_SELF_IPI):
		if (val < 16 || val > 255)
			return -1;
		vcpu->irr[val / 64] |= BIT_ULL(val % 64);
		return 1;
	case X2APIC(APIC_PROCPRI):
	case X2APIC(APIC_ISR) ... X2APIC(APIC_IRR) + 7:
		return -1;
	default:
		return 0;
	}

	if (!is_canonical(val))
		return -1;
	*field = val;
	return 1;
}

static void set_gpr32(struct tdxsim_vcpu *vcpu, unsigned int nr, u32 val)
{
	vcpu->gpr[nr] = val;
}

static enum tdxsim_run handle_msr(struct tdxsim_run_ctx *ctx)
{
	struct tdxsim_vcpu *vcpu = ctx->vcpu;
	bool write = ctx->vmcb->control.exit_info_1;
	u32 msr = vcpu->gpr[GPR_RCX];
	u64 val = (u32)vcpu->gpr[GPR_RAX] | vcpu->gpr[GPR_RDX] << 32;
	int ret = write ? td_wrmsr(ctx, msr, val) : td_rdmsr(ctx, msr, &val);

	if (!ret)
		return ve_for_insn(ctx, write ? VE_WRMSR : VE_RDMSR, 0, 2);
	if (ret < 0)
		return inject_gp(ctx);

	if (!write) {
		set_gpr32(vcpu, GPR_RAX, val);
		set_gpr32(vcpu, GPR_RDX, val >> 32);
	}
	tdxsim_skip_insn(ctx, 2);
	return RUN_GUEST;
}

static enum tdxsim_run handle_cpuid(struct tdxsim_run_ctx *ctx)
{
	struct tdxsim_vcpu *vcpu = ctx->vcpu;
	u32 leaf = vcpu->gpr[GPR_RAX], subleaf = vcpu->gpr[GPR_RCX];
	u32 regs[4];

	if (!tdxsim_cpuid_is_virtual(leaf))
		return ve_for_insn(ctx, VE_CPUID, 0, 2);

	tdxsim_cpuid_for_td(ctx->td, leaf, subleaf, regs);
	switch (leaf) {
	case 0x1:
		regs[1] = (regs[1] & GENMASK(23, 0)) | vcpu->x2apic_id << 24;
		regs[2] &= ~BIT(27);
		regs[2] |= vcpu->cr4 & X86_CR4_OSXSAVE ? BIT(27) : 0;
		break;
	case 0xb:
	case 0x1f:
		regs[3] = vcpu->x2apic_id;
		break;
	}

	set_gpr32(vcpu, GPR_RAX, regs[0]);
	set_gpr32(vcpu, GPR_RBX, regs[1]);
	set_gpr32(vcpu, GPR_RCX, regs[2]);
	set_gpr32(vcpu, GPR_RDX, regs[3]);
	tdxsim_skip_insn(ctx, 2);
	return RUN_GUEST;
}

/*
 * Control registers
 */
/*
 * What the CPU alone would refuse is #GP; what it would allow, but TDX does not,
 * is #VE. As in write_guest_cr0() and write_guest_cr4() of the published module.
 */
enum cr_write { CR_OK, CR_GP, CR_VE, CR_UNKNOWN };

#define CR4_OF_TDX	(X86_CR4_VMXE | X86_CR4_SMXE)
#define CR4_UNKNOWN	(X86_CR4_PCIDE | X86_CR4_LA57)
#define CR4_ALLOWED	(X86_CR4_VME | X86_CR4_PVI | X86_CR4_TSD | X86_CR4_DE | X86_CR4_PSE | \
			 X86_CR4_PAE | X86_CR4_MCE | X86_CR4_PGE | X86_CR4_PCE |	      \
			 X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT | X86_CR4_UMIP |		      \
			 X86_CR4_FSGSBASE | X86_CR4_OSXSAVE | X86_CR4_SMEP | X86_CR4_SMAP)

static enum cr_write check_cr0(const struct tdxsim_vcpu *vcpu, u64 val)
{
	if (val >> 32 || !(val & X86_CR0_NE))
		return CR_GP;
	/* EFER.LME is fixed, so it is long mode or no paging. */
	if ((val & X86_CR0_PG) && (!(val & X86_CR0_PE) || !(vcpu->cr4 & X86_CR4_PAE)))
		return CR_GP;
	if (!(val & X86_CR0_PE) || (val & (X86_CR0_CD | X86_CR0_NW)))
		return CR_VE;

	return CR_OK;
}

static enum cr_write check_cr4(const struct tdxsim_vcpu *vcpu, u64 val)
{
	bool long_mode = vcpu->cr0 & X86_CR0_PG;

	if (val & ~(u64)(CR4_ALLOWED | CR4_OF_TDX | CR4_UNKNOWN))
		return CR_GP;
	if (long_mode ? !(val & X86_CR4_PAE) || (val & X86_CR4_LA57) : val & X86_CR4_PCIDE)
		return CR_GP;
	if ((val & CR4_OF_TDX) || !(val & X86_CR4_MCE))
		return CR_VE;

	return val & CR4_UNKNOWN ? CR_UNKNOWN : CR_OK;
}

static enum cr_write write_cr(struct tdxsim_vcpu *vcpu, unsigned int cr, u64 val)
{
	enum cr_write ret = CR_OK;

	switch (cr) {
	case 0:
		val |= X86_CR0_ET;
		ret = check_cr0(vcpu, val);
		if (ret == CR_OK)
			vcpu->cr0 = val & ~(u64)X86_CR0_ET;
		break;
	case 3:
		if (val >> 52)
			return CR_GP;
		vcpu->cr3 = val;
		break;
	case 4:
		ret = check_cr4(vcpu, val);
		if (ret == CR_OK)
			vcpu->cr4 = val;
		break;
	case 8:
		if (val >> 4)
			return CR_GP;
		vcpu->tpr = val << 4;
		return CR_OK;
	default:
		return CR_GP;
	}

	tdxsim_mmu_flush();
	return ret;
}

static u64 read_cr(const struct tdxsim_vcpu *vcpu, unsigned int cr)
{
	switch (cr) {
	case 0:
		return vcpu->cr0;
	case 3:
		return vcpu->cr3;
	case 4:
		return vcpu->cr4;
	default:
		return vcpu->tpr >> 4;
	}
}

static bool in_64bit_mode(const struct tdxsim_run_ctx *ctx)
{
	return (ctx->vcpu->cr0 & X86_CR0_PG) && (ctx->vmcb->save.cs.attrib & SVM_SELECTOR_L_MASK);
}

/*
 * The instruction that the guest is at. If it cannot be had, *run is what becomes
 * of it: what the guest or the host did to its page meanwhile, or @why.
 */
static bool fetch_insn(struct tdxsim_run_ctx *ctx, struct insn *insn, const char *why,
		       enum tdxsim_run *run)
{
	struct tdxsim_fault f = {};
	u8 buf[MAX_INSN_SIZE];
	unsigned int len = sizeof(buf);
	enum tdxsim_xlate ret;

	ret = tdxsim_guest_fetch(ctx->td, ctx->vcpu, buf, &len, &f);
	if (!insn_decode(insn, buf, len, in_64bit_mode(ctx) ? INSN_MODE_64 : INSN_MODE_32))
		return true;

	*run = ret == XLATE_OK ? tdxsim_exit_fatal(ctx, why) : tdxsim_inject_fault(ctx, ret, &f);
	return false;
}

/* LMSW's operand has the low four bits of CR0; PE cannot be cleared by it. */
#define LMSW_BITS	(X86_CR0_PE | X86_CR0_MP | X86_CR0_EM | X86_CR0_TS)

/* MOV to and from control registers, CLTS; SMSW and LMSW with a register. */
static enum tdxsim_run handle_cr(struct tdxsim_run_ctx *ctx)
{
	struct tdxsim_vcpu *vcpu = ctx->vcpu;
	enum tdxsim_run run;
	unsigned int reg, cr;
	enum cr_write ret = CR_OK;
	struct insn insn;
	u64 val;

	if (!fetch_insn(ctx, &insn, "a control register's access cannot be decoded", &run))
		return run;
	if (insn.opcode.bytes[0] != 0x0f)
		return tdxsim_exit_fatal(ctx, "this is no access to a control register");

	reg = X86_MODRM_RM(insn.modrm.value) | (X86_REX_B(insn.rex_prefix.value) ? 8 : 0);
	cr = X86_MODRM_REG(insn.modrm.value) | (X86_REX_R(insn.rex_prefix.value) ? 8 : 0);
	switch (insn.opcode.bytes[1]) {
	case 0x01:
		if (X86_MODRM_MOD(insn.modrm.value) != 3)
			return tdxsim_exit_fatal(ctx, "SMSW and LMSW of memory are not modelled");
		if (X86_MODRM_REG(insn.modrm.value) == 4)
			vcpu->gpr[reg] = in_64bit_mode(ctx) && insn.opnd_bytes == 8 ?
					 vcpu->cr0 : (u32)vcpu->cr0;
		else
			ret = write_cr(vcpu, 0, (vcpu->cr0 & ~(u64)(LMSW_BITS & ~X86_CR0_PE)) |
						(vcpu->gpr[reg] & LMSW_BITS));
		break;
	case 0x06:
		ret = write_cr(vcpu, 0, vcpu->cr0 & ~(u64)X86_CR0_TS);
		break;
	case 0x20:
		vcpu->gpr[reg] = in_64bit_mode(ctx) ? read_cr(vcpu, cr) : (u32)read_cr(vcpu, cr);
		break;
	case 0x22:
		val = in_64bit_mode(ctx) ? vcpu->gpr[reg] : (u32)vcpu->gpr[reg];
		ret = write_cr(vcpu, cr, val);
		break;
	default:
		return tdxsim_exit_fatal(ctx, "access to a control register is not supported");
	}

	switch (ret) {
	case CR_OK:
		tdxsim_skip_insn(ctx, insn.length);
		return RUN_GUEST;
	case CR_GP:
		return inject_gp(ctx);
	case CR_VE:
		return ve_for_insn(ctx, VE_CR_ACCESS, cr | reg << 8, insn.length);
	default:
		return tdxsim_exit_fatal(ctx, "CR4.PCIDE and CR4.LA57 are not modelled");
	}
}

static enum tdxsim_run handle_xsetbv(struct tdxsim_run_ctx *ctx)
{
	struct tdxsim_vcpu *vcpu = ctx->vcpu;
	u64 val = (u32)vcpu->gpr[GPR_RAX] | vcpu->gpr[GPR_RDX] << 32;

	if ((u32)vcpu->gpr[GPR_RCX] || !(val & XFEATURE_MASK_FP) ||
	    (val & ~ctx->td->params.xfam) ||
	    ((val & XFEATURE_MASK_YMM) && !(val & XFEATURE_MASK_SSE)))
		return inject_gp(ctx);

	vcpu->xcr0 = val;
	tdxsim_skip_insn(ctx, 3);
	return RUN_GUEST;
}

static enum tdxsim_run handle_invlpg(struct tdxsim_run_ctx *ctx)
{
	enum tdxsim_run run;
	struct insn insn;

	if (!fetch_insn(ctx, &insn, "INVLPG cannot be decoded", &run))
		return run;

	tdxsim_mmu_flush();
	tdxsim_skip_insn(ctx, insn.length);
	return RUN_GUEST;
}

/* SVM's I/O information to that of an I/O exit: size, direction, string, REP, port. */
static enum tdxsim_run handle_io(struct tdxsim_run_ctx *ctx)
{
	u64 info = ctx->vmcb->control.exit_info_1;
	unsigned int size = (info & SVM_IOIO_SIZE_MASK) >> SVM_IOIO_SIZE_SHIFT;
	u64 qual = (size - 1) | (info & SVM_IOIO_TYPE_MASK ? BIT(3) : 0) |
		   (info & SVM_IOIO_STR_MASK ? BIT(4) : 0) |
		   (info & BIT(SVM_IOIO_REP_SHIFT) ? BIT(5) : 0) | info >> 16 << 16;
	u64 len = ctx->vmcb->control.exit_info_2 - ctx->vmcb->save.rip;

	return ve_for_insn(ctx, VE_IO, qual, len);
}

static enum tdxsim_run handle_ud(struct tdxsim_run_ctx *ctx)
{
	static const u8 tdcall[] = { 0x66, 0x0f, 0x01, 0xcc };
	static const u8 vmcall[] = { 0x0f, 0x01, 0xc1 };
	u8 buf[sizeof(tdcall)] = {};
	unsigned int len = sizeof(buf);
	struct tdxsim_fault f = {};
	enum tdxsim_xlate ret;

	ret = tdxsim_guest_fetch(ctx->td, ctx->vcpu, buf, &len, &f);
	/* Not all of it is there any more, and it may have been one of those below. */
	if (ret != XLATE_OK && (!memcmp(buf, tdcall, len) ||
				(len < sizeof(vmcall) && !memcmp(buf, vmcall, len))))
		return tdxsim_inject_fault(ctx, ret, &f);

	if (!memcmp(buf, tdcall, sizeof(tdcall))) {
		if (!in_64bit_mode(ctx) || ctx->vmcb->save.cpl)
			return inject_gp(ctx);
		return tdxsim_tdcall(ctx);
	}
	if (!memcmp(buf, vmcall, sizeof(vmcall)))
		return ve_for_insn(ctx, VE_VMCALL, 0, sizeof(vmcall));

	return inject(ctx, X86_TRAP_UD, false, 0);
}

static enum tdxsim_run handle_shutdown(struct tdxsim_run_ctx *ctx)
{
	return triple_fault(ctx);
}

enum tdxsim_run tdxsim_handle_exit(struct tdxsim_run_ctx *ctx)
{
	u64 code = ctx->vmcb->control.exit_code;

	switch ((u32)code) {
	case SVM_EXIT_EXCP_BASE + X86_TRAP_PF:
		return handle_pf(ctx);
	case SVM_EXIT_EXCP_BASE + X86_TRAP_UD:
		return handle_ud(ctx);
	case SVM_EXIT_READ_CR0:
	case SVM_EXIT_READ_CR3:
	case SVM_EXIT_READ_CR4:
	case SVM_EXIT_READ_CR8:
	case SVM_EXIT_WRITE_CR0:
	case SVM_EXIT_WRITE_CR3:
	case SVM_EXIT_WRITE_CR4:
	case SVM_EXIT_WRITE_CR8:
		return handle_cr(ctx);
	case SVM_EXIT_CPUID:
		return handle_cpuid(ctx);
	case SVM_EXIT_MSR:
		return handle_msr(ctx);
	case SVM_EXIT_IOIO:
		return handle_io(ctx);
	case SVM_EXIT_XSETBV:
		return handle_xsetbv(ctx);
	case SVM_EXIT_INVLPG:
		return handle_invlpg(ctx);
	case SVM_EXIT_HLT:
		return ve_for_insn(ctx, VE_HLT, 0, 1);
	case SVM_EXIT_INVD:
		return ve_for_insn(ctx, VE_INVD, 0, 2);
	case SVM_EXIT_WBINVD:
		return ve_for_insn(ctx, VE_WBINVD, 0, 2);
	case SVM_EXIT_RDPMC:
		/* No TD has ATTRIBUTES.PERFMON. */
		return inject_gp(ctx);
	case SVM_EXIT_VMMCALL:
	case SVM_EXIT_MONITOR:
	case SVM_EXIT_MWAIT:
	case SVM_EXIT_VMRUN:
	case SVM_EXIT_VMLOAD:
	case SVM_EXIT_VMSAVE:
	case SVM_EXIT_STGI:
	case SVM_EXIT_CLGI:
	case SVM_EXIT_SKINIT:
	case SVM_EXIT_INVLPGA:
		return inject(ctx, X86_TRAP_UD, false, 0);
	case SVM_EXIT_SHUTDOWN:
		return handle_shutdown(ctx);
	default:
		return tdxsim_exit_fatal(ctx, "an exit that is not known");
	}
}
