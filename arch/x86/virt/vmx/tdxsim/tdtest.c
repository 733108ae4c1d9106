// SPDX-License-Identifier: GPL-2.0
/*
 * tdxsim: does the module refuse what it has to refuse, where TDs are concerned?
 *
 * One TD with one vCPU lives through all of its states, and each leaf is called
 * in wrong ones and with bad operands on the way.
 */
#include <linux/cpumask.h>
#include <linux/irqflags.h>
#include <linux/mm.h>
#include <linux/smp.h>
#include <linux/string.h>
#include <asm/apic.h>
#include <asm/asm.h>
#include <asm/debugreg.h>
#include <asm/fpu/xcr.h>
#include <asm/irq_vectors.h>
#include <asm/msr.h>
#include <asm/topology.h>

#include "selftest.h"
#include "td.h"

#define TD_HKID			(HKID + 1)
#define BUSY(opid)		(ST_OPERAND_BUSY | (opid))
#define WRONG_PAGE(opid)	(ST_PAGE_METADATA_INCORRECT | (opid))
#define WRONG_ENTRY		(ST_EPT_ENTRY_STATE_INCORRECT | OPID_RCX)

/* What the pages are used for. */
enum {
	PG_TDR = FIRST_TD_PAGE,
	PG_TDCX,
	PG_TDVPR = PG_TDCX + TDXSIM_TDCS_PAGES,
	PG_VP_TDCX,
	PG_TDVPR2 = PG_VP_TDCX + TDXSIM_TDVPS_PAGES - 1,
	PG_VP2_TDCX,
	PG_SEPT = PG_VP2_TDCX + TDXSIM_TDVPS_PAGES - 1,
	PG_CODE = PG_SEPT + 3,
	PG_DATA,
	PG_TD_LAST = PG_DATA,
	PG_HOST,		/* the host's: content, parameters, input */
	PG_HOST2,
	PG_LIST,
	PG_LIST2,
	PG_QUOTE,		/* two of them */
	PG_LAST = PG_QUOTE + 1,
};

static_assert(PG_LAST < NR_PAGES);

/* GPAs, in one page table of the Secure EPT. */
#define GPA_CODE	0xfffff000ULL
#define GPA_DATA	0xffff0000ULL
#define GPA_SHARED	BIT_ULL(47)

#define VP_ENTER_EPT_VIOLATION	48
#define VP_ENTER_TRIPLE_FAULT	2
#define VP_ENTER_INTERRUPT	1
#define QUAL_PENDING		6

static u64 tdr(void)
{
	return page_pa(PG_TDR);
}

static struct tdxsim_td *td(void)
{
	return __va(tdr());
}

static void *host_page(unsigned int i)
{
	return memset(__va(page_pa(i)), 0, PAGE_SIZE);
}

static bool is_zero(unsigned int page)
{
	return !memchr_inv(__va(page_pa(page)), 0, PAGE_SIZE);
}

/* Call a leaf on one CPU of each package, and go on with it until it is done. */
struct package_call {
	u64 leaf;
	struct args args;
	u64 resume_rcx;
	u64 status;
	unsigned int interrupted;
};

static void package_call_ipi(void *data)
{
	struct package_call *call = data;
	struct args args = call->args;

	call->interrupted = 0;
	while ((call->status = seamcall(call->leaf, &args)) == ST_INTERRUPTED_RESUMABLE) {
		args = call->args;
		args.rcx = call->resume_rcx;
		call->interrupted++;
	}
}

static void on_other_packages(const char *what, struct package_call *call)
{
	int cpu;

	for_each_online_cpu(cpu) {
		if (cpu != cpumask_first(topology_core_cpumask(cpu)) ||
		    topology_physical_package_id(cpu) ==
		    topology_physical_package_id(smp_processor_id()))
			continue;
		smp_call_function_single(cpu, package_call_ipi, call, true);
		result(what, call->status, ST_SUCCESS);
	}
}

static void test_create(void)
{
	struct package_call call = { .leaf = LEAF_MNG_KEY_CONFIG, .args = { .rcx = tdr() } };

	expect("MNG.CREATE: KeyID that is not private", INVALID(OPID_RDX), LEAF_MNG_CREATE,
	       .rcx = tdr(), .rdx = HKID - 1);
	expect("MNG.CREATE: KeyID of the module", ST_HKID_NOT_FREE, LEAF_MNG_CREATE,
	       .rcx = tdr(), .rdx = HKID);
	expect("MNG.CREATE: unaligned TDR", INVALID(OPID_RCX), LEAF_MNG_CREATE,
	       .rcx = tdr() + 8, .rdx = TD_HKID);
	expect("MNG.KEY.CONFIG: no TDR", WRONG_PAGE(OPID_RCX), LEAF_MNG_KEY_CONFIG, .rcx = tdr());
	expect("MNG.CREATE", ST_SUCCESS, LEAF_MNG_CREATE, .rcx = tdr(), .rdx = TD_HKID);
	expect_page("... the page is a TDR now", tdr(), PT_TDR);
	expect("MNG.CREATE: page that is in use", WRONG_PAGE(OPID_RCX), LEAF_MNG_CREATE,
	       .rcx = tdr(), .rdx = TD_HKID + 1);
	expect("MNG.CREATE: KeyID that is in use", ST_HKID_NOT_FREE, LEAF_MNG_CREATE,
	       .rcx = page_pa(PG_HOST), .rdx = TD_HKID);

	expect("MNG.ADDCX before KEY.CONFIG", ST_TD_KEYS_NOT_CONFIGURED, LEAF_MNG_ADDCX,
	       .rcx = page_pa(PG_TDCX), .rdx = tdr());
	expect("PAGE.RECLAIM of a TDR that lives", ST_LIFECYCLE_STATE_INCORRECT,
	       LEAF_PHYMEM_PAGE_RECLAIM, .rcx = tdr());
	expect("MNG.KEY.FREEID before VPFLUSHDONE", ST_LIFECYCLE_STATE_INCORRECT,
	       LEAF_MNG_KEY_FREEID, .rcx = tdr());

	expect("MNG.KEY.CONFIG", ST_SUCCESS, LEAF_MNG_KEY_CONFIG, .rcx = tdr());
	on_other_packages("MNG.KEY.CONFIG on another package", &call);
	expect("MNG.KEY.CONFIG once too often", ST_LIFECYCLE_STATE_INCORRECT, LEAF_MNG_KEY_CONFIG,
	       .rcx = tdr());
}

