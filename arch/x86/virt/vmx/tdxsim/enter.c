// SPDX-License-Identifier: GPL-2.0
/*
 * tdxsim: TDH.VP.ENTER, on the SVM of the CPU below.
 */
#define pr_fmt(fmt) "tdxsim: " fmt

#include <linux/bitfield.h>
#include <linux/init.h>
#include <linux/mm.h>
#include <linux/percpu.h>
#include <linux/printk.h>
#include <linux/string.h>
#include <asm/debugreg.h>
#include <asm/fpu/xcr.h>
#include <asm/irq_vectors.h>
#include <asm/msr.h>
#include <asm/processor-flags.h>
#include <asm/svm.h>
#include <asm/trapnr.h>

#include "td.h"

void tdxsim_vmrun(u64 guest_vmcb_pa, u64 host_vmcb_pa, u64 gpr[16]);

struct svm_cpu {
	struct vmcb *host_vmcb;		/* what VMSAVE keeps of the host */
	void *hsave;			/* what VMRUN keeps of the host */
	void *init_xsave;		/* x87, SSE, AVX in their initial state */
	void *host_xsave;		/* XMM registers that TDG.VP.VMCALL passes */
};

static DEFINE_PER_CPU(struct svm_cpu, svm_cpu);
static void *all_ones;			/* I/O and MSR permission maps: intercept all */

/* Exit reasons of the host's side, RAX bits 31:0. */
#define EXIT_EXTERNAL_INTERRUPT	1
#define EXIT_TDCALL		77
#define EXIT_EPT_VIOLATION	48
#define EXIT_TRIPLE_FAULT	2

#define QUAL_LINEAR		GENMASK_ULL(12, 7)
#define INTR_INFO_VALID		BIT(31)

/*
 * Extended state. The TD has its own, the host gets what it has after INIT:
 * the real module does not keep the host's either.
 */
#define XSTATE_MASK	(XFEATURE_MASK_FP | XFEATURE_MASK_SSE | XFEATURE_MASK_YMM)
#define XSAVE_XMM0	160
#define XSAVE_XSTATE_BV	512

static void xsave(void *area, u64 mask)
{
	asm volatile("xsave64 (%0)" : : "r" (area), "a" ((u32)mask), "d" ((u32)(mask >> 32)) :
		     "memory");
}

static void xrstor(void *area, u64 mask)
{
	asm volatile("xrstor64 (%0)" : : "r" (area), "a" ((u32)mask), "d" ((u32)(mask >> 32)) :
		     "memory");
}

static u64 host_xcr0(void)
{
	return xgetbv(XCR_XFEATURE_ENABLED_MASK);
}

static u64 td_xstate(const struct tdxsim_td *td)
{
	return td->params.xfam & XSTATE_MASK & host_xcr0();
}

void tdxsim_fpu_get(struct tdxsim_td *td, struct tdxsim_vcpu *vcpu)
{
	xrstor(tdxsim_va(vcpu->tdcx[1]), td_xstate(td));
}

void tdxsim_fpu_put(struct tdxsim_td *td, struct tdxsim_vcpu *vcpu)
{
	xsave(tdxsim_va(vcpu->tdcx[1]), td_xstate(td));
	xrstor(this_cpu_read(svm_cpu.init_xsave), XSTATE_MASK & host_xcr0());
}

/* XMM registers selected by bits 31:16 of TDG.VP.VMCALL's mask: between two XSAVE areas. */
static void copy_xmm(void *to, const void *from, u64 mask)
{
	unsigned int i;

	for (i = 0; i < 16; i++) {
		if (mask & BIT(16 + i))
			memcpy(to + XSAVE_XMM0 + 16 * i, from + XSAVE_XMM0 + 16 * i, 16);
	}
	*(u64 *)(to + XSAVE_XSTATE_BV) |= XFEATURE_MASK_SSE;
}

