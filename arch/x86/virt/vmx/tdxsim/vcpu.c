// SPDX-License-Identifier: GPL-2.0
/*
 * tdxsim: life of a vCPU, and what the host may read and write of it.
 */
#include <linux/bitfield.h>
#include <linux/smp.h>
#include <linux/string.h>
#include <asm/cpuid/api.h>
#include <asm/processor-flags.h>
#include <asm/msr-index.h>
#include <asm/apicdef.h>

#include "td.h"

#define NO_CPU	(-1)

/* A vCPU that a leaf works on: its TDVPR and its TD's TDR are locked. */
struct vcpu_ref {
	struct tdxsim_vcpu *vcpu;
	struct tdxsim_pamt *pamt;
	enum tdxsim_lock_mode mode;
	struct tdxsim_td_ref td;
};

static u64 vcpu_get(u64 tdvpr, enum tdxsim_lock_mode mode, enum tdxsim_lock_mode td_mode,
		    struct vcpu_ref *ref)
{
	u64 status;

	status = tdxsim_pamt_get_type(tdvpr, PT_TDVPR, mode, OPID_RCX, &ref->pamt);
	if (status)
		return status;

	ref->mode = mode;
	ref->vcpu = tdxsim_va(tdvpr);
	status = tdxsim_td_get_op(tdxsim_pamt_owner(ref->pamt), td_mode, OPID_TDR,
				  TD_INITIALIZED, &ref->td);
	if (status)
		tdxsim_pamt_put(ref->pamt, mode);

	return status;
}

static void vcpu_put(struct vcpu_ref *ref)
{
	tdxsim_td_put(&ref->td);
	tdxsim_pamt_put(ref->pamt, ref->mode);
}

static bool has_all_pages(const struct tdxsim_vcpu *vcpu)
{
	return vcpu->nr_tdcx == ARRAY_SIZE(vcpu->tdcx);
}

/* A TD gets its vCPUs before TDH.MR.FINALIZE. */
static bool may_have_vcpus(const struct tdxsim_td *td)
{
	return td->op == TD_INITIALIZED;
}

static u64 wrong_state(const struct tdxsim_vcpu *vcpu)
{
	return tdxsim_status(ST_VCPU_STATE_INCORRECT, vcpu->state);
}

/* Associate the vCPU with this CPU, unless it is with another one. */
static u64 associate(struct vcpu_ref *ref, bool may_be_disabled)
{
	int cpu = raw_smp_processor_id();
	int old = NO_CPU;

	if (!has_all_pages(ref->vcpu))
		return ST_TDCX_NUM_INCORRECT;
	if (ref->vcpu->state != VCPU_READY &&
	    !(may_be_disabled && ref->vcpu->state == VCPU_DISABLED))
		return wrong_state(ref->vcpu);

	if (atomic_try_cmpxchg(&ref->vcpu->cpu, &old, cpu)) {
		atomic_inc(&ref->td.td->nr_assoc);
		return ST_SUCCESS;
	}

	return old == cpu ? ST_SUCCESS : ST_VCPU_ASSOCIATED;
}

/* RCX: page, RDX: TDR */
u64 tdxsim_vp_create(struct pt_regs *regs, u8 version)
{
	struct tdxsim_pamt *pamt;
	struct tdxsim_td_ref ref;
	struct tdxsim_vcpu *vcpu;
	u64 status;

	status = tdxsim_td_get_op(regs->dx, TDXSIM_SHARED, OPID_RDX, TD_INITIALIZED, &ref);
	if (status)
		return status;

	if (may_have_vcpus(ref.td))
		status = tdxsim_td_take_page(ref.td, regs->cx, PT_TDVPR, OPID_RCX, &pamt);
	else
		status = ST_OP_STATE_INCORRECT;

	if (!status) {
		vcpu = tdxsim_va(regs->cx);
		vcpu->tdvpr = regs->cx;
		atomic_set(&vcpu->cpu, NO_CPU);
		atomic_inc(&tdxsim_stats.vcpus);
		tdxsim_pamt_put(pamt, TDXSIM_EXCLUSIVE);
	}

	tdxsim_td_put(&ref);
	return status;
}