static void test_addcx(void)
{
	unsigned int i;

	expect("MNG.INIT before ADDCX", ST_TDCS_NOT_ALLOCATED, LEAF_MNG_INIT, .rcx = tdr(),
	       .rdx = page_pa(PG_HOST));
	expect("MNG.ADDCX: page that is in use", WRONG_PAGE(OPID_RCX), LEAF_MNG_ADDCX,
	       .rcx = page_pa(0), .rdx = tdr());
	for (i = 0; i < TDXSIM_TDCS_PAGES; i++)
		expect("MNG.ADDCX", ST_SUCCESS, LEAF_MNG_ADDCX, .rcx = page_pa(PG_TDCX + i),
		       .rdx = tdr());
	expect("MNG.ADDCX: too many", ST_TDCX_NUM_INCORRECT, LEAF_MNG_ADDCX,
	       .rcx = page_pa(PG_HOST), .rdx = tdr());
}

static struct tdxsim_td_params *good_params(void)
{
	struct tdxsim_td_params *params = host_page(PG_HOST);

	params->attributes = TD_ATTR_SEPT_VE_DISABLE;
	params->xfam = 3;
	params->max_vcpus = 1;
	params->eptp_controls = 3 << 3 | 6;
	params->config_flags = TD_CONFIG_NO_RBP_MOD;
	params->tsc_frequency = 40;
	return params;
}

static void expect_init(const char *what, u64 want)
{
	expect(what, want, LEAF_MNG_INIT, .rcx = tdr(), .rdx = page_pa(PG_HOST));
	good_params();
}

static void test_init(void)
{
	struct tdxsim_td_params *params = good_params();

	expect("MNG.INIT: unaligned parameters", INVALID(OPID_RDX), LEAF_MNG_INIT,
	       .rcx = tdr(), .rdx = page_pa(PG_HOST) + 512);
	expect("MNG.INIT: parameters in a page of the module", INVALID(OPID_RDX), LEAF_MNG_INIT,
	       .rcx = tdr(), .rdx = page_pa(PG_TDCX));
	params->attributes = BIT_ULL(63);
	expect_init("MNG.INIT: attributes", INVALID(OPID_ATTRIBUTES));
	params->xfam = 0;
	expect_init("MNG.INIT: XFAM", INVALID(OPID_XFAM));
	params->max_vcpus = 0;
	expect_init("MNG.INIT: no vCPUs", INVALID(OPID_MAX_VCPUS));
	params->max_vcpus = TDXSIM_MAX_VCPUS_PER_TD + 1;
	expect_init("MNG.INIT: too many vCPUs", INVALID(OPID_MAX_VCPUS));
	params->eptp_controls = 0;
	expect_init("MNG.INIT: EPTP controls", INVALID(OPID_EPTP_CONTROLS));
	params->config_flags |= TD_CONFIG_GPAW;
	expect_init("MNG.INIT: GPAW with four levels", INVALID(OPID_EXEC_CONTROLS));
	params->tsc_frequency = 1;
	expect_init("MNG.INIT: TSC frequency", INVALID(OPID_TSC_FREQUENCY));
	params->cpuid_values[47][0] = 1;
	expect_init("MNG.INIT: CPUID", INVALID(OPID_CPUID_CONFIG));
	params->reserved0[0] = 1;
	expect_init("MNG.INIT: reserved field", INVALID(OPID_RDX));

	expect("MNG.RD before INIT", ST_OP_STATE_INCORRECT, LEAF_MNG_RD, .rcx = tdr());
	expect("VP.CREATE before INIT", ST_OP_STATE_INCORRECT, LEAF_VP_CREATE,
	       .rcx = page_pa(PG_TDVPR), .rdx = tdr());
	expect_init("MNG.INIT", ST_SUCCESS);
	expect_init("MNG.INIT again", ST_OP_STATE_INCORRECT);
	expect("MNG.RD: unknown field", ST_METADATA_FIELD_NOT_READABLE, LEAF_MNG_RD, .rcx = tdr(),
	       .rdx = 0x1234);
}

static void add_vcpu(unsigned int tdvpr, unsigned int tdcx)
{
	unsigned int i;

	/* What the host leaves in the pages is nobody's state. */
	memset(__va(page_pa(tdvpr)), 0xff, PAGE_SIZE);
	memset(__va(page_pa(tdcx)), 0xff, PAGE_SIZE);
	expect("VP.CREATE", ST_SUCCESS, LEAF_VP_CREATE, .rcx = page_pa(tdvpr), .rdx = tdr());
	expect("VP.FLUSH before ADDCX", ST_TDCX_NUM_INCORRECT, LEAF_VP_FLUSH,
	       .rcx = page_pa(tdvpr));
	expect("VP.INIT before ADDCX", ST_TDCX_NUM_INCORRECT, LEAF_VP_INIT | V1,
	       .rcx = page_pa(tdvpr));
	for (i = 0; i < TDXSIM_TDVPS_PAGES - 1; i++)
		expect("VP.ADDCX", ST_SUCCESS, LEAF_VP_ADDCX, .rcx = page_pa(tdcx + i),
		       .rdx = page_pa(tdvpr));
	result("... cleared", is_zero(tdcx), true);
	expect("VP.ADDCX: too many", ST_TDCX_NUM_INCORRECT, LEAF_VP_ADDCX,
	       .rcx = page_pa(PG_HOST), .rdx = page_pa(tdvpr));
}

#define FIELD_SHARED_EPTP	0x203c
#define FIELD_GUEST_RIP		0x681e

