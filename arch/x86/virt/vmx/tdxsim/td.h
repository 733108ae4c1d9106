/* SPDX-License-Identifier: GPL-2.0 */
/*
 * tdxsim: TDs and their vCPUs.
 *
 * State lives where the real module has it, in the pages that the host gave:
 * a TD in its TDR and TDCX pages, a vCPU in its TDVPR and TDCX pages.
 */
#ifndef _X86_VIRT_TDXSIM_TD_H
#define _X86_VIRT_TDXSIM_TD_H

#include <linux/atomic.h>
#include <linux/types.h>
#include <crypto/sha2.h>
#include <asm/svm.h>

#include "tdxsim.h"

enum tdxsim_td_life {
	TD_HKID_ASSIGNED,		/* TDH.MNG.CREATE */
	TD_KEYS_CONFIGURED,		/* TDH.MNG.KEY.CONFIG on all packages */
	TD_BLOCKED,			/* TDH.MNG.VPFLUSHDONE */
	TD_TEARDOWN,			/* TDH.MNG.KEY.FREEID */
};

enum tdxsim_td_op {
	TD_UNINITIALIZED,
	TD_INITIALIZED,			/* TDH.MNG.INIT */
	TD_RUNNABLE,			/* TDH.MR.FINALIZE */
};

/* Offsets are those of TD_PARAMS, operand of TDH.MNG.INIT. */
struct tdxsim_td_params {
	u64 attributes;
	u64 xfam;
	u16 max_vcpus;
	u8 reserved0[6];
	u64 eptp_controls;
	u64 config_flags;
	u16 tsc_frequency;		/* units of 25 MHz */
	u8 reserved1[38];
	u8 mrconfigid[48];
	u8 mrowner[48];
	u8 mrownerconfig[48];
	u8 reserved2[32];
	u32 cpuid_values[48][4];
} __packed;

static_assert(sizeof(struct tdxsim_td_params) == 1024);

#define TD_CONFIG_GPAW			BIT_ULL(0)
#define TD_CONFIG_FLEXIBLE_PENDING_VE	BIT_ULL(1)
#define TD_CONFIG_NO_RBP_MOD		BIT_ULL(2)
#define TD_CONFIG_MAXPA			GENMASK_ULL(5, 3)
#define TD_ATTR_SEPT_VE_DISABLE		BIT_ULL(28)

struct tdxsim_td {
	u64 tdr;			/* address of this page */
	u64 key;			/* what stands for the TD's encryption key */
	u16 hkid;
	u8 life;			/* enum tdxsim_td_life */
	u8 op;				/* enum tdxsim_td_op */
	bool fatal;			/* TDX_TD_FATAL for all but teardown */
	u8 nr_tdcx;
	u64 tdcx[TDXSIM_TDCS_PAGES];	/* [0] is the root of the Secure EPT */
	u64 key_pkgs;			/* packages that have the key */
	atomic_t children;		/* pages that belong to the TD, without the TDR */
	atomic_t nr_vcpus;
	atomic_t nr_assoc;		/* vCPUs associated with a CPU */

	struct tdxsim_lock sept_lock;
	struct tdxsim_lock epoch_lock;
	u64 epoch;
	atomic_t running[2];		/* vCPUs that entered in an even, odd epoch */

	struct sha384_ctx mr_ctx;	/* what MRTD is made of, until FINALIZE */
	u8 mrtd[SHA384_DIGEST_SIZE];
	struct tdxsim_lock rtmr_lock;	/* TDG.MR.RTMR.EXTEND, TDG.MR.REPORT */
	u8 rtmr[4][SHA384_DIGEST_SIZE];
	u32 x2apic_ids[TDXSIM_MAX_VCPUS_PER_TD];	/* by index of the vCPU */
	u64 td_ctls;
	u64 notify_enables;
	struct tdxsim_td_params params;
};

static_assert(sizeof(struct tdxsim_td) <= PAGE_SIZE);

