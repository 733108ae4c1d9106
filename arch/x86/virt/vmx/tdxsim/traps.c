// SPDX-License-Identifier: GPL-2.0
/*
 * tdxsim: makes the kernel believe that it runs on a TDX platform.
 *
 * The CPU below has no VMX and no TDX, so SEAMCALL and the VMX instructions
 * raise #UD: a die notifier, which runs before the exception tables are looked
 * at, does what they should have done. MSRs, CPUID and CR4 go through pv_ops
 * (CONFIG_PARAVIRT_XXL). The code under test is not touched.
 */
#define pr_fmt(fmt) "tdxsim: " fmt

#include <linux/array_size.h>
#include <linux/bitfield.h>
#include <linux/init.h>
#include <linux/kdebug.h>
#include <linux/kernel.h>
#include <linux/kstrtox.h>
#include <linux/notifier.h>
#include <linux/percpu.h>
#include <linux/mm.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <asm/cpufeature.h>
#include <asm/cpuid/api.h>
#include <asm/e820/api.h>
#include <asm/insn.h>
#include <asm/insn-eval.h>
#include <asm/msr.h>
#include <asm/msr-index.h>
#include <asm/paravirt.h>
#include <asm/processor.h>
#include <asm/processor-flags.h>
#include <asm/special_insns.h>
#include <asm/tlbflush.h>
#include <asm/trapnr.h>
#include <asm/vmx.h>

#include "tdxsim.h"

struct tdxsim_platform tdxsim_platform __ro_after_init;

#define NO_VMCS		(~0ULL)

DEFINE_PER_CPU(struct tdxsim_lp, tdxsim_lp) = { .vmcs = NO_VMCS };

#define VMCS_REVISION	1

/* High half of a capability MSR: which controls may be 1; low half: which must be 1. */
#define ALLOW_ALL	GENMASK_ULL(63, 32)

/* CPUID leaf 1, ECX; leaf 7 subleaf 0, ECX; leaf 0x80000008, EAX */
#define CPUID_1_ECX_VMX			BIT(5)
#define CPUID_7_ECX_TME			BIT(13)
#define CPUID_80000008_EAX_MAXPHYADDR	GENMASK(7, 0)

#define MSR_TME_ACTIVATE		0x982
#define TME_ACTIVATE_LOCKED		BIT_ULL(0)
#define TME_ACTIVATE_ENABLED		BIT_ULL(1)
#define TME_ACTIVATE_KEYID_BITS		GENMASK_ULL(35, 32)

/*
 * What a CPU with VMX says. Every control is allowed, the reserved ones that
 * hardware has at 1 are at 1. With VMX_BASIC_NO_SEAMRET_INVD_VMCS clear, which
 * is what older CPUs have, the kernel does not offer to update the module.
 */