static void test_vcpu(void)
{
	u64 tdvpr = page_pa(PG_TDVPR);
	struct args args;

	expect("MR.FINALIZE: no vCPU", ST_NO_VCPUS, LEAF_MR_FINALIZE, .rcx = tdr());
	add_vcpu(PG_TDVPR, PG_VP_TDCX);
	expect("VP.WR before INIT", ST_VCPU_STATE_INCORRECT | VCPU_CREATED, LEAF_VP_WR,
	       .rcx = tdvpr, .rdx = FIELD_SHARED_EPTP);
	expect("VP.INIT: x2APIC id too wide", INVALID(OPID_R8), LEAF_VP_INIT | V1, .rcx = tdvpr,
	       .r8 = BIT_ULL(32));
	expect("VP.INIT", ST_SUCCESS, LEAF_VP_INIT | V1, .rcx = tdvpr, .r8 = 5);
	expect("VP.INIT again", ST_VCPU_STATE_INCORRECT | VCPU_READY, LEAF_VP_INIT | V1,
	       .rcx = tdvpr, .r8 = 5);
	add_vcpu(PG_TDVPR2, PG_VP2_TDCX);
	expect("VP.INIT: too many vCPUs", ST_MAX_VCPUS_EXCEEDED, LEAF_VP_INIT | V1,
	       .rcx = page_pa(PG_TDVPR2), .r8 = 6);
	td()->params.max_vcpus++;
	expect("VP.INIT: x2APIC id of another vCPU", ST_X2APIC_ID_NOT_UNIQUE | 5,
	       LEAF_VP_INIT | V1, .rcx = page_pa(PG_TDVPR2), .r8 = 5);
	td()->params.max_vcpus--;

	expect("VP.WR: register of the guest", ST_METADATA_FIELD_NOT_WRITABLE, LEAF_VP_WR,
	       .rcx = tdvpr, .rdx = FIELD_GUEST_RIP, .r9 = ~0ULL);
	expect("VP.RD: register of the guest", ST_METADATA_FIELD_NOT_READABLE, LEAF_VP_RD,
	       .rcx = tdvpr, .rdx = FIELD_GUEST_RIP);
	expect("VP.WR: shared EPT in a page of the module", ST_METADATA_FIELD_VALUE_NOT_VALID,
	       LEAF_VP_WR, .rcx = tdvpr, .rdx = FIELD_SHARED_EPTP, .r8 = tdr(), .r9 = ~0ULL);
	host_page(PG_HOST2);
	expect("VP.WR", ST_SUCCESS, LEAF_VP_WR, .rcx = tdvpr, .rdx = FIELD_SHARED_EPTP,
	       .r8 = page_pa(PG_HOST2), .r9 = ~0ULL);
	args = expect("VP.RD", ST_SUCCESS, LEAF_VP_RD, .rcx = tdvpr, .rdx = FIELD_SHARED_EPTP);
	result("... reads what was written", args.r8, page_pa(PG_HOST2));
}

static void test_sept(void)
{
	unsigned int level;

	expect("SEPT.ADD: level 0", INVALID(OPID_RCX), LEAF_MEM_SEPT_ADD, .rcx = GPA_CODE,
	       .rdx = tdr(), .r8 = page_pa(PG_SEPT));
	expect("SEPT.ADD: shared GPA", INVALID(OPID_RCX), LEAF_MEM_SEPT_ADD, .rcx = GPA_SHARED | 3,
	       .rdx = tdr(), .r8 = page_pa(PG_SEPT));
	expect("SEPT.ADD: no table above", ST_EPT_WALK_FAILED | OPID_RCX, LEAF_MEM_SEPT_ADD,
	       .rcx = 1, .rdx = tdr(), .r8 = page_pa(PG_SEPT));
	expect("PAGE.ADD: no table", ST_EPT_WALK_FAILED | OPID_RCX, LEAF_MEM_PAGE_ADD,
	       .rcx = GPA_CODE, .rdx = tdr(), .r8 = page_pa(PG_CODE), .r9 = page_pa(PG_HOST));
	for (level = 3; level; level--) {
		u64 gpa = GPA_CODE & ~(BIT_ULL(PAGE_SHIFT + 9 * level) - 1);

		expect("SEPT.ADD", ST_SUCCESS, LEAF_MEM_SEPT_ADD, .rcx = gpa | level,
		       .rdx = tdr(), .r8 = page_pa(PG_SEPT + level - 1));
		expect("SEPT.ADD again", WRONG_ENTRY, LEAF_MEM_SEPT_ADD, .rcx = gpa | level,
		       .rdx = tdr(), .r8 = page_pa(PG_CODE));
	}
}

/* At the reset vector: mov GPA_DATA, %eax; hlt */
static const u8 code[] = { 0xa1, 0x00, 0x00, 0xff, 0xff, 0xf4 };

static void test_page_add(void)
{
	void *content = host_page(PG_HOST);

	memcpy(content + 0xff0, code, sizeof(code));
	expect("PAGE.ADD: content in a page of the module", INVALID(OPID_R9), LEAF_MEM_PAGE_ADD,
	       .rcx = GPA_CODE, .rdx = tdr(), .r8 = page_pa(PG_CODE), .r9 = tdr());
	expect("PAGE.ADD: page that is in use", WRONG_PAGE(OPID_R8), LEAF_MEM_PAGE_ADD,
	       .rcx = GPA_CODE, .rdx = tdr(), .r8 = page_pa(PG_TDCX), .r9 = page_pa(PG_HOST));
	expect("PAGE.ADD", ST_SUCCESS, LEAF_MEM_PAGE_ADD, .rcx = GPA_CODE, .rdx = tdr(),
	       .r8 = page_pa(PG_CODE), .r9 = page_pa(PG_HOST));
	result("... the host cannot read it", !memcmp(__va(page_pa(PG_CODE)), content, PAGE_SIZE),
	       false);
	expect("PAGE.ADD: GPA that is in use", WRONG_ENTRY, LEAF_MEM_PAGE_ADD, .rcx = GPA_CODE,
	       .rdx = tdr(), .r8 = page_pa(PG_DATA), .r9 = page_pa(PG_HOST));

	/* It can be taken back as long as no vCPU has run. */
	expect("PAGE.ADD of another one", ST_SUCCESS, LEAF_MEM_PAGE_ADD, .rcx = GPA_DATA,
	       .rdx = tdr(), .r8 = page_pa(PG_DATA), .r9 = page_pa(PG_HOST));
	expect("PAGE.REMOVE before FINALIZE", ST_SUCCESS, LEAF_MEM_PAGE_REMOVE, .rcx = GPA_DATA,
	       .rdx = tdr());

	expect("MR.EXTEND: unaligned", INVALID(OPID_RCX), LEAF_MR_EXTEND, .rcx = GPA_CODE + 8,
	       .rdx = tdr());
	expect("MR.EXTEND: no page", ST_EPT_ENTRY_NOT_PRESENT, LEAF_MR_EXTEND, .rcx = GPA_DATA,
	       .rdx = tdr());
	expect("MR.EXTEND: no table", ST_EPT_ENTRY_NOT_PRESENT | OPID_RCX, LEAF_MR_EXTEND,
	       .rcx = 0, .rdx = tdr());
	expect("MR.EXTEND", ST_SUCCESS, LEAF_MR_EXTEND, .rcx = GPA_CODE, .rdx = tdr());
}