/* Secure EPT entries: an address, and the state in the low bits. */
enum tdxsim_sept_state {
	SEPT_FREE,
	SEPT_BLOCKED,
	SEPT_PENDING,
	SEPT_PENDING_BLOCKED,
	SEPT_MAPPED,
	SEPT_TABLE,
};

#define SEPT_STATE	GENMASK_ULL(3, 0)
#define SEPT_HPA	GENMASK_ULL(51, 12)

struct tdxsim_ve {
	bool valid;
	u32 reason;
	u64 qual;
	u64 gla;
	u64 gpa;
	u32 len;
	u32 info;
};

struct tdxsim_event {
	bool valid;
	u8 type;			/* SVM_EVTINJ_TYPE_* */
	u8 vector;
	bool has_error;
	u32 error;
};

enum tdxsim_vcpu_state { VCPU_CREATED, VCPU_READY, VCPU_DISABLED };

struct tdxsim_vcpu {
	u64 tdvpr;			/* address of this page */
	u8 state;			/* enum tdxsim_vcpu_state */
	u8 nr_tdcx;
	u64 tdcx[TDXSIM_TDVPS_PAGES - 1];	/* [0] VMCB, [1] XSAVE area */
	struct tdxsim_lock lock;	/* exclusive while the vCPU runs */
	atomic_t cpu;			/* CPU it is associated with, -1: none */
	u32 index;
	u32 x2apic_id;
	u64 epoch;			/* of the entry that it runs in */

	/* what the host may set */
	u64 shared_eptp;
	u64 pid_pa;			/* posted-interrupt descriptor */
	u16 pid_nv;
	bool posted_intr;		/* pin-based control "process posted interrupts" */
	bool pend_nmi;

	/* the guest's view */
	u64 gpr[16];
	u64 cr0, cr3, cr4, efer, xcr0;
	u64 dr[4];
	u64 apic_base, pat, tsc_aux, spec_ctrl, misc_enable, xss;
	u64 irr[4], isr[4];
	u8 tpr;
	struct tdxsim_ve ve;
	struct tdxsim_event event;

	bool in_vmcall;			/* the last exit was TDG.VP.VMCALL */
	u64 vmcall_mask;
};

static_assert(sizeof(struct tdxsim_vcpu) <= PAGE_SIZE);

enum { GPR_RAX, GPR_RCX, GPR_RDX, GPR_RBX, GPR_RSP, GPR_RBP, GPR_RSI, GPR_RDI,
	GPR_R8, GPR_R9, GPR_R10, GPR_R11, GPR_R12, GPR_R13, GPR_R14, GPR_R15 };

static inline struct vmcb *tdxsim_vmcb(const struct tdxsim_vcpu *vcpu)
{
	return tdxsim_va(vcpu->tdcx[0]);
}

/*
 * A TD that a leaf works on: its TDR is locked.
 */
struct tdxsim_td_ref {
	struct tdxsim_td *td;
	struct tdxsim_pamt *pamt;
	enum tdxsim_lock_mode mode;
};

/* td.c: lock the TDR at @tdr, operand @opid. */
u64 tdxsim_td_get(u64 tdr, enum tdxsim_lock_mode mode, u32 opid, struct tdxsim_td_ref *ref);
void tdxsim_td_put(struct tdxsim_td_ref *ref);
/* As above, and the TD has its keys and all of its TDCS, and is at least in state @op. */
u64 tdxsim_td_get_op(u64 tdr, enum tdxsim_lock_mode mode, u32 opid, enum tdxsim_td_op op,
		     struct tdxsim_td_ref *ref);
/*
 * A page of the host becomes one of the TD, of type @type, and is cleared. @pamt
 * stays locked exclusively: no other leaf may find the page before the caller has
 * filled it.
 */
u64 tdxsim_td_take_page(struct tdxsim_td *td, u64 hpa, enum tdxsim_page_type type, u32 opid,
			struct tdxsim_pamt **pamt);