static bool vmx_msr(u32 msr, u64 *val)
{
	switch (msr) {
	case MSR_IA32_FEAT_CTL:
		*val = FEAT_CTL_LOCKED | FEAT_CTL_VMX_ENABLED_OUTSIDE_SMX;
		return true;
	case MSR_TME_ACTIVATE:
		*val = TME_ACTIVATE_LOCKED | TME_ACTIVATE_ENABLED |
		       FIELD_PREP(TME_ACTIVATE_KEYID_BITS, TDXSIM_KEYID_BITS);
		return true;
	case MSR_IA32_MKTME_KEYID_PARTITIONING:
		*val = (u64)TDXSIM_NR_TDX_KEYIDS << 32 | TDXSIM_NR_MKTME_KEYIDS;
		return true;
	case MSR_IA32_VMX_BASIC:
		*val = VMCS_REVISION | (u64)PAGE_SIZE << 32 | (u64)X86_MEMTYPE_WB << 50 |
		       VMX_BASIC_INOUT | VMX_BASIC_TRUE_CTLS;
		if (tdxsim_opt(update))
			*val |= VMX_BASIC_NO_SEAMRET_INVD_VMCS;
		return true;
	case MSR_IA32_VMX_PINBASED_CTLS:
	case MSR_IA32_VMX_TRUE_PINBASED_CTLS:
		*val = 0xffULL << 32 | PIN_BASED_ALWAYSON_WITHOUT_TRUE_MSR;
		return true;
	case MSR_IA32_VMX_PROCBASED_CTLS:
	case MSR_IA32_VMX_TRUE_PROCBASED_CTLS:
		*val = ALLOW_ALL | 0x04006172;
		return true;
	case MSR_IA32_VMX_EXIT_CTLS:
	case MSR_IA32_VMX_TRUE_EXIT_CTLS:
		*val = ALLOW_ALL | VM_EXIT_ALWAYSON_WITHOUT_TRUE_MSR;
		return true;
	case MSR_IA32_VMX_ENTRY_CTLS:
	case MSR_IA32_VMX_TRUE_ENTRY_CTLS:
		*val = ALLOW_ALL | VM_ENTRY_ALWAYSON_WITHOUT_TRUE_MSR;
		return true;
	case MSR_IA32_VMX_PROCBASED_CTLS2:
		*val = ALLOW_ALL;
		return true;
	case MSR_IA32_VMX_PROCBASED_CTLS3:
		*val = 0;
		return true;
	case MSR_IA32_VMX_MISC:
		*val = VMX_MISC_VMWRITE_SHADOW_RO_FIELDS | 4ULL << 16 | VMX_MISC_ACTIVITY_HLT |
		       VMX_MISC_ACTIVITY_SHUTDOWN | VMX_MISC_ACTIVITY_WAIT_SIPI | 5;
		return true;
	case MSR_IA32_VMX_CR0_FIXED0:
		*val = X86_CR0_PG | X86_CR0_NE | X86_CR0_PE;
		return true;
	case MSR_IA32_VMX_CR0_FIXED1:
		*val = GENMASK_ULL(31, 0);
		return true;
	case MSR_IA32_VMX_CR4_FIXED0:
		*val = X86_CR4_VMXE;
		return true;
	case MSR_IA32_VMX_CR4_FIXED1:
		*val = 0x3767ff;	/* all that were defined up to PKE */
		return true;
	case MSR_IA32_VMX_VMCS_ENUM:
		*val = 0x2e;
		return true;
	case MSR_IA32_VMX_EPT_VPID_CAP:
		*val = VMX_EPT_EXECUTE_ONLY_BIT | VMX_EPT_PAGE_WALK_4_BIT |
		       VMX_EPTP_UC_BIT | VMX_EPTP_WB_BIT |
		       VMX_EPT_2MB_PAGE_BIT | VMX_EPT_1GB_PAGE_BIT |
		       VMX_EPT_INVEPT_BIT | VMX_EPT_AD_BIT |
		       VMX_EPT_EXTENT_CONTEXT_BIT | VMX_EPT_EXTENT_GLOBAL_BIT |
		       (u64)(VMX_VPID_INVVPID_BIT |
			     VMX_VPID_EXTENT_INDIVIDUAL_ADDR_BIT |
			     VMX_VPID_EXTENT_SINGLE_CONTEXT_BIT |
			     VMX_VPID_EXTENT_GLOBAL_CONTEXT_BIT |
			     VMX_VPID_EXTENT_SINGLE_NON_GLOBAL_BIT) << 32;
		return true;
	default:
		return false;
	}
}

static notrace u64 tdxsim_read_msr(u32 msr)
{
	u64 val;

	return vmx_msr(msr, &val) ? val : native_read_msr(msr);
}

static notrace int tdxsim_read_msr_safe(u32 msr, u64 *val)
{
	return vmx_msr(msr, val) ? 0 : native_read_msr_safe(msr, val);
}

/*
 * VMXE never gets to the CPU: QEMU's TCG does not come back from a write with
 * it. It is taken out of the shadow too, which TLB flushes write back. So a
 * kernel that clears it later changes nothing and does not come here: VMXOFF
 * is taken for that.
 */
static notrace void tdxsim_write_cr4(unsigned long cr4)
{
	if (cr4 & X86_CR4_VMXE) {
		this_cpu_write(tdxsim_lp.vmxe, true);
		cr4 &= ~X86_CR4_VMXE;
		this_cpu_write(cpu_tlbstate.cr4, cr4);
	}

	native_write_cr4(cr4);
}