static void test_finalize(void)
{
	expect("PAGE.AUG before FINALIZE", ST_OP_STATE_INCORRECT, LEAF_MEM_PAGE_AUG,
	       .rcx = GPA_DATA, .rdx = tdr(), .r8 = page_pa(PG_DATA));
	expect("VP.ENTER before FINALIZE", ST_OP_STATE_INCORRECT, LEAF_VP_ENTER,
	       .rcx = page_pa(PG_TDVPR));
	expect("QUOTE.GET before FINALIZE", ST_OP_STATE_INCORRECT, LEAF_QUOTE_GET, .rcx = tdr());
	expect("MR.FINALIZE", ST_SUCCESS, LEAF_MR_FINALIZE, .rcx = tdr());
	expect("MR.FINALIZE again", ST_OP_STATE_INCORRECT, LEAF_MR_FINALIZE, .rcx = tdr());
	expect("MR.EXTEND after FINALIZE", ST_OP_STATE_INCORRECT, LEAF_MR_EXTEND,
	       .rcx = GPA_CODE, .rdx = tdr());
	expect("VP.CREATE after FINALIZE", ST_OP_STATE_INCORRECT, LEAF_VP_CREATE,
	       .rcx = page_pa(PG_DATA), .rdx = tdr());
	expect("VP.ADDCX after FINALIZE", ST_OP_STATE_INCORRECT, LEAF_VP_ADDCX,
	       .rcx = page_pa(PG_DATA), .rdx = page_pa(PG_TDVPR2));
	expect("VP.INIT after FINALIZE", ST_OP_STATE_INCORRECT, LEAF_VP_INIT | V1,
	       .rcx = page_pa(PG_TDVPR2), .r8 = 6);
	expect("PAGE.ADD after FINALIZE", ST_OP_STATE_INCORRECT, LEAF_MEM_PAGE_ADD,
	       .rcx = GPA_DATA, .rdx = tdr(), .r8 = page_pa(PG_DATA), .r9 = page_pa(PG_HOST));
}

/* What TDH.VP.ENTER leaves in the CPU when the TD has run. */
static const struct {
	const char *what;
	u32 msr;
	u64 left;
} lost_msrs[] = {
	{ "VP.ENTER: the host's STAR is lost", MSR_STAR, 0 },
	{ "... and LSTAR", MSR_LSTAR, 0 },
	{ "... and FMASK", MSR_SYSCALL_MASK, 0x20200 },
	{ "... and TSC_AUX", MSR_TSC_AUX, 0 },
	{ "... and KERNEL_GS_BASE", MSR_KERNEL_GS_BASE, 0 },
};

struct host_state {
	u64 msrs[ARRAY_SIZE(lost_msrs)];
	unsigned long dr0, dr6;
	u64 xcr0;
	u64 rbp;
};

#define HOST_RBP	0x12345678

static void read_host_state(struct host_state *state)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(lost_msrs); i++)
		state->msrs[i] = native_read_msr(lost_msrs[i].msr);
	get_debugreg(state->dr0, 0);
	get_debugreg(state->dr6, 6);
	state->xcr0 = xgetbv(XCR_XFEATURE_ENABLED_MASK);
}

static void write_host_state(const struct host_state *state)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(lost_msrs); i++)
		native_wrmsrq(lost_msrs[i].msr, state->msrs[i]);
	set_debugreg(state->dr0, 0);
	set_debugreg(state->dr6, 6);
	xsetbv(XCR_XFEATURE_ENABLED_MASK, state->xcr0);
}

static struct host_state left;

/*
 * TDH.VP.ENTER writes nearly all registers, and more than that: nothing else may
 * run on this CPU until it has back what it had.
 */
static noinline u64 vp_enter_once(struct args *out)
{
	u64 rax = LEAF_VP_ENTER, rcx = page_pa(PG_TDVPR), rdx, r8, rbp;
	struct host_state state;
	unsigned long flags;

	local_irq_save(flags);
	read_host_state(&state);
	write_host_state(&(struct host_state) {
		.msrs = { [0 ... ARRAY_SIZE(lost_msrs) - 1] = 0x1000 },
		.dr0 = 0x1000, .dr6 = DR6_RESERVED | DR_TRAP0, .xcr0 = state.xcr0,
	});
	asm volatile("push %%rbp\n"
		     "mov %[rbp_in], %%ebp\n"
		     ".byte 0x66, 0x0f, 0x01, 0xcf\n"
		     "mov %%rbp, %%rdi\n"
		     "pop %%rbp\n"
		     "mov %%r8, %%rsi\n"
		     : "+a" (rax), "+c" (rcx), "=d" (rdx), "=S" (r8), "=D" (rbp)
		     : [rbp_in] "i" (HOST_RBP)
		     : "memory", "cc", "rbx", "r8", "r9", "r10", "r11", "r12",
			 "r13", "r14", "r15");
	left.rbp = rbp;
	read_host_state(&left);
	write_host_state(&state);
	local_irq_restore(flags);

	*out = (struct args){ .rcx = rcx, .rdx = rdx, .r8 = r8 };
	return rax;
}

/* Interrupts of this machine do not count. */
static u64 vp_enter(struct args *out)
{
	u64 status;

	do {
		status = vp_enter_once(out);
	} while (status == VP_ENTER_INTERRUPT);

	return status;
}