static void xmm_to_host(struct tdxsim_vcpu *vcpu)
{
	void *area = this_cpu_read(svm_cpu.host_xsave);

	if (!(vcpu->vmcall_mask >> 16))
		return;
	memcpy(area, this_cpu_read(svm_cpu.init_xsave), PAGE_SIZE);
	copy_xmm(area, tdxsim_va(vcpu->tdcx[1]), vcpu->vmcall_mask);
	xrstor(area, XFEATURE_MASK_SSE);
}

static void xmm_from_host(struct tdxsim_vcpu *vcpu)
{
	void *area = this_cpu_read(svm_cpu.host_xsave);

	if (!(vcpu->vmcall_mask >> 16))
		return;
	xsave(area, XFEATURE_MASK_SSE);
	copy_xmm(tdxsim_va(vcpu->tdcx[1]), area, vcpu->vmcall_mask);
}

/*
 * Registers that TDG.VP.VMCALL passes, by their number in the mask. A host that
 * wants to keep its RBP makes TDs with NO_RBP_MOD.
 */
static unsigned long *host_reg(const struct tdxsim_td *td, struct pt_regs *regs, unsigned int nr)
{
	switch (nr) {
	case GPR_RBP:
		return td->params.config_flags & TD_CONFIG_NO_RBP_MOD ? NULL : &regs->bp;
	case GPR_RDX: return &regs->dx;
	case GPR_RBX: return &regs->bx;
	case GPR_RSI: return &regs->si;
	case GPR_RDI: return &regs->di;
	case GPR_R8: return &regs->r8;
	case GPR_R9: return &regs->r9;
	case GPR_R10: return &regs->r10;
	case GPR_R11: return &regs->r11;
	case GPR_R12: return &regs->r12;
	case GPR_R13: return &regs->r13;
	case GPR_R14: return &regs->r14;
	case GPR_R15: return &regs->r15;
	default: return NULL;
	}
}

static void regs_to_host(const struct tdxsim_td *td, struct tdxsim_vcpu *vcpu,
			 struct pt_regs *regs)
{
	unsigned int i;

	for (i = 0; i < 16; i++) {
		unsigned long *reg = host_reg(td, regs, i);

		if (reg)
			*reg = vcpu->in_vmcall && (vcpu->vmcall_mask & BIT(i)) ? vcpu->gpr[i] : 0;
	}
	regs->cx = vcpu->in_vmcall ? vcpu->vmcall_mask : 0;
	if (vcpu->in_vmcall)
		xmm_to_host(vcpu);
}

static void regs_from_host(const struct tdxsim_td *td, struct tdxsim_vcpu *vcpu,
			   struct pt_regs *regs)
{
	unsigned int i;

	for (i = 0; i < 16; i++) {
		unsigned long *reg = host_reg(td, regs, i);

		if (reg && (vcpu->vmcall_mask & BIT(i)))
			vcpu->gpr[i] = *reg;
	}
	vcpu->gpr[GPR_RAX] = 0;
	vcpu->gpr[GPR_RCX] = vcpu->vmcall_mask;
	xmm_from_host(vcpu);
	vcpu->in_vmcall = false;
}

static void intercept(struct vmcb *vmcb, unsigned int bit)
{
	vmcb->control.intercepts[bit / 32] |= BIT(bit % 32);
}