void tdxsim_cpuid_for_td(const struct tdxsim_td *td, u32 leaf, u32 subleaf, u32 regs[4]);
bool tdxsim_cpuid_is_virtual(u32 leaf);
unsigned int tdxsim_td_gpaw(const struct tdxsim_td *td);

static inline u64 tdxsim_td_shared_bit(const struct tdxsim_td *td)
{
	return BIT_ULL(tdxsim_td_gpaw(td) - 1);
}

/*
 * sept.c: private memory.
 *
 * A private page is stored scrambled. It is opened, and its content readable,
 * as long as a CPU has it in the translations of a running vCPU.
 */
struct tdxsim_sept_walk {
	u64 *entry;			/* where the walk ended */
	unsigned int level;		/* level of that entry */
};

bool tdxsim_sept_walk(struct tdxsim_td *td, u64 gpa, unsigned int level,
		      struct tdxsim_sept_walk *walk);
void tdxsim_sept_details(struct pt_regs *regs, const struct tdxsim_sept_walk *walk);
void tdxsim_page_open(struct tdxsim_td *td, u64 hpa);
void tdxsim_page_close(struct tdxsim_td *td, u64 hpa);
/* TDG.MEM.PAGE.ACCEPT of a page that is pending: zeroes, and mapped. */
u64 tdxsim_sept_accept(struct tdxsim_td *td, u64 gpa, unsigned int level, bool *violation);

/*
 * mmu.c: the guest's translations, on the CPU that runs it.
 */
enum tdxsim_access { ACCESS_READ, ACCESS_WRITE, ACCESS_EXEC };

enum tdxsim_xlate {
	XLATE_OK,
	XLATE_PF,			/* the guest's own #PF, .error */
	XLATE_VE,			/* #VE, .gpa */
	XLATE_VIOLATION,		/* exit to the host, .gpa, .qual, .ext_qual */
	XLATE_FATAL,			/* the end of the TD: .why */
};

struct tdxsim_fault {
	u64 gva;
	u64 gpa;
	u64 qual;
	u64 ext_qual;
	u32 error;
	bool writable;			/* XLATE_OK: a later write is allowed too */
	bool user;
	bool nx;
	u64 hpa;
	const char *why;
};

void tdxsim_mmu_begin(struct tdxsim_td *td, struct tdxsim_vcpu *vcpu);
void tdxsim_mmu_flush(void);
void tdxsim_mmu_end(void);
u64 tdxsim_mmu_root(void);
enum tdxsim_xlate tdxsim_gpa_to_hpa(struct tdxsim_td *td, struct tdxsim_vcpu *vcpu, u64 gpa,
				    enum tdxsim_access access, struct tdxsim_fault *f);
/* Translate as the CPU would, at privilege level @cpl, and fill the shadow tables. */
enum tdxsim_xlate tdxsim_mmu_fault(struct tdxsim_td *td, struct tdxsim_vcpu *vcpu, u64 gva,
				   enum tdxsim_access access, bool user, struct tdxsim_fault *f);
/* Copy from where the guest executes: @len bytes, or as many as there were and why in @f. */
enum tdxsim_xlate tdxsim_guest_fetch(struct tdxsim_td *td, struct tdxsim_vcpu *vcpu, u8 *buf,
				     unsigned int *len, struct tdxsim_fault *f);

/*
 * enter.c, guest.c: what happened in the TD is dealt with, or ends the entry.
 */
enum tdxsim_run { RUN_GUEST, EXIT_TO_HOST };

struct tdxsim_exit {
	u64 status;			/* RAX */
	u64 qual, ext_qual, gpa, intr_info;
};

struct tdxsim_run_ctx {
	struct tdxsim_td *td;
	struct tdxsim_vcpu *vcpu;
	struct vmcb *vmcb;
	struct tdxsim_exit exit;
};