/* RCX: page, RDX: TDVPR */
u64 tdxsim_vp_addcx(struct pt_regs *regs, u8 version)
{
	struct tdxsim_pamt *pamt;
	struct vcpu_ref ref;
	u64 status;

	status = vcpu_get(regs->dx, TDXSIM_EXCLUSIVE, TDXSIM_SHARED, &ref);
	if (status)
		return status;

	if (!may_have_vcpus(ref.td.td))
		status = ST_OP_STATE_INCORRECT;
	else if (ref.vcpu->state != VCPU_CREATED)
		status = wrong_state(ref.vcpu);
	else if (has_all_pages(ref.vcpu))
		status = ST_TDCX_NUM_INCORRECT;
	else
		status = tdxsim_td_take_page(ref.td.td, regs->cx, PT_TDCX, OPID_RCX, &pamt);

	if (!status) {
		ref.vcpu->tdcx[ref.vcpu->nr_tdcx++] = regs->cx;
		tdxsim_pamt_put(pamt, TDXSIM_EXCLUSIVE);
	}

	vcpu_put(&ref);
	return status;
}

static void set_seg(struct vmcb_seg *seg, u16 attrib)
{
	seg->attrib = attrib;
	seg->limit = ~0U;
}

/* TDX module: "TD VCPU initial state". Attributes are in SVM's packed format. */
static void init_state(struct tdxsim_td *td, struct tdxsim_vcpu *vcpu, u64 rcx)
{
	struct vmcb *vmcb = tdxsim_vmcb(vcpu);
	u32 eax, ebx, ecx, edx;

	cpuid(1, &eax, &ebx, &ecx, &edx);
	vcpu->gpr[GPR_RBX] = tdxsim_td_gpaw(td);
	vcpu->gpr[GPR_RCX] = rcx;
	vcpu->gpr[GPR_R8] = rcx;
	vcpu->gpr[GPR_RDX] = eax;
	vcpu->gpr[GPR_RSI] = vcpu->index;
	vcpu->cr0 = X86_CR0_PE | X86_CR0_NE;
	vcpu->cr4 = X86_CR4_MCE;
	vcpu->efer = EFER_SCE | EFER_LME | EFER_NX;
	vcpu->xcr0 = XFEATURE_MASK_FP;
	vcpu->pat = 0x0007040600070406ULL;
	vcpu->apic_base = APIC_DEFAULT_PHYS_BASE | MSR_IA32_APICBASE_ENABLE | X2APIC_ENABLE |
			  (vcpu->index ? 0 : MSR_IA32_APICBASE_BSP);

	set_seg(&vmcb->save.cs, 0xc9b);
	set_seg(&vmcb->save.ds, 0xc93);
	set_seg(&vmcb->save.es, 0xc93);
	set_seg(&vmcb->save.ss, 0xc93);
	set_seg(&vmcb->save.fs, 0xc93);
	set_seg(&vmcb->save.gs, 0xc93);
	vmcb->save.ldtr.attrib = 0x082;
	vmcb->save.tr.attrib = 0x08b;
	vmcb->save.tr.limit = 0xffff;
	vmcb->save.rip = 0xfffffff0;
	vmcb->save.rflags = X86_EFLAGS_FIXED;
	vmcb->save.dr6 = 0xffff0ff0;
	vmcb->save.dr7 = 0x400;

	/* XSAVE area: x87 and SSE in their initial state. */
	*(u16 *)tdxsim_va(vcpu->tdcx[1]) = 0x37f;
	*(u32 *)(tdxsim_va(vcpu->tdcx[1]) + 24) = 0x1f80;
}

static u64 check_x2apic_id(const struct tdxsim_td *td, u64 id)
{
	int i;

	if (id >> 32)
		return tdxsim_status(ST_OPERAND_INVALID, OPID_R8);

	for (i = 0; i < atomic_read(&td->nr_vcpus); i++) {
		if (td->x2apic_ids[i] == id)
			return tdxsim_status(ST_X2APIC_ID_NOT_UNIQUE, id);
	}

	return ST_SUCCESS;
}