static void setup_controls(struct vmcb *vmcb)
{
	static const u8 bits[] = {
		INTERCEPT_CR0_READ, INTERCEPT_CR3_READ, INTERCEPT_CR4_READ, INTERCEPT_CR8_READ,
		INTERCEPT_CR0_WRITE, INTERCEPT_CR3_WRITE, INTERCEPT_CR4_WRITE,
		INTERCEPT_CR8_WRITE,
		INTERCEPT_EXCEPTION_OFFSET + X86_TRAP_UD,
		INTERCEPT_EXCEPTION_OFFSET + X86_TRAP_PF,
		INTERCEPT_INTR, INTERCEPT_NMI, INTERCEPT_SMI, INTERCEPT_INIT,
		INTERCEPT_RDPMC, INTERCEPT_CPUID, INTERCEPT_INVD, INTERCEPT_HLT,
		INTERCEPT_INVLPG, INTERCEPT_INVLPGA, INTERCEPT_IOIO_PROT, INTERCEPT_MSR_PROT,
		INTERCEPT_SHUTDOWN, INTERCEPT_VMRUN, INTERCEPT_VMMCALL, INTERCEPT_VMLOAD,
		INTERCEPT_VMSAVE, INTERCEPT_STGI, INTERCEPT_CLGI, INTERCEPT_SKINIT,
		INTERCEPT_WBINVD, INTERCEPT_MONITOR, INTERCEPT_MWAIT, INTERCEPT_XSETBV,
	};
	u32 int_state = vmcb->control.int_state;
	unsigned int i;

	memset(&vmcb->control, 0, sizeof(vmcb->control));
	vmcb->control.int_state = int_state;
	for (i = 0; i < ARRAY_SIZE(bits); i++)
		intercept(vmcb, bits[i]);
	vmcb->control.iopm_base_pa = __pa(all_ones);
	vmcb->control.msrpm_base_pa = __pa(all_ones);
	vmcb->control.asid = 1;
	vmcb->control.tlb_ctl = TLB_CONTROL_FLUSH_ALL_ASID;
	vmcb->control.int_ctl = V_INTR_MASKING_MASK;
}

/* CR0 and CR4 as the CPU has them: paging is always on, on the shadow tables. */
static void setup_crs(struct tdxsim_vcpu *vcpu, struct vmcb *vmcb)
{
	vmcb->save.cr0 = vcpu->cr0 | X86_CR0_PG | X86_CR0_PE | X86_CR0_WP | X86_CR0_ET;
	if ((vcpu->cr0 & X86_CR0_PG) && !(vcpu->cr0 & X86_CR0_WP))
		vmcb->save.cr0 &= ~X86_CR0_WP;
	vmcb->save.cr3 = tdxsim_mmu_root();
	vmcb->save.cr4 = (vcpu->cr4 & ~(X86_CR4_LA57 | X86_CR4_PCIDE | X86_CR4_PGE)) | X86_CR4_PAE;
	/* Without paging there are no user pages, but all of the shadow's are. */
	if (!(vcpu->cr0 & X86_CR0_PG))
		vmcb->save.cr4 &= ~(X86_CR4_SMEP | X86_CR4_SMAP);
	vmcb->save.efer = vcpu->efer | EFER_LME | EFER_LMA | EFER_NX | EFER_SVME;
	vmcb->save.g_pat = 0x0007040600070406ULL;
}

static void setup_event(struct tdxsim_vcpu *vcpu, struct vmcb *vmcb)
{
	struct tdxsim_event *ev = &vcpu->event;
	bool can_interrupt = (vmcb->save.rflags & X86_EFLAGS_IF) &&
			     !(vmcb->control.int_state & SVM_INTERRUPT_SHADOW_MASK);
	int vector;

	vmcb->control.event_inj = 0;
	vmcb->control.int_ctl = V_INTR_MASKING_MASK;
	vmcb->control.intercepts[INTERCEPT_VINTR / 32] &= ~BIT(INTERCEPT_VINTR % 32);

	if (!ev->valid && vcpu->pend_nmi && !vcpu->ve.valid) {
		*ev = (struct tdxsim_event) { .valid = true, .vector = X86_TRAP_NMI,
					      .type = SVM_EVTINJ_TYPE_NMI >> 8 };
		vcpu->pend_nmi = false;
	}

	if (!ev->valid && tdxsim_apic_pending(vcpu)) {
		/* TDX: no interrupts from #VE until its information was read. */
		if (can_interrupt && !vcpu->ve.valid) {
			vector = tdxsim_apic_take(vcpu);
			*ev = (struct tdxsim_event) { .valid = true, .vector = vector,
						      .type = SVM_EVTINJ_TYPE_INTR >> 8 };
		} else if (!vcpu->ve.valid) {
			/* Tell when the guest can take it. */
			vmcb->control.int_ctl |= V_IRQ_MASK | V_IGN_TPR_MASK |
						 0xf << V_INTR_PRIO_SHIFT;
			intercept(vmcb, INTERCEPT_VINTR);
		}
	}

	if (!ev->valid)
		return;

	vmcb->control.event_inj = ev->vector | ev->type << 8 | SVM_EVTINJ_VALID |
				  (ev->has_error ? SVM_EVTINJ_VALID_ERR : 0);
	vmcb->control.event_inj_err = ev->error;
	ev->valid = false;
}