static void test_host_state(void)
{
	struct args args;
	unsigned int i;

	vp_enter(&args);
	for (i = 0; i < ARRAY_SIZE(lost_msrs); i++)
		result(lost_msrs[i].what, left.msrs[i], lost_msrs[i].left);
	result("... and DR0", left.dr0, 0);
	result("... and DR6", left.dr6, DR6_RESERVED);
	result("... and XCR0", left.xcr0, td()->params.xfam);
	result("VP.ENTER with NO_RBP_MOD: the host's RBP", left.rbp, HOST_RBP);
	td()->params.config_flags &= ~TD_CONFIG_NO_RBP_MOD;
	vp_enter(&args);
	result("VP.ENTER without: RBP is lost", left.rbp, 0);
	td()->params.config_flags |= TD_CONFIG_NO_RBP_MOD;
}

static void expect_violation(const char *what, u64 ext_qual)
{
	struct args args;

	result(what, vp_enter(&args), VP_ENTER_EPT_VIOLATION);
	result("... with the address", args.r8, GPA_DATA);
	result("... and the reason", args.rdx & 0xf, ext_qual);
	result("... a read, with nothing about the guest's own address", args.rcx, 1);
}

static void test_run(void)
{
	struct tdxsim_pamt *pamt = tdxsim_pamt_peek(tdr());
	struct args args;

	tdxsim_trylock(&td()->epoch_lock, TDXSIM_EXCLUSIVE);
	result("VP.ENTER while the epoch changes", vp_enter(&args), BUSY(OPID_TD_EPOCH));
	tdxsim_unlock(&td()->epoch_lock, TDXSIM_EXCLUSIVE);
	tdxsim_trylock(&pamt->lock, TDXSIM_EXCLUSIVE);
	result("VP.ENTER while the TDR is in use", vp_enter(&args), BUSY(OPID_TDR));
	expect("PAGE.AUG while the TDR is in use", BUSY(OPID_RDX), LEAF_MEM_PAGE_AUG,
	       .rcx = GPA_DATA, .rdx = tdr(), .r8 = page_pa(PG_DATA));
	tdxsim_unlock(&pamt->lock, TDXSIM_EXCLUSIVE);

	expect_violation("VP.ENTER: the guest reads where no page is", 0);
	test_host_state();
	expect("PAGE.AUG: GPA that is in use", WRONG_ENTRY, LEAF_MEM_PAGE_AUG, .rcx = GPA_CODE,
	       .rdx = tdr(), .r8 = page_pa(PG_DATA));
	expect("PAGE.AUG", ST_SUCCESS, LEAF_MEM_PAGE_AUG, .rcx = GPA_DATA, .rdx = tdr(),
	       .r8 = page_pa(PG_DATA));
	expect_violation("VP.ENTER: the guest has not accepted it", QUAL_PENDING);
}

#define FIELD_PI_VECTOR		0x0002
#define FIELD_PI_DESC		0x2016
#define FIELD_PIN_CONTROLS	0x4000
#define FIELD_VCPU_DETAILS	(BIT_ULL(63) | 17ULL << 56 | 0x100)
#define POSTED_VECTOR		0x40

static u64 write_vp(u64 field, u64 val, u64 mask)
{
	struct args args = {
		.rcx = page_pa(PG_TDVPR), .rdx = field, .r8 = val, .r9 = mask,
	};

	return seamcall(LEAF_VP_WR, &args);
}

static void expect_interrupt(const char *what, u64 want)
{
	struct args args = { .rcx = page_pa(PG_TDVPR), .rdx = FIELD_VCPU_DETAILS };
	u64 status = seamcall(LEAF_VP_RD, &args);

	result(what, status ?: args.r8, want);
}

static void test_posted_interrupt(void)
{
	u64 *pid = host_page(PG_HOST);
	unsigned long flags;
	struct args args;

	result("VP.WR: posted interrupts without a descriptor",
	       write_vp(FIELD_PIN_CONTROLS, BIT(7), BIT(7)), ST_METADATA_FIELD_VALUE_NOT_VALID);
	result("VP.WR: notification vector",
	       write_vp(FIELD_PI_VECTOR, POSTED_INTR_VECTOR, 0xffff), ST_SUCCESS);
	result("VP.WR: descriptor", write_vp(FIELD_PI_DESC, __pa(pid), ~0ULL), ST_SUCCESS);
	pid[POSTED_VECTOR / 64] = BIT_ULL(POSTED_VECTOR % 64);
	pid[4] = 1;

	local_irq_save(flags);
	apic->send_IPI_self(POSTED_INTR_VECTOR);
	result("VP.ENTER with a notification", vp_enter_once(&args), VP_ENTER_INTERRUPT);
	local_irq_restore(flags);
	expect_interrupt("... posted interrupts are off", 0);
	result("... and the descriptor is as it was", pid[4], 1);

	result("VP.WR: posted interrupts", write_vp(FIELD_PIN_CONTROLS, BIT(7), BIT(7)),
	       ST_SUCCESS);
	vp_enter(&args);
	expect_interrupt("... none comes without a notification", 0);

	local_irq_save(flags);
	apic->send_IPI_self(POSTED_INTR_VECTOR);
	vp_enter_once(&args);
	local_irq_restore(flags);
	expect_interrupt("... and one does with it", 1);
	result("... the descriptor is empty", pid[4] || pid[POSTED_VECTOR / 64], false);
	result("VP.WR: no posted interrupts", write_vp(FIELD_PIN_CONTROLS, 0, BIT(7)), ST_SUCCESS);
}

static void expect_shared(const char *what, u64 gpa, enum tdxsim_xlate want)
{
	struct tdxsim_fault f = {};

	result(what, tdxsim_gpa_to_hpa(td(), __va(page_pa(PG_TDVPR)), gpa, ACCESS_READ, &f),
	       want);
}