/*
 * KVM looks at CPUID itself, not only at the kernel's idea of the CPU's features.
 *
 * The address width is that of CPUs with TDX. QEMU's TCG has less, but what is
 * above its 40 bits is either not there, as memory, or in page tables that only
 * tdxsim walks.
 */
static notrace void tdxsim_cpuid(unsigned int *eax, unsigned int *ebx,
				 unsigned int *ecx, unsigned int *edx)
{
	unsigned int leaf = *eax, subleaf = *ecx;

	native_cpuid(eax, ebx, ecx, edx);
	if (leaf == 1)
		*ecx |= CPUID_1_ECX_VMX;
	else if (leaf == 7 && subleaf == 0)
		*ecx |= CPUID_7_ECX_TME;
	else if (leaf == 0x80000008)
		FIELD_MODIFY(CPUID_80000008_EAX_MAXPHYADDR, eax, TDXSIM_MAXPHYADDR);
}

/*
 * VMX instructions.
 *
 * VMXON and VMXOFF are real; a VMCS can be filled and read back (the fields are
 * kept in its page), but never be entered: only TDs can run.
 */
enum vmx_insn {
	NOT_VMX,
	INSN_SEAMCALL,
	INSN_VMXON, INSN_VMXOFF,
	INSN_VMCLEAR, INSN_VMPTRLD, INSN_VMPTRST,
	INSN_VMREAD, INSN_VMWRITE,
	INSN_VMLAUNCH, INSN_VMRESUME,
	INSN_INVEPT, INSN_INVVPID,
};

#define VMX_FLAGS	(X86_EFLAGS_CF | X86_EFLAGS_PF | X86_EFLAGS_AF | \
			 X86_EFLAGS_ZF | X86_EFLAGS_SF | X86_EFLAGS_OF)

static void vm_succeed(struct pt_regs *regs)
{
	regs->flags &= ~VMX_FLAGS;
}

static void vm_fail_invalid(struct pt_regs *regs)
{
	regs->flags = (regs->flags & ~VMX_FLAGS) | X86_EFLAGS_CF;
}

/*
 * Fields of a VMCS by type (bits 11:10 of the encoding) and width (14:13): how
 * many indexes (9:1) there is room for. All fields that KVM knows have some.
 */
static const u8 vmcs_nr[4][4] = {
	/* control, read-only, guest, host */
	{ 16,  0, 16, 16 },		/* 16 bits */
	{ 64, 16, 48, 16 },		/* 64 bits */
	{ 32, 16, 32, 16 },		/* 32 bits */
	{ 16, 16, 48, 32 },		/* natural width */
};

/* The place of @field in the VMCS's page, NULL if there is none. */
static u64 *vmcs_field(unsigned long field)
{
	unsigned int type = FIELD_GET(GENMASK(11, 10), field);
	unsigned int width = FIELD_GET(GENMASK(14, 13), field);
	unsigned int index = FIELD_GET(GENMASK(9, 1), field);
	unsigned int slot = 1;		/* revision and abort indicator are first */
	unsigned int i;
	u64 *vmcs;

	if ((field & ~GENMASK(14, 1)) || (field & BIT(12)) || index >= vmcs_nr[width][type])
		return NULL;

	for (i = 0; i < width * 4 + type; i++)
		slot += vmcs_nr[i / 4][i % 4];
	slot += index;

	vmcs = tdxsim_va(this_cpu_read(tdxsim_lp.vmcs));
	return &vmcs[slot];
}

static void vm_fail(struct pt_regs *regs, unsigned int error)
{
	if (this_cpu_read(tdxsim_lp.vmcs) == NO_VMCS) {
		vm_fail_invalid(regs);
		return;
	}

	*vmcs_field(VM_INSTRUCTION_ERROR) = error;
	regs->flags = (regs->flags & ~VMX_FLAGS) | X86_EFLAGS_ZF;
}

/* The operand in memory, or the register if the instruction has none there. */
static u64 *insn_operand(struct insn *insn, struct pt_regs *regs)
{
	int off;

	if (X86_MODRM_MOD(insn->modrm.value) != 3) {
		void __user *addr = insn_get_addr_ref(insn, regs);

		return addr == (void __user *)-1L ? NULL : (__force u64 *)addr;
	}

	off = insn_get_modrm_rm_off(insn, regs);
	return off < 0 ? NULL : (void *)regs + off;
}