enum tdxsim_run tdxsim_handle_exit(struct tdxsim_run_ctx *ctx);
enum tdxsim_run tdxsim_tdcall(struct tdxsim_run_ctx *ctx);
void tdxsim_inject(struct tdxsim_run_ctx *ctx, u8 vector, bool has_error, u32 error);
enum tdxsim_run tdxsim_inject_fault(struct tdxsim_run_ctx *ctx, enum tdxsim_xlate what,
				    const struct tdxsim_fault *f);
enum tdxsim_run tdxsim_exit_violation(struct tdxsim_run_ctx *ctx, const struct tdxsim_fault *f);
enum tdxsim_run tdxsim_exit_fatal(struct tdxsim_run_ctx *ctx, const char *why);
void tdxsim_fpu_get(struct tdxsim_td *td, struct tdxsim_vcpu *vcpu);
void tdxsim_fpu_put(struct tdxsim_td *td, struct tdxsim_vcpu *vcpu);
bool tdxsim_apic_pending(const struct tdxsim_vcpu *vcpu);
void tdxsim_apic_sync(struct tdxsim_vcpu *vcpu);
void tdxsim_apic_eoi(struct tdxsim_vcpu *vcpu);
int tdxsim_apic_take(struct tdxsim_vcpu *vcpu);
/* The interrupt could not be delivered: it is pending again. */
void tdxsim_apic_untake(struct tdxsim_vcpu *vcpu, u8 vector);
void tdxsim_skip_insn(struct tdxsim_run_ctx *ctx, unsigned int len);

/* quote.c */
void tdxsim_make_report_mac(const u8 *report, u8 mac[32]);
void tdxsim_quotes_drop_td(u64 tdr);

/* Handlers, one for each leaf. */
u64 tdxsim_vp_enter(struct pt_regs *regs, u8 version);
u64 tdxsim_mng_addcx(struct pt_regs *regs, u8 version);
u64 tdxsim_mem_page_add(struct pt_regs *regs, u8 version);
u64 tdxsim_mem_sept_add(struct pt_regs *regs, u8 version);
u64 tdxsim_vp_addcx(struct pt_regs *regs, u8 version);
u64 tdxsim_mem_page_aug(struct pt_regs *regs, u8 version);
u64 tdxsim_mem_range_block(struct pt_regs *regs, u8 version);
u64 tdxsim_mng_key_config(struct pt_regs *regs, u8 version);
u64 tdxsim_mng_create(struct pt_regs *regs, u8 version);
u64 tdxsim_vp_create(struct pt_regs *regs, u8 version);
u64 tdxsim_mng_rd(struct pt_regs *regs, u8 version);
u64 tdxsim_mr_extend(struct pt_regs *regs, u8 version);
u64 tdxsim_mr_finalize(struct pt_regs *regs, u8 version);
u64 tdxsim_vp_flush(struct pt_regs *regs, u8 version);
u64 tdxsim_mng_vpflushdone(struct pt_regs *regs, u8 version);
u64 tdxsim_mng_key_freeid(struct pt_regs *regs, u8 version);
u64 tdxsim_mng_init(struct pt_regs *regs, u8 version);
u64 tdxsim_vp_init(struct pt_regs *regs, u8 version);
u64 tdxsim_vp_rd(struct pt_regs *regs, u8 version);
u64 tdxsim_phymem_page_reclaim(struct pt_regs *regs, u8 version);
u64 tdxsim_mem_page_remove(struct pt_regs *regs, u8 version);
u64 tdxsim_mem_track(struct pt_regs *regs, u8 version);
u64 tdxsim_phymem_cache_wb(struct pt_regs *regs, u8 version);
u64 tdxsim_phymem_page_wbinvd(struct pt_regs *regs, u8 version);
u64 tdxsim_vp_wr(struct pt_regs *regs, u8 version);
u64 tdxsim_quote_get(struct pt_regs *regs, u8 version);

#endif /* _X86_VIRT_TDXSIM_TD_H */