static void test_shared_ept(void)
{
	u64 *table = host_page(PG_HOST2);
	u64 *entry = &table[GPA_SHARED >> 39 & 511];

	expect_shared("shared EPT: no entry, and #VE not suppressed", GPA_SHARED, XLATE_VE);
	*entry = tdr() | 7;
	expect_shared("shared EPT: a table in a page of the module", GPA_SHARED, XLATE_FATAL);
	*entry = BIT_ULL(45) | 7;
	expect_shared("shared EPT: a table where no memory is", GPA_SHARED, XLATE_FATAL);
	*entry = tdxsim_sys.tdmrs[0].pamt[TDXSIM_4K].start | 7;
	expect_shared("shared EPT: a table in a PAMT", GPA_SHARED, XLATE_FATAL);

	/* All levels below are this one page, and so is what they lead to. */
	*entry = page_pa(PG_HOST2) | 7;
	table[0] = page_pa(PG_HOST2) | 7;
	expect_shared("shared EPT: all is the host's", GPA_SHARED, XLATE_OK);
	table[1] = tdr() | 7;
	expect_shared("shared EPT: a page of the module", GPA_SHARED + PAGE_SIZE, XLATE_FATAL);
}

static void test_accept(void)
{
	u64 gpa_2m = GPA_DATA & ~(BIT_ULL(21) - 1);
	bool violation;

	result("MEM.PAGE.ACCEPT: 2 MB where there is a table",
	       tdxsim_sept_accept(td(), gpa_2m, 1, &violation), ST_PAGE_SIZE_MISMATCH | 1);
	result("... and no exit", violation, false);
	result("MEM.PAGE.ACCEPT of a page that was added",
	       tdxsim_sept_accept(td(), GPA_CODE, 0, &violation), ST_PAGE_ALREADY_ACCEPTED);
	result("... and no exit", violation, false);
	tdxsim_sept_accept(td(), 0, 1, &violation);
	result("MEM.PAGE.ACCEPT where no table is: exit", violation, true);
	result("MEM.PAGE.ACCEPT", tdxsim_sept_accept(td(), GPA_DATA, 0, &violation), ST_SUCCESS);
	result("... and no exit", violation, false);
	result("MEM.PAGE.ACCEPT again", tdxsim_sept_accept(td(), GPA_DATA, 0, &violation),
	       ST_PAGE_ALREADY_ACCEPTED);
}

static void test_remove(void)
{
	u64 free_page = page_pa(PG_HOST);

	expect("PAGE.REMOVE before BLOCK", ST_GPA_RANGE_NOT_BLOCKED | OPID_RCX,
	       LEAF_MEM_PAGE_REMOVE, .rcx = GPA_DATA, .rdx = tdr());
	tdxsim_trylock(&td()->sept_lock, TDXSIM_SHARED);
	expect("RANGE.BLOCK while the tree is in use", BUSY(OPID_SEPT_TREE), LEAF_MEM_RANGE_BLOCK,
	       .rcx = GPA_DATA, .rdx = tdr());
	tdxsim_unlock(&td()->sept_lock, TDXSIM_SHARED);
	expect("RANGE.BLOCK: no page", WRONG_ENTRY, LEAF_MEM_RANGE_BLOCK,
	       .rcx = GPA_DATA + PAGE_SIZE, .rdx = tdr());
	expect("RANGE.BLOCK", ST_SUCCESS, LEAF_MEM_RANGE_BLOCK, .rcx = GPA_DATA, .rdx = tdr());
	expect("RANGE.BLOCK again", ST_GPA_RANGE_ALREADY_BLOCKED | OPID_RCX, LEAF_MEM_RANGE_BLOCK,
	       .rcx = GPA_DATA, .rdx = tdr());
	expect("PAGE.REMOVE before TRACK", ST_TLB_TRACKING_NOT_DONE | OPID_RCX,
	       LEAF_MEM_PAGE_REMOVE, .rcx = GPA_DATA, .rdx = tdr());

	/* As if a vCPU ran since before the page was blocked, on another CPU. */
	atomic_inc(&td()->running[td()->epoch & 1]);
	expect("MEM.TRACK", ST_SUCCESS, LEAF_MEM_TRACK, .rcx = tdr());
	expect("MEM.TRACK: a vCPU runs in the epoch before", ST_PREVIOUS_TLB_EPOCH_BUSY,
	       LEAF_MEM_TRACK, .rcx = tdr());
	expect("PAGE.REMOVE: same", ST_TLB_TRACKING_NOT_DONE | OPID_RCX, LEAF_MEM_PAGE_REMOVE,
	       .rcx = GPA_DATA, .rdx = tdr());
	atomic_dec(&td()->running[(td()->epoch - 1) & 1]);

	expect("PHYMEM.PAGE.WBINVD of a page in use", WRONG_PAGE(OPID_RCX),
	       LEAF_PHYMEM_PAGE_WBINVD, .rcx = page_pa(PG_DATA) | TD_HKID * KEYID_BIT);
	expect("PAGE.REMOVE", ST_SUCCESS, LEAF_MEM_PAGE_REMOVE, .rcx = GPA_DATA, .rdx = tdr());
	result("... nothing is left in it", is_zero(PG_DATA), true);
	expect_page("... and it is free", page_pa(PG_DATA), PT_NDA);
	expect("PAGE.REMOVE again", WRONG_ENTRY, LEAF_MEM_PAGE_REMOVE, .rcx = GPA_DATA,
	       .rdx = tdr());
	expect("PHYMEM.PAGE.WBINVD", ST_SUCCESS, LEAF_PHYMEM_PAGE_WBINVD,
	       .rcx = free_page | TD_HKID * KEYID_BIT);
}

/*
 * Quotes
 */
#define REPORT_LEN	1024
#define REPORT_MAC	224
#define REPORT_MRTD	528
#define FORMAT_DEFAULT	(0xffffULL << 32)

static void good_report(void *report)
{
	memset(report, 0, REPORT_LEN);
	memcpy(report + REPORT_MRTD, td()->mrtd, sizeof(td()->mrtd));
	tdxsim_make_report_mac(report, report + REPORT_MAC);
}

static u64 *good_list(unsigned int page)
{
	u64 *list = memset(__va(page_pa(page)), 0xff, PAGE_SIZE);

	list[0] = page_pa(PG_QUOTE);
	list[1] = page_pa(PG_QUOTE + 1);
	return list;
}

static struct args quote_args(void)
{
	good_report(__va(page_pa(PG_QUOTE)));
	good_list(PG_LIST);