static bool vmcs_pa_ok(u64 pa)
{
	return tdxsim_hpa_is_memory(pa, PAGE_SIZE, PAGE_SIZE);
}

static bool vmcs_revision_ok(u64 pa)
{
	return *(u32 *)tdxsim_va(pa) == VMCS_REVISION;
}

/* False: #UD, as on a CPU where the instruction exists and is not legal here. */
static bool do_vmxon(struct pt_regs *regs, u64 pa)
{
	struct tdxsim_lp *lp = this_cpu_ptr(&tdxsim_lp);

	if (!lp->vmxe)
		return false;

	if (lp->vmxon) {
		vm_fail(regs, VMXERR_VMXON_IN_VMX_ROOT_OPERATION);
	} else if (!vmcs_pa_ok(pa) || !vmcs_revision_ok(pa)) {
		vm_fail_invalid(regs);
	} else {
		lp->vmxon = true;
		lp->vmcs = NO_VMCS;
		vm_succeed(regs);
	}

	return true;
}

static void do_vmxoff(struct pt_regs *regs)
{
	struct tdxsim_lp *lp = this_cpu_ptr(&tdxsim_lp);

	lp->vmxon = false;
	lp->vmxe = false;
	lp->vmcs = NO_VMCS;
	vm_succeed(regs);
}

static void do_vmclear(struct pt_regs *regs, u64 pa)
{
	if (!vmcs_pa_ok(pa)) {
		vm_fail(regs, VMXERR_VMCLEAR_INVALID_ADDRESS);
		return;
	}

	if (pa == this_cpu_read(tdxsim_lp.vmcs))
		this_cpu_write(tdxsim_lp.vmcs, NO_VMCS);
	vm_succeed(regs);
}

static void do_vmptrld(struct pt_regs *regs, u64 pa)
{
	if (!vmcs_pa_ok(pa)) {
		vm_fail(regs, VMXERR_VMPTRLD_INVALID_ADDRESS);
		return;
	}
	if (!vmcs_revision_ok(pa)) {
		vm_fail(regs, VMXERR_VMPTRLD_INCORRECT_VMCS_REVISION_ID);
		return;
	}

	this_cpu_write(tdxsim_lp.vmcs, pa);
	vm_succeed(regs);
}

static void do_vmread_vmwrite(struct pt_regs *regs, struct insn *insn, u64 *operand, bool write)
{
	unsigned long *field = insn_get_modrm_reg_ptr(insn, regs);
	u64 *slot;

	if (this_cpu_read(tdxsim_lp.vmcs) == NO_VMCS) {
		vm_fail_invalid(regs);
		return;
	}

	slot = field ? vmcs_field(*field) : NULL;
	if (!slot) {
		vm_fail(regs, VMXERR_UNSUPPORTED_VMCS_COMPONENT);
		return;
	}

	if (write)
		*slot = *operand;
	else
		*operand = *slot;
	vm_succeed(regs);
}

static void do_vmlaunch(struct pt_regs *regs)
{
	pr_notice_once("only TDs can run here: VM entry of another VM refused\n");
	vm_fail(regs, VMXERR_ENTRY_INVALID_CONTROL_FIELD);
}