/* An event whose delivery met a fault is delivered once more; INT n is run again. */
static void keep_event(struct tdxsim_vcpu *vcpu, struct vmcb *vmcb)
{
	u32 info = vmcb->control.exit_int_info;
	unsigned int type = (info & SVM_EVTINJ_TYPE_MASK) >> 8;

	if (!(info & SVM_EVTINJ_VALID) || type == SVM_EVTINJ_TYPE_SOFT >> 8)
		return;

	vcpu->event = (struct tdxsim_event) {
		.valid = true,
		.type = type,
		.vector = info & SVM_EVTINJ_VEC_MASK,
		.has_error = info & SVM_EVTINJ_VALID_ERR,
		.error = vmcb->control.exit_int_info_err,
	};
}

static void load_dr(const struct tdxsim_vcpu *vcpu)
{
	set_debugreg(vcpu->dr[0], 0);
	set_debugreg(vcpu->dr[1], 1);
	set_debugreg(vcpu->dr[2], 2);
	set_debugreg(vcpu->dr[3], 3);
}

static void save_dr(struct tdxsim_vcpu *vcpu)
{
	get_debugreg(vcpu->dr[0], 0);
	get_debugreg(vcpu->dr[1], 1);
	get_debugreg(vcpu->dr[2], 2);
	get_debugreg(vcpu->dr[3], 3);
}

#define FMASK_AFTER_EXIT	0x20200

/*
 * What the host had in these registers is lost, as on hardware: a host that
 * forgets one of them is to be noticed.
 */
static void leave_host_state(const struct tdxsim_td *td)
{
	native_wrmsrq(MSR_STAR, 0);
	native_wrmsrq(MSR_LSTAR, 0);
	native_wrmsrq(MSR_SYSCALL_MASK, FMASK_AFTER_EXIT);
	native_wrmsrq(MSR_TSC_AUX, 0);
	native_wrmsrq(MSR_KERNEL_GS_BASE, 0);
	set_debugreg(0, 0);
	set_debugreg(0, 1);
	set_debugreg(0, 2);
	set_debugreg(0, 3);
	set_debugreg(DR6_RESERVED, 6);
	xsetbv(XCR_XFEATURE_ENABLED_MASK, td->params.xfam & host_xcr0());
}

static void vmrun(struct tdxsim_vcpu *vcpu, struct vmcb *vmcb)
{
	struct svm_cpu *cpu = this_cpu_ptr(&svm_cpu);
	u64 xcr0 = host_xcr0();

	setup_crs(vcpu, vmcb);
	setup_event(vcpu, vmcb);
	vmcb->save.rax = vcpu->gpr[GPR_RAX];
	vmcb->save.rsp = vcpu->gpr[GPR_RSP];
	vmcb->control.exit_int_info = 0;

	if ((vcpu->cr4 & X86_CR4_OSXSAVE) && vcpu->xcr0 != xcr0)
		xsetbv(XCR_XFEATURE_ENABLED_MASK, vcpu->xcr0);
	tdxsim_vmrun(__pa(vmcb), __pa(cpu->host_vmcb), vcpu->gpr);
	if ((vcpu->cr4 & X86_CR4_OSXSAVE) && vcpu->xcr0 != xcr0)
		xsetbv(XCR_XFEATURE_ENABLED_MASK, xcr0);

	vcpu->gpr[GPR_RAX] = vmcb->save.rax;
	vcpu->gpr[GPR_RSP] = vmcb->save.rsp;
	keep_event(vcpu, vmcb);
}