/* The TDR is held exclusively. */
static u64 init_vcpu(struct vcpu_ref *ref, u64 rcx, u64 x2apic_id)
{
	struct tdxsim_vcpu *vcpu = ref->vcpu;
	struct tdxsim_td *td = ref->td.td;
	u64 status;

	if (!may_have_vcpus(td))
		return ST_OP_STATE_INCORRECT;
	if (!has_all_pages(vcpu))
		return ST_TDCX_NUM_INCORRECT;
	if (vcpu->state != VCPU_CREATED)
		return wrong_state(vcpu);
	if (atomic_read(&td->nr_vcpus) >= td->params.max_vcpus)
		return ST_MAX_VCPUS_EXCEEDED;
	status = check_x2apic_id(td, x2apic_id);
	if (status)
		return status;

	vcpu->index = atomic_read(&td->nr_vcpus);
	vcpu->x2apic_id = x2apic_id;
	td->x2apic_ids[vcpu->index] = x2apic_id;
	atomic_inc(&td->nr_vcpus);
	init_state(td, vcpu, rcx);
	vcpu->state = VCPU_READY;

	return associate(ref, false);
}

/* RCX: TDVPR, RDX: initial RCX and R8, R8 (version 1): x2APIC id */
u64 tdxsim_vp_init(struct pt_regs *regs, u8 version)
{
	struct vcpu_ref ref;
	u64 status;

	status = vcpu_get(regs->cx, TDXSIM_EXCLUSIVE, TDXSIM_EXCLUSIVE, &ref);
	if (status)
		return status;

	status = init_vcpu(&ref, regs->dx, version ? regs->r8 :
						     atomic_read(&ref.td.td->nr_vcpus));
	vcpu_put(&ref);
	return status;
}

/* RCX: TDVPR. On the CPU that the vCPU is associated with. */
u64 tdxsim_vp_flush(struct pt_regs *regs, u8 version)
{
	struct tdxsim_pamt *pamt;
	struct tdxsim_td_ref ref;
	struct tdxsim_vcpu *vcpu;
	u64 status;
	int cpu;

	status = tdxsim_pamt_get_type(regs->cx, PT_TDVPR, TDXSIM_EXCLUSIVE, OPID_RCX, &pamt);
	if (status)
		return status;

	vcpu = tdxsim_va(regs->cx);
	/* Also for a TD that is fatal: it is to be torn down. */
	status = tdxsim_td_get(tdxsim_pamt_owner(pamt), TDXSIM_SHARED, OPID_TDR, &ref);
	if (status)
		goto out;

	cpu = raw_smp_processor_id();
	if (ref.td->life != TD_KEYS_CONFIGURED)
		status = ST_TD_KEYS_NOT_CONFIGURED;
	else if (!has_all_pages(vcpu))
		status = ST_TDCX_NUM_INCORRECT;
	else if (atomic_try_cmpxchg(&vcpu->cpu, &cpu, NO_CPU))
		atomic_dec(&ref.td->nr_assoc);
	else
		status = ST_VCPU_NOT_ASSOCIATED;

	tdxsim_td_put(&ref);
out:
	tdxsim_pamt_put(pamt, TDXSIM_EXCLUSIVE);
	return status;
}

/*
 * Fields of a vCPU that the host may see. KVM names VMCS fields by their
 * encoding, with no size in the field id.
 */
#define FIELD_CLASS		GENMASK_ULL(62, 56)
#define FIELD_NON_ARCH		BIT_ULL(63)
#define FIELD_CODE		GENMASK_ULL(31, 0)

#define CLASS_VMCS		0
#define CLASS_OTHER_GUEST	17
#define CLASS_MANAGEMENT	32

#define VMCS_POSTED_INTR_NV	0x0002
#define VMCS_POSTED_INTR_DESC	0x2016
#define VMCS_SHARED_EPTP	0x203c
#define VMCS_PIN_CONTROLS	0x4000
#define PIN_POSTED_INTR		BIT(7)
#define MGMT_PEND_NMI		11
#define OTHER_STATE_DETAILS	0x100

static bool shared_eptp_ok(u64 val)
{
	return tdxsim_hpa_is_memory(val, PAGE_SIZE, PAGE_SIZE);
}

static bool pid_ok(u64 val)
{
	return tdxsim_hpa_is_memory(val, 64, 64);
}