/* Instructions by opcode and, where several share it, what tells them apart. */
static const struct vmx_opcode {
	enum vmx_insn insn;
	u8 opcode[2];			/* after 0x0f; the second one 0 if there is none */
	u8 prefix;			/* 0x66, 0xf3, or 0 for neither of them */
	u8 modrm_mask, modrm;		/* the ModRM byte and which of its bits matter */
	bool mem;			/* the operand is in memory */
} vmx_opcodes[] = {
	{ INSN_VMLAUNCH, { 0x01 }, 0, 0xff, 0xc2 },
	{ INSN_VMRESUME, { 0x01 }, 0, 0xff, 0xc3 },
	{ INSN_VMXOFF,	 { 0x01 }, 0, 0xff, 0xc4 },
	{ INSN_INVEPT,	 { 0x38, 0x80 }, 0x66, .mem = true },
	{ INSN_INVVPID,	 { 0x38, 0x81 }, 0x66, .mem = true },
	{ INSN_VMREAD,	 { 0x78 } },
	{ INSN_VMWRITE,	 { 0x79 } },
	{ INSN_VMPTRLD,	 { 0xc7 }, 0, 0x38, 6 << 3, .mem = true },
	{ INSN_VMCLEAR,	 { 0xc7 }, 0x66, 0x38, 6 << 3, .mem = true },
	{ INSN_VMXON,	 { 0xc7 }, 0xf3, 0x38, 6 << 3, .mem = true },
	{ INSN_VMPTRST,	 { 0xc7 }, 0, 0x38, 7 << 3, .mem = true },
};

static enum vmx_insn vmx_insn(u8 first, const struct insn *insn)
{
	bool mem = X86_MODRM_MOD(insn->modrm.value) != 3;
	u8 prefix = first == 0x66 || first == 0xf3 ? first : 0;
	unsigned int i;

	if (insn->opcode.bytes[0] != 0x0f)
		return NOT_VMX;

	for (i = 0; i < ARRAY_SIZE(vmx_opcodes); i++) {
		const struct vmx_opcode *op = &vmx_opcodes[i];

		if (insn->opcode.bytes[1] == op->opcode[0] &&
		    (!op->opcode[1] || insn->opcode.bytes[2] == op->opcode[1]) &&
		    prefix == op->prefix && (mem || !op->mem) &&
		    (insn->modrm.bytes[0] & op->modrm_mask) == op->modrm)
			return op->insn;
	}

	return NOT_VMX;
}

static bool has_operand(enum vmx_insn what)
{
	switch (what) {
	case INSN_VMXON:
	case INSN_VMCLEAR:
	case INSN_VMPTRLD:
	case INSN_VMPTRST:
	case INSN_VMREAD:
	case INSN_VMWRITE:
		return true;
	default:
		return false;
	}
}

/* False: a #UD that is none of ours, or that the instruction deserves. */
static bool emulate(struct pt_regs *regs, struct insn *insn, enum vmx_insn what)
{
	u64 *operand = NULL;

	if (what == NOT_VMX)
		return false;

	/* All of them but VMXON are #UD outside VMX operation. */
	if (what != INSN_VMXON && !this_cpu_read(tdxsim_lp.vmxon))
		return false;

	if (has_operand(what)) {
		operand = insn_operand(insn, regs);
		if (!operand)
			return false;
	}

	switch (what) {
	case INSN_SEAMCALL:
		tdxsim_seamcall(regs);
		return true;
	case INSN_VMXON:
		return do_vmxon(regs, *operand);
	case INSN_VMXOFF:
		do_vmxoff(regs);
		return true;
	case INSN_VMCLEAR:
		do_vmclear(regs, *operand);
		return true;
	case INSN_VMPTRLD:
		do_vmptrld(regs, *operand);
		return true;
	case INSN_VMPTRST:
		*operand = this_cpu_read(tdxsim_lp.vmcs);
		vm_succeed(regs);
		return true;
	case INSN_VMREAD:
	case INSN_VMWRITE:
		do_vmread_vmwrite(regs, insn, operand, what == INSN_VMWRITE);
		return true;
	case INSN_VMLAUNCH:
	case INSN_VMRESUME:
		do_vmlaunch(regs);
		return true;
	case INSN_INVEPT:
	case INSN_INVVPID:
		vm_succeed(regs);
		return true;
	default:
		return false;
	}
}