static enum tdxsim_run exit_interrupt(struct tdxsim_run_ctx *ctx)
{
	/*
	 * The interrupt is still pending and taken when the host enables them, an
	 * NMI was taken at STGI: its handler must not run once more, as it would if
	 * this were an exit for an NMI. Here a vector is due all the same, as it
	 * would have been acknowledged: one whose handler does not mind.
	 */
	ctx->exit.status = ST_SUCCESS | EXIT_EXTERNAL_INTERRUPT;
	ctx->exit.intr_info = INTR_INFO_VALID | RESCHEDULE_VECTOR;
	return EXIT_TO_HOST;
}

static void run(struct tdxsim_run_ctx *ctx)
{
	struct svm_cpu *cpu = this_cpu_ptr(&svm_cpu);
	u64 efer = native_read_msr(MSR_EFER);
	enum tdxsim_run what = RUN_GUEST;

	setup_controls(ctx->vmcb);
	tdxsim_mmu_begin(ctx->td, ctx->vcpu);
	native_wrmsrq(MSR_EFER, efer | EFER_SVME);
	native_wrmsrq(MSR_VM_HSAVE_PA, __pa(cpu->hsave));
	native_wrmsrq(MSR_TSC_AUX, ctx->vcpu->tsc_aux);
	load_dr(ctx->vcpu);
	tdxsim_fpu_get(ctx->td, ctx->vcpu);

	tdxsim_apic_sync(ctx->vcpu);
	while (what == RUN_GUEST) {
		vmrun(ctx->vcpu, ctx->vmcb);

		switch (ctx->vmcb->control.exit_code) {
		case SVM_EXIT_INTR:
			/* It may be a notification. */
			tdxsim_apic_sync(ctx->vcpu);
			fallthrough;
		case SVM_EXIT_NMI:
		case SVM_EXIT_SMI:
		case SVM_EXIT_INIT:
			what = exit_interrupt(ctx);
			break;
		case SVM_EXIT_VINTR:
			break;
		default:
			what = tdxsim_handle_exit(ctx);
		}
	}

	tdxsim_fpu_put(ctx->td, ctx->vcpu);
	save_dr(ctx->vcpu);
	native_wrmsrq(MSR_EFER, efer);
	tdxsim_mmu_end();
	leave_host_state(ctx->td);
}

enum tdxsim_run tdxsim_exit_violation(struct tdxsim_run_ctx *ctx, const struct tdxsim_fault *f)
{
	ctx->exit.status = ST_SUCCESS | EXIT_EPT_VIOLATION;
	/* About the linear address: nothing that is the host's to know. */
	ctx->exit.qual = f->qual & ~QUAL_LINEAR;
	ctx->exit.ext_qual = f->ext_qual;
	ctx->exit.gpa = f->gpa & PAGE_MASK;
	return EXIT_TO_HOST;
}

enum tdxsim_run tdxsim_exit_fatal(struct tdxsim_run_ctx *ctx, const char *why)
{
	struct vmcb *vmcb = ctx->vmcb;
	struct tdxsim_fault f = {};
	u8 insn[15] = {};
	unsigned int len = sizeof(insn);

	tdxsim_guest_fetch(ctx->td, ctx->vcpu, insn, &len, &f);
	pr_err("TD of KeyID %u, vCPU %u: %s; at %04x:%llx, CPL %u, instruction %15ph, SVM exit 0x%llx info 0x%llx 0x%llx\n",
	       ctx->td->hkid, ctx->vcpu->index, why, vmcb->save.cs.selector, vmcb->save.rip,
	       vmcb->save.cpl, insn, vmcb->control.exit_code, vmcb->control.exit_info_1,
	       vmcb->control.exit_info_2);
	ctx->td->fatal = true;
	ctx->exit.status = ST_NON_RECOVERABLE_TD;
	return EXIT_TO_HOST;
}