static u64 write_field(struct tdxsim_vcpu *vcpu, u64 field, u64 val, u64 mask)
{
	u32 code = FIELD_GET(FIELD_CODE, field);

	if (field & FIELD_NON_ARCH)
		return ST_METADATA_FIELD_NOT_WRITABLE;

	if (FIELD_GET(FIELD_CLASS, field) == CLASS_MANAGEMENT && code == MGMT_PEND_NMI) {
		if (mask & 0xff)
			vcpu->pend_nmi = val & 1;
		return ST_SUCCESS;
	}

	if (FIELD_GET(FIELD_CLASS, field) != CLASS_VMCS)
		return ST_METADATA_FIELD_NOT_WRITABLE;

	switch (code) {
	case VMCS_SHARED_EPTP:
		if (!shared_eptp_ok(val))
			return ST_METADATA_FIELD_VALUE_NOT_VALID;
		vcpu->shared_eptp = val;
		return ST_SUCCESS;
	case VMCS_POSTED_INTR_DESC:
		if (!pid_ok(val))
			return ST_METADATA_FIELD_VALUE_NOT_VALID;
		vcpu->pid_pa = val;
		return ST_SUCCESS;
	case VMCS_POSTED_INTR_NV:
		if (val > 255)
			return ST_METADATA_FIELD_VALUE_NOT_VALID;
		vcpu->pid_nv = val;
		return ST_SUCCESS;
	case VMCS_PIN_CONTROLS:
		/* The one bit that may be changed. */
		if (mask & ~(u64)PIN_POSTED_INTR)
			return ST_METADATA_FIELD_NOT_WRITABLE;
		if ((val & PIN_POSTED_INTR) && !vcpu->pid_pa)
			return ST_METADATA_FIELD_VALUE_NOT_VALID;
		vcpu->posted_intr = val & PIN_POSTED_INTR;
		return ST_SUCCESS;
	default:
		return ST_METADATA_FIELD_NOT_WRITABLE;
	}
}

static u64 read_field(struct tdxsim_vcpu *vcpu, u64 field, u64 *val)
{
	u32 code = FIELD_GET(FIELD_CODE, field);

	switch (FIELD_GET(FIELD_CLASS, field)) {
	case CLASS_OTHER_GUEST:
		if (!(field & FIELD_NON_ARCH) || code != OTHER_STATE_DETAILS)
			return ST_METADATA_FIELD_NOT_READABLE;
		*val = tdxsim_apic_pending(vcpu);
		return ST_SUCCESS;
	case CLASS_MANAGEMENT:
		if (code != MGMT_PEND_NMI)
			return ST_METADATA_FIELD_NOT_READABLE;
		*val = vcpu->pend_nmi;
		return ST_SUCCESS;
	case CLASS_VMCS:
		break;
	default:
		return ST_METADATA_FIELD_NOT_READABLE;
	}

	switch (code) {
	case VMCS_SHARED_EPTP:
		*val = vcpu->shared_eptp;
		return ST_SUCCESS;
	case VMCS_POSTED_INTR_DESC:
		*val = vcpu->pid_pa;
		return ST_SUCCESS;
	case VMCS_POSTED_INTR_NV:
		*val = vcpu->pid_nv;
		return ST_SUCCESS;
	case VMCS_PIN_CONTROLS:
		*val = vcpu->posted_intr ? PIN_POSTED_INTR : 0;
		return ST_SUCCESS;
	default:
		return ST_METADATA_FIELD_NOT_READABLE;
	}
}

/* RCX: TDVPR, RDX: field. R8 out: value. */
u64 tdxsim_vp_rd(struct pt_regs *regs, u8 version)
{
	struct vcpu_ref ref;
	u64 status, val = 0;

	regs->r8 = 0;
	status = vcpu_get(regs->cx, TDXSIM_SHARED, TDXSIM_SHARED, &ref);
	if (status)
		return status;

	status = associate(&ref, true);
	if (!status)
		status = read_field(ref.vcpu, regs->dx, &val);

	regs->r8 = val;
	vcpu_put(&ref);
	return status;
}

/* RCX: TDVPR, RDX: field, R8: value, R9: mask. R8 out: the value before. */
u64 tdxsim_vp_wr(struct pt_regs *regs, u8 version)
{
	struct vcpu_ref ref;
	u64 status, old = 0;

	status = vcpu_get(regs->cx, TDXSIM_SHARED, TDXSIM_SHARED, &ref);
	if (status)
		return status;

	status = associate(&ref, false);
	if (!status) {
		read_field(ref.vcpu, regs->dx, &old);
		status = write_field(ref.vcpu, regs->dx,
				     (old & ~regs->r9) | (regs->r8 & regs->r9), regs->r9);
	}

	regs->r8 = old;
	vcpu_put(&ref);
	return status;
}