static int tdxsim_die(struct notifier_block *nb, unsigned long event, void *data)
{
	static const u8 seamcall[] = { 0x66, 0x0f, 0x01, 0xcf };
	struct die_args *args = data;
	struct pt_regs *regs = args->regs;
	u8 bytes[sizeof(seamcall)];
	struct insn insn = {};
	enum vmx_insn what;

	/* SEAMCALL and the VMX instructions are for ring 0. */
	if (event != DIE_TRAP || args->trapnr != X86_TRAP_UD || user_mode(regs))
		return NOTIFY_DONE;

	if (copy_from_kernel_nofault(bytes, (void *)regs->ip, sizeof(bytes)))
		return NOTIFY_DONE;

	/* Not decoded, for speed: TDH.VP.ENTER comes this way too. */
	if (!memcmp(bytes, seamcall, sizeof(seamcall))) {
		what = INSN_SEAMCALL;
		insn.length = sizeof(seamcall);
	} else {
		if (insn_decode_kernel(&insn, (void *)regs->ip) < 0)
			return NOTIFY_DONE;
		what = vmx_insn(bytes[0], &insn);
	}

	if (!emulate(regs, &insn, what))
		return NOTIFY_DONE;

	regs->ip += insn.length;
	return NOTIFY_STOP;
}

static struct notifier_block tdxsim_die_nb = {
	.notifier_call = tdxsim_die,
	.priority = INT_MAX,
};

/* Convertible memory is what the firmware calls RAM. */
static void __init find_cmrs(void)
{
	unsigned int i;

	for (i = 0; i < e820_table_firmware->nr_entries; i++) {
		struct e820_entry *entry = &e820_table_firmware->entries[i];
		struct tdxsim_range *cmr = &tdxsim_platform.cmrs[tdxsim_platform.nr_cmrs];

		if (entry->type != E820_TYPE_RAM)
			continue;

		/* Neighbours may make one range. */
		if (tdxsim_platform.nr_cmrs && cmr[-1].end == PAGE_ALIGN_DOWN(entry->addr)) {
			cmr[-1].end = PAGE_ALIGN(entry->addr + entry->size);
			continue;
		}

		if (tdxsim_platform.nr_cmrs == TDXSIM_MAX_CMRS) {
			pr_warn("more than %d memory ranges: the rest is not for TDX\n",
				TDXSIM_MAX_CMRS);
			return;
		}
		cmr->start = PAGE_ALIGN_DOWN(entry->addr);
		cmr->end = PAGE_ALIGN(entry->addr + entry->size);
		tdxsim_platform.nr_cmrs++;
	}
}

/* An early parameter: later the calls through pv_ops are patched to direct ones. */
static int __init tdxsim_setup(char *arg)
{
	bool on;

	if (!arg || kstrtobool(arg, &on)) {
		pr_err("tdxsim=%s: say tdxsim=on or tdxsim=off\n", arg ?: "");
		return -EINVAL;
	}
	if (!on || tdxsim_platform.on)
		return 0;

	if (boot_cpu_data.x86_vendor != X86_VENDOR_INTEL ||
	    (native_cpuid_ecx(1) & CPUID_1_ECX_VMX)) {
		pr_err("off: needs an Intel CPU without VMX, as QEMU has with -accel tcg -cpu max,vendor=GenuineIntel\n");
		return 0;
	}

	tdxsim_platform.on = true;
	find_cmrs();
	tdxsim_module_load(false);

	setup_force_cpu_cap(X86_FEATURE_VMX);
	/* Required by the kernel for TDX; the double does not depend on them. */
	setup_force_cpu_cap(X86_FEATURE_MOVDIR64B);
	setup_force_cpu_cap(X86_FEATURE_SELFSNOOP);
	/* As on such CPUs. QEMU's TSC is too, without a CPUID bit; KVM wants it on PREEMPT_RT. */
	setup_force_cpu_cap(X86_FEATURE_CONSTANT_TSC);
	/* CPUs with TDX are not vulnerable, and those which are have fewer address bits. */
	clear_bit(X86_BUG_L1TF, (unsigned long *)cpu_caps_set);
	setup_clear_cpu_cap(X86_BUG_L1TF);

	pv_ops.cpu.read_msr = tdxsim_read_msr;
	pv_ops.cpu.read_msr_safe = tdxsim_read_msr_safe;
	pv_ops.cpu.write_cr4 = tdxsim_write_cr4;
	pv_ops.cpu.cpuid = tdxsim_cpuid;
	register_die_notifier(&tdxsim_die_nb);

	pr_notice("This machine plays a TDX platform, with a TDX module in software. It is for tests: nothing that it protects is protected.\n");
	return 0;
}
early_param("tdxsim", tdxsim_setup);