static u64 enter(struct tdxsim_td *td, struct tdxsim_vcpu *vcpu, struct pt_regs *regs)
{
	struct tdxsim_run_ctx ctx = { .td = td, .vcpu = vcpu, .vmcb = tdxsim_vmcb(vcpu) };

	if (!tdxsim_trylock(&td->epoch_lock, TDXSIM_SHARED))
		return tdxsim_status(ST_OPERAND_BUSY, OPID_TD_EPOCH);
	vcpu->epoch = READ_ONCE(td->epoch);
	atomic_inc(&td->running[vcpu->epoch & 1]);
	tdxsim_unlock(&td->epoch_lock, TDXSIM_SHARED);

	if (vcpu->in_vmcall)
		regs_from_host(td, vcpu, regs);

	run(&ctx);

	regs_to_host(td, vcpu, regs);
	if (!vcpu->in_vmcall) {
		regs->cx = ctx.exit.qual;
		regs->dx = ctx.exit.ext_qual;
		regs->r8 = ctx.exit.gpa;
		regs->r9 = ctx.exit.intr_info;
	}

	atomic_dec(&td->running[vcpu->epoch & 1]);
	return ctx.exit.status;
}

static u64 check_and_enter(struct tdxsim_td *td, struct tdxsim_vcpu *vcpu, struct pt_regs *regs)
{
	int cpu = raw_smp_processor_id();
	int old = -1;
	u64 status;

	if (vcpu->state != VCPU_READY)
		return tdxsim_status(ST_VCPU_STATE_INCORRECT, vcpu->state);

	if (atomic_try_cmpxchg(&vcpu->cpu, &old, cpu))
		atomic_inc(&td->nr_assoc);
	else if (old != cpu)
		return ST_VCPU_ASSOCIATED;

	if (!tdxsim_trylock(&vcpu->lock, TDXSIM_EXCLUSIVE))
		return tdxsim_status(ST_OPERAND_BUSY, OPID_TDVPS);
	status = enter(td, vcpu, regs);
	tdxsim_unlock(&vcpu->lock, TDXSIM_EXCLUSIVE);

	return status;
}

/* RCX: TDVPR; the other registers as TDG.VP.VMCALL passes them. */
u64 tdxsim_vp_enter(struct pt_regs *regs, u8 version)
{
	struct tdxsim_td_ref ref;
	struct tdxsim_pamt *pamt;
	u64 status;

	status = tdxsim_pamt_get_type(regs->cx, PT_TDVPR, TDXSIM_SHARED, OPID_RCX, &pamt);
	if (status)
		return status;

	status = tdxsim_td_get_op(tdxsim_pamt_owner(pamt), TDXSIM_SHARED, OPID_TDR,
				  TD_RUNNABLE, &ref);
	if (!status) {
		status = check_and_enter(ref.td, tdxsim_va(regs->cx), regs);
		tdxsim_td_put(&ref);
	}

	tdxsim_pamt_put(pamt, TDXSIM_SHARED);
	return status;
}

static int __init enter_init(void)
{
	int cpu;

	if (!tdxsim_platform.on)
		return 0;

	all_ones = (void *)__get_free_pages(GFP_KERNEL, 2);
	if (!all_ones)
		return -ENOMEM;
	memset(all_ones, 0xff, 4 * PAGE_SIZE);

	for_each_possible_cpu(cpu) {
		struct svm_cpu *c = &per_cpu(svm_cpu, cpu);

		c->host_vmcb = (void *)get_zeroed_page(GFP_KERNEL);
		c->hsave = (void *)get_zeroed_page(GFP_KERNEL);
		c->init_xsave = (void *)get_zeroed_page(GFP_KERNEL);
		c->host_xsave = (void *)get_zeroed_page(GFP_KERNEL);
		if (!c->host_vmcb || !c->hsave || !c->init_xsave || !c->host_xsave)
			return -ENOMEM;
		*(u32 *)(c->init_xsave + 24) = MXCSR_DEFAULT;
	}

	return 0;
}
early_initcall(enter_init);