	return (struct args) {
		.rcx = tdr(),
		.rdx = FORMAT_DEFAULT,
		.r8 = page_pa(PG_QUOTE),
		.r9 = REPORT_LEN,
		.r10 = page_pa(PG_LIST),
		.r11 = tdxsim_sys.max_quote_size,
	};
}

/* One operand of TDH.QUOTE.GET is wrong. */
#define expect_quote(what, want, _reg, _val)			\
do {								\
	struct args _args = quote_args();			\
								\
	_args._reg = _val;					\
	result(what, seamcall(LEAF_QUOTE_GET, &_args), want);	\
} while (0)

static void test_quote_operands(void)
{
	u64 *list = __va(page_pa(PG_LIST));
	struct args args;

	expect_quote("QUOTE.GET: format", INVALID(OPID_RDX), rdx, 0);
	expect_quote("QUOTE.GET: unaligned input", INVALID(OPID_R8), r8, page_pa(PG_QUOTE) + 8);
	expect_quote("QUOTE.GET: input in a page of the module", INVALID(OPID_R8), r8, tdr());
	expect_quote("QUOTE.GET: length of the input", INVALID(OPID_R9), r9, REPORT_LEN - 1);
	expect_quote("QUOTE.GET: output too small", INVALID(OPID_R11), r11,
		     tdxsim_sys.max_quote_size - 1);
	expect_quote("QUOTE.GET: unaligned list", INVALID(OPID_R10), r10, page_pa(PG_LIST) + 8);
	expect_quote("QUOTE.GET: list in a page of the module", INVALID(OPID_R10), r10, tdr());
	expect_quote("QUOTE.GET: list too short", INVALID(OPID_R10), r11, 3 * PAGE_SIZE);

	args = quote_args();
	list[2] = page_pa(PG_HOST);
	result("QUOTE.GET: list too long", seamcall(LEAF_QUOTE_GET, &args), INVALID(OPID_R10));
	args = quote_args();
	list[1] = tdr();
	result("QUOTE.GET: output in a page of the module", seamcall(LEAF_QUOTE_GET, &args),
	       INVALID(OPID_R10));
	args = quote_args();
	list[1] = list[0];
	result("QUOTE.GET: a page is there twice", seamcall(LEAF_QUOTE_GET, &args),
	       INVALID(OPID_R10));
	args = quote_args();
	list[1] = page_pa(PG_LIST);
	result("QUOTE.GET: output in the list", seamcall(LEAF_QUOTE_GET, &args),
	       INVALID(OPID_R10));
	expect_quote("QUOTE.GET: input in the second page of the output", INVALID(OPID_R10), r8,
		     page_pa(PG_QUOTE + 1));
	expect_quote("QUOTE.GET: input in the list", INVALID(OPID_R10), r8, page_pa(PG_LIST));
}

static u64 get_quote(struct args *args)
{
	u64 status;

	do {
		status = seamcall(LEAF_QUOTE_GET, args);
	} while (status == ST_INTERRUPTED_RESUMABLE);

	return status;
}

static void test_quote(void)
{
	unsigned int slots = tdxsim_options.quote_slots;
	struct args args, other;

	test_quote_operands();

	args = quote_args();
	((u8 *)__va(page_pa(PG_QUOTE)))[REPORT_MRTD]++;
	result("QUOTE.GET: report with a wrong MAC", get_quote(&args), INVALID(OPID_R8));

	tdxsim_options.quote_slots = 1;
	args = quote_args();
	other = args;
	other.r10 = page_pa(PG_LIST2);
	good_list(PG_LIST2);
	if (tdxsim_opt(steps)) {
		result("QUOTE.GET, first step", seamcall(LEAF_QUOTE_GET, &args),
		       ST_INTERRUPTED_RESUMABLE);
		result("... gives its inputs back", !memcmp(&args, &(struct args) {
			.rcx = tdr(), .rdx = FORMAT_DEFAULT, .r8 = page_pa(PG_QUOTE),
			.r9 = REPORT_LEN, .r10 = page_pa(PG_LIST),
			.r11 = tdxsim_sys.max_quote_size }, sizeof(args)), true);
		other.r8 = page_pa(PG_HOST);
		other.r10 = args.r10;
		result("QUOTE.GET: goes on with another input", seamcall(LEAF_QUOTE_GET, &other),
		       INVALID(OPID_R8));
		other = args;
		other.r10 = page_pa(PG_LIST2);
		result("QUOTE.GET: one more than there can be", seamcall(LEAF_QUOTE_GET, &other),
		       BUSY(OPID_SYS));
	}
	result("QUOTE.GET, its input in the first page of its output", get_quote(&args),
	       ST_SUCCESS);
	result("... and its length", args.rcx, tdxsim_sys.max_quote_size);
	result("... it says what it is", strstarts(__va(page_pa(PG_QUOTE)), "tdxsim: "), true);
	tdxsim_options.quote_slots = slots;
}

/* The TD runs other code, in its first mode and without an IDT: each exception is its end. */
static u64 run_code(const u8 *code, size_t len)
{
	struct tdxsim_vcpu *vcpu = __va(page_pa(PG_TDVPR));
	u64 page = page_pa(PG_CODE);
	struct args args;
	u64 status;

	tdxsim_page_open(td(), page);
	memcpy(__va(page), code, len);
	tdxsim_page_close(td(), page);

	tdxsim_vmcb(vcpu)->save.rip = GPA_CODE;
	vcpu->ve.valid = false;
	vcpu->event.valid = false;
	status = vp_enter(&args);
	vcpu->state = VCPU_READY;
	return status;
}

static void test_refused_insns(void)
{
	static const struct {
		const char *what;
		u32 eax;
		u8 insn[3];
		u32 ve_reason, ve_qual;		/* 0: #GP */
	} tests[] = {
		{ "CR0 without PE: #VE", 0x20, { 0x0f, 0x22, 0xc0 }, 28, 0 },
		{ "CR0 with CD: #VE", 0x40000021, { 0x0f, 0x22, 0xc0 }, 28, 0 },
		{ "CR0 without NE: #GP", 0x1, { 0x0f, 0x22, 0xc0 } },
		{ "CR0 with PG, without PAE: #GP", 0x80000021, { 0x0f, 0x22, 0xc0 } },
		{ "CR4 without MCE: #VE", 0, { 0x0f, 0x22, 0xe0 }, 28, 4 },
		{ "CR4 with VMXE: #VE", 0x2040, { 0x0f, 0x22, 0xe0 }, 28, 4 },
		{ "CR4 with PKE: #GP", 0x400040, { 0x0f, 0x22, 0xe0 } },
		{ "CR4 with PCIDE, without paging: #GP", 0x20040, { 0x0f, 0x22, 0xe0 } },
		{ "RDPMC: #GP", 0, { 0x0f, 0x33 } },
	};
	struct tdxsim_vcpu *vcpu = __va(page_pa(PG_TDVPR));
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(tests); i++) {
		u8 code[8] = { 0xb8 };		/* mov $eax, %eax */

		memcpy(code + 1, &tests[i].eax, 4);
		memcpy(code + 5, tests[i].insn, 3);
		result(tests[i].what, run_code(code, sizeof(code)),
		       ST_NON_RECOVERABLE_VCPU | VP_ENTER_TRIPLE_FAULT);
		result("... at that instruction", tdxsim_vmcb(vcpu)->save.rip, GPA_CODE + 5);
		result("... by its reason", vcpu->ve.valid ? vcpu->ve.reason : 0,
		       tests[i].ve_reason);
		if (vcpu->ve.valid)
			result("... and qualification", vcpu->ve.qual, tests[i].ve_qual);
	}

	tdxsim_vmcb(vcpu)->save.rip = 0xfffffff0;
	vcpu->ve.valid = false;
	vcpu->event.valid = false;
}

static void test_end_of_vcpu(void)
{
	struct args args;

	td()->params.attributes = 0;
	expect("PAGE.AUG once more", ST_SUCCESS, LEAF_MEM_PAGE_AUG, .rcx = GPA_DATA,
	       .rdx = tdr(), .r8 = page_pa(PG_DATA));
	result("VP.ENTER: #VE, and no IDT", vp_enter(&args),
	       ST_NON_RECOVERABLE_VCPU | VP_ENTER_TRIPLE_FAULT);
	result("VP.ENTER: the vCPU is disabled", vp_enter(&args),
	       ST_VCPU_STATE_INCORRECT | VCPU_DISABLED);
}

static void test_teardown(void)
{
	struct package_call call = { .leaf = LEAF_PHYMEM_CACHE_WB, .resume_rcx = 1 };
	u64 tdvpr = page_pa(PG_TDVPR);
	unsigned int i, failed = 0;

	expect("MNG.VPFLUSHDONE before FLUSH", ST_FLUSHVP_NOT_DONE, LEAF_MNG_VPFLUSHDONE,
	       .rcx = tdr());
	expect("VP.FLUSH", ST_SUCCESS, LEAF_VP_FLUSH, .rcx = tdvpr);
	expect("VP.FLUSH again", ST_VCPU_NOT_ASSOCIATED, LEAF_VP_FLUSH, .rcx = tdvpr);
	expect("PHYMEM.CACHE.WB: nothing to write back", ST_NO_HKID_READY_TO_WBCACHE,
	       LEAF_PHYMEM_CACHE_WB);
	expect("MNG.VPFLUSHDONE", ST_SUCCESS, LEAF_MNG_VPFLUSHDONE, .rcx = tdr());
	expect("MNG.VPFLUSHDONE again", ST_LIFECYCLE_STATE_INCORRECT, LEAF_MNG_VPFLUSHDONE,
	       .rcx = tdr());
	expect("VP.ENTER after VPFLUSHDONE", ST_TD_KEYS_NOT_CONFIGURED, LEAF_VP_ENTER,
	       .rcx = tdvpr);

	expect("MNG.KEY.FREEID before CACHE.WB", ST_WBCACHE_NOT_COMPLETE, LEAF_MNG_KEY_FREEID,
	       .rcx = tdr());
	expect("PHYMEM.CACHE.WB: unknown command", INVALID(OPID_RCX), LEAF_PHYMEM_CACHE_WB,
	       .rcx = 2);
	expect("PHYMEM.CACHE.WB: nothing to go on with", ST_WBCACHE_RESUME_ERROR,
	       LEAF_PHYMEM_CACHE_WB, .rcx = 1);
	package_call_ipi(&call);
	result("PHYMEM.CACHE.WB", call.status, ST_SUCCESS);
	result("... is interrupted as often as the option says", call.interrupted,
	       tdxsim_opt(steps));
	on_other_packages("PHYMEM.CACHE.WB on another package", &call);

	expect("PAGE.RECLAIM before FREEID", ST_LIFECYCLE_STATE_INCORRECT,
	       LEAF_PHYMEM_PAGE_RECLAIM, .rcx = page_pa(PG_CODE));
	expect("MNG.KEY.FREEID", ST_SUCCESS, LEAF_MNG_KEY_FREEID, .rcx = tdr());
	expect("PAGE.RECLAIM: TDR before its pages", ST_TD_ASSOCIATED_PAGES_EXIST,
	       LEAF_PHYMEM_PAGE_RECLAIM, .rcx = tdr());
	for (i = PG_TD_LAST; i >= PG_TDR; i--) {
		struct args args = { .rcx = page_pa(i) };

		failed += !!seamcall(LEAF_PHYMEM_PAGE_RECLAIM, &args);
		failed += !is_zero(i);
	}
	result("PAGE.RECLAIM of all pages, and nothing is left in them", failed, 0);
	expect("PAGE.RECLAIM: page that is free", WRONG_PAGE(OPID_RCX), LEAF_PHYMEM_PAGE_RECLAIM,
	       .rcx = tdr());
	expect("PAGE.RECLAIM: page of the extensions", WRONG_PAGE(OPID_RCX),
	       LEAF_PHYMEM_PAGE_RECLAIM, .rcx = page_pa(4));
}

void test_tds(void)
{
	test_create();
	test_addcx();
	test_init();
	test_vcpu();
	test_sept();
	test_page_add();
	test_finalize();
	test_run();
	test_posted_interrupt();
	test_shared_ept();
	test_accept();
	test_remove();
	test_quote();
	test_refused_insns();
	test_end_of_vcpu();
	test_teardown();
}
