/* SPDX-License-Identifier: GPL-2.0 */
/*
 * tdxsim: a TDX module in software, for tests.
 *
 * Everything below runs on behalf of a SEAMCALL: in a #UD handler, with
 * interrupts off, on a CPU that may be in an IPI or in stop_machine(). So a
 * leaf never sleeps, never allocates, never waits for another CPU; what it
 * cannot lock at once it answers with ST_OPERAND_BUSY, like the real module.
 */
#ifndef _X86_VIRT_TDXSIM_H
#define _X86_VIRT_TDXSIM_H

#include <linux/atomic.h>
#include <linux/cpumask.h>
#include <linux/mm.h>
#include <linux/percpu-defs.h>
#include <linux/ptrace.h>
#include <linux/types.h>

#include "abi.h"

struct dentry;

/*
 * Locks. Try only, never wait; they are memory words and not kernel locks, so
 * lockdep has nothing to say about them: a TDR is locked from TDH.VP.ENTER to
 * the TD's exit, that is until after other leaves were called on other CPUs.
 */
enum tdxsim_lock_mode { TDXSIM_SHARED, TDXSIM_EXCLUSIVE };

struct tdxsim_lock {
	u16 word;	/* number of holders, or TDXSIM_LOCK_EXCLUSIVE */
};

#define TDXSIM_LOCK_EXCLUSIVE	0xffff

bool tdxsim_trylock(struct tdxsim_lock *lock, enum tdxsim_lock_mode mode);
void tdxsim_unlock(struct tdxsim_lock *lock, enum tdxsim_lock_mode mode);

/* A status with the id of the operand it is about. */
static inline u64 tdxsim_status(u64 status, u32 opid)
{
	return status | opid;
}

/* Errors have bit 63 set; everything else is a success, maybe a qualified one. */
static inline bool tdxsim_failed(u64 status)
{
	return status & BIT_ULL(63);
}

/*
 * Platform: what BIOS and CPU would have said.
 */
#define TDXSIM_NR_MKTME_KEYIDS	31
#define TDXSIM_NR_TDX_KEYIDS	32
#define TDXSIM_FIRST_TDX_KEYID	(TDXSIM_NR_MKTME_KEYIDS + 1)
#define TDXSIM_KEYID_BITS	6
/* CPUID's physical address bits; the KeyID is the uppermost of them. */
#define TDXSIM_MAXPHYADDR	52
#define TDXSIM_PHYS_BITS	(TDXSIM_MAXPHYADDR - TDXSIM_KEYID_BITS)
#define TDXSIM_MAX_CMRS		32
#define TDXSIM_MAX_PKGS		64

struct tdxsim_range {
	u64 start;
	u64 end;	/* first address behind it */
};

struct tdxsim_platform {
	bool on;			/* tdxsim=on was given */
	unsigned int nr_cmrs;
	struct tdxsim_range cmrs[TDXSIM_MAX_CMRS];	/* convertible memory */
};

extern struct tdxsim_platform tdxsim_platform;

/* A logical processor. */
struct tdxsim_lp {
	bool vmxe;			/* CR4.VMXE as the kernel believes */
	bool vmxon;
	bool lp_init;			/* TDH.SYS.LP.INIT done since the last TDH.SYS.INIT */
	u64 vmcs;			/* current VMCS, ~0: none */
};

DECLARE_PER_CPU(struct tdxsim_lp, tdxsim_lp);

static inline bool tdxsim_hkid_is_private(u64 hkid)
{
	return hkid >= TDXSIM_FIRST_TDX_KEYID &&
	       hkid < TDXSIM_FIRST_TDX_KEYID + TDXSIM_NR_TDX_KEYIDS;
}

/*
 * Host-physical addresses.
 *
 * tdxsim_hpa_ok(): aligned to @align (a power of two), below the end of the
 * physical address space, and no KeyID bit set. What fails here is
 * ST_OPERAND_INVALID with the operand's id.
 */
bool tdxsim_hpa_ok(u64 hpa, u64 align);
/*
 * As above, and memory that is not the module's, so that all @size bytes can
 * be used at tdxsim_va(). For lists and structures that the host passes.
 */
bool tdxsim_hpa_is_memory(u64 hpa, u64 align, u64 size);
/* Is all of it convertible memory? */
bool tdxsim_in_cmr(u64 start, u64 end);

static inline void *tdxsim_va(u64 hpa)
{
	return __va(hpa);
}

/*
 * Physical Address Metadata Table: type and owner of each 4 KB page that is in
 * a TDMR, in the memory that the host gave for it (4K entries of 16 bytes).
 *
 * All pages are 4 KB: the kernel uses no others, and the module says so.
 */
struct tdxsim_pamt {
	struct tdxsim_lock lock;
	u8 type;
	u8 owner_hi;
	u32 owner_lo;
	u64 bepoch;		/* epoch of TDH.MEM.RANGE.BLOCK, or what the leaves like */
};

/**
 * tdxsim_pamt_get() - check a page's address and lock its metadata
 * @hpa: address of the page
 * @mode: how to lock
 * @opid: operand that brought @hpa
 * @pamt: the entry, on success
 *
 * Return: ST_SUCCESS; ST_OPERAND_INVALID (alignment, range, KeyID bits),
 * ST_OPERAND_ADDR_RANGE_ERROR (not in an initialized TDMR) or
 * ST_OPERAND_BUSY (locked), each with @opid.
 */
u64 tdxsim_pamt_get(u64 hpa, enum tdxsim_lock_mode mode, u32 opid, struct tdxsim_pamt **pamt);
void tdxsim_pamt_put(struct tdxsim_pamt *pamt, enum tdxsim_lock_mode mode);

/* As tdxsim_pamt_get(), and not locked but ST_PAGE_METADATA_INCORRECT if it is of another type. */
u64 tdxsim_pamt_get_type(u64 hpa, enum tdxsim_page_type type, enum tdxsim_lock_mode mode,
			 u32 opid, struct tdxsim_pamt **pamt);

/* The entry of a page that the module has already: no checks, no lock. NULL if there is none. */
struct tdxsim_pamt *tdxsim_pamt_peek(u64 hpa);

/* Address of the owner's TDR; 0 for pages without one. */
static inline u64 tdxsim_pamt_owner(const struct tdxsim_pamt *pamt)
{
	return ((u64)pamt->owner_hi << 32 | pamt->owner_lo) << PAGE_SHIFT;
}

/* Needs the entry locked exclusively. Keeps the status counters; clears bepoch. */
void tdxsim_pamt_set(struct tdxsim_pamt *pamt, enum tdxsim_page_type type, u64 owner);

/* Get, check that the page is free (PT_NDA), set, put: a page becomes the module's. */
u64 tdxsim_pamt_take(u64 hpa, enum tdxsim_page_type type, u64 owner, u32 opid);

/*
 * The module as a whole.
 */
enum tdxsim_sys_state {
	SYS_INIT_PENDING,	/* just loaded: only TDH.SYS.INIT */
	SYS_INIT_DONE,		/* LP.INIT on all CPUs, then CONFIG or UPDATE */
	SYS_CONFIG_DONE,	/* KEY.CONFIG on all packages */
	SYS_READY,
	SYS_SHUTDOWN,		/* TDH.SYS.SHUTDOWN done: nothing but loading a new module */
	SYS_DISABLED,		/* TDH.SYS.DISABLE done: nothing ever again */
	SYS_NR_STATES,
};

enum tdxsim_ext_state {
	EXT_OFF,		/* not asked for */
	EXT_NEEDS_MEM,		/* TDH.EXT.MEM.ADD until the pool is full */
	EXT_NEEDS_INIT,		/* TDH.EXT.INIT */
	EXT_READY,
};

enum tdxsim_quote_state {
	QUOTE_OFF,		/* not asked for */
	QUOTE_NEEDS_INIT,	/* TDH.QUOTE.INIT, needs EXT_READY */
	QUOTE_READY,
};

/*
 * Steps of a leaf that answers ST_INTERRUPTED_RESUMABLE tdxsim.steps times
 * before it is done. One instance for each operation that can be half-done;
 * all zeroes is "not begun". The caller holds the operation's own lock.
 */
struct tdxsim_steps {
	unsigned int done;
};

/* True: answer ST_INTERRUPTED_RESUMABLE. False: finish now; the next operation begins anew. */
bool tdxsim_step(struct tdxsim_steps *steps);
/* How many more times tdxsim_step() will be true. */
unsigned int tdxsim_steps_left(const struct tdxsim_steps *steps);

#define TDXSIM_MAX_TDMRS	64
#define TDXSIM_MAX_RSVD		16
#define TDXSIM_PAMT_ENTRY_SIZE	16

enum { TDXSIM_4K, TDXSIM_2M, TDXSIM_1G, TDXSIM_NR_SIZES };

struct tdxsim_tdmr {
	struct tdxsim_lock lock;	/* TDH.SYS.TDMR.INIT */
	struct tdxsim_range range;
	u64 next;			/* not yet initialized from here on */
	struct tdxsim_range pamt[TDXSIM_NR_SIZES];
	unsigned int nr_rsvd;
	struct tdxsim_range rsvd[TDXSIM_MAX_RSVD];
};

struct tdxsim_sys {
	enum tdxsim_sys_state state;
	/*
	 * Held shared by every leaf while it runs, exclusive by those that
	 * change the state above (ST_SYS_BUSY if not obtained). The dispatcher
	 * does it: leaves need not.
	 */
	struct tdxsim_lock lock;
	u64 offered;			/* TDX_FEATURES0 */
	u64 features;			/* asked for with CONFIG or UPDATE version 1 */
	atomic_t nr_lps;		/* CPUs that did TDH.SYS.LP.INIT */
	u16 global_hkid;		/* the module's own KeyID: no TD may have it */
	unsigned int nr_tdmrs;
	struct tdxsim_tdmr tdmrs[TDXSIM_MAX_TDMRS];
	unsigned long key_pkgs[BITS_TO_LONGS(TDXSIM_MAX_PKGS)];
	unsigned int nr_key_pkgs;
	bool handoff;			/* SHUTDOWN left something for UPDATE to take over */
	u16 update_version;		/* modules loaded in the place of the first one */

	struct tdxsim_lock ext_lock;	/* EXT.*, QUOTE.INIT; ST_OPERAND_BUSY if not obtained */
	enum tdxsim_ext_state ext_state;
	u32 ext_pages_needed;
	u32 ext_pages;
	u64 ext_mem_next;		/* RCX that goes on with a half-done TDH.EXT.MEM.ADD */
	struct tdxsim_steps ext_mem_steps;
	struct tdxsim_steps ext_init_steps;

	enum tdxsim_quote_state quote_state;
	u32 max_quote_size;		/* bytes; valid in QUOTE_READY */
	u32 quote_key_generation;	/* how often TDH.QUOTE.INIT made new keys */
	struct tdxsim_steps quote_init_steps;
	struct tdxsim_steps disable_steps;
};

extern struct tdxsim_sys tdxsim_sys;

/* tdmr.c: check the TDMRs that an array of @nr addresses names, and take them. */
u64 tdxsim_tdmrs_config(const u64 *tdmr_info_pas, unsigned int nr);

/*
 * Load a module: as the machine came up, or in the place of one that was shut
 * down and left its state to be taken over. No leaf may be running.
 */
void tdxsim_module_load(bool keep_handoff);

/* ST_SUCCESS, or why TDH.QUOTE.GET cannot be: TDH.QUOTE.INIT was not done. */
u64 tdxsim_quote_check_ready(void);

/*
 * What TDH.SYS.RD tells about TDs and TDH.MNG.INIT checks.
 */
#define TDXSIM_ATTRIBUTES_FIXED0	(BIT_ULL(28) | BIT_ULL(0))	/* bits that may be 1 */
#define TDXSIM_ATTRIBUTES_FIXED1	0ULL				/* bits that must be 1 */
#define TDXSIM_XFAM_FIXED0		0x7ULL
#define TDXSIM_XFAM_FIXED1		0x3ULL
#define TDXSIM_MAX_VCPUS_PER_TD		64
#define TDXSIM_TDR_SIZE			PAGE_SIZE
#define TDXSIM_TDCS_PAGES		5
#define TDXSIM_TDVPS_PAGES		6

/* CPUID leaves that a VMM configures; TD_PARAMS has their values in this order. */
struct tdxsim_cpuid_config {
	u32 leaf;
	u32 subleaf;			/* ~0: the leaf has none */
	u32 eax, ebx, ecx, edx;		/* bits that may be configured */
};

extern const struct tdxsim_cpuid_config tdxsim_cpuid_configs[];
extern const unsigned int tdxsim_nr_cpuid_configs;

/*
 * Options. Single words, changed by debugfs at any time: READ_ONCE(), and once
 * per operation where a change in the middle would do harm.
 */
struct tdxsim_options {
	bool quoting;
	bool update;
	unsigned int ext_pages;
	unsigned int steps;
	unsigned int quote_size;
	unsigned int quote_step_us;
	unsigned int quote_slots;
};

extern struct tdxsim_options tdxsim_options;

#define TDXSIM_MAX_QUOTE_SIZE	(4u << 20)

#define tdxsim_opt(_name)	READ_ONCE(tdxsim_options._name)

/*
 * Faults on demand. The dispatcher asks before a leaf has looked at anything;
 * leaves need not. @field is TDH.SYS.RD's field id, 0 for other leaves.
 */
bool tdxsim_fault(unsigned int leaf, u64 field, u64 *status);
/* And after it was successful: does it return something else than the truth? */
bool tdxsim_lie(unsigned int leaf, u64 field, u64 *value);

/* Counters of /sys/kernel/debug/tdxsim/status. */
struct tdxsim_stats {
	atomic64_t calls[TDXSIM_NR_LEAVES];
	atomic64_t failed[TDXSIM_NR_LEAVES];	/* answered with an error */
	atomic_t pages[PT_EXT + 1];		/* pages owned, by type */
	atomic_t tds;				/* kept by the TD leaves */
	atomic_t vcpus;
	atomic_t quotes_running;
	atomic64_t quotes_made;
};

extern struct tdxsim_stats tdxsim_stats;

/* The debugfs directory, for files of other parts; NULL until it is there. */
struct dentry *tdxsim_debugfs(void);

/*
 * Dispatcher.
 *
 * A handler takes its operands from @regs, writes its results there and
 * returns what goes to RAX. It leaves alone what the leaf does not write.
 * The state of the module, version and reserved bits of RAX, faults and the
 * module's lock are dealt with before it is called.
 */
typedef u64 (*tdxsim_handler_t)(struct pt_regs *regs, u8 version);

enum tdxsim_sys_lock {
	SYS_LOCK_SHARED,	/* the default */
	SYS_LOCK_EXCLUSIVE,
};

#define TDXSIM_ANY_STATE	(BIT(SYS_NR_STATES) - 1)

struct tdxsim_leaf_desc {
	const char *name;		/* as in the specification */
	tdxsim_handler_t handler;
	u8 max_version;
	u8 min_version;
	u8 states;			/* BIT(enum tdxsim_sys_state) in which it is legal */
	u8 lock;			/* enum tdxsim_sys_lock */
	bool before_lp_init;		/* legal on a CPU before LP.INIT */
	u64 wrong_state;		/* status in other states; 0: the dispatcher's choice */
	u64 needs_feature;		/* in TDX_FEATURES0, or the leaf does not exist */
};

extern const struct tdxsim_leaf_desc tdxsim_leaves[TDXSIM_NR_LEAVES];

/* A SEAMCALL instruction trapped; VMXON was done. Sets RAX and the flags. */
void tdxsim_seamcall(struct pt_regs *regs);

/* False while P-SEAMLDR is at it: the module's SEAMCALLs end in VMfailInvalid. */
bool tdxsim_module_is_loaded(void);

/* Leaf number for a name of the specification, -ENOENT if there is none. */
int tdxsim_leaf_by_name(const char *name, size_t len);

/*
 * Hooks of the TD leaves (td.c, quote.c), called with tdxsim_sys.lock held
 * exclusively, so that no other leaf runs.
 */
void tdxsim_quotes_drop(void);	/* SHUTDOWN: no half-made Quote survives the module */
void tdxsim_tds_drop(void);	/* DISABLE: nothing of any TD is left, PAMT included */

/* Handlers of leaves that concern the module as a whole (sys.c, pamt.c, ext.c). */
u64 tdxsim_sys_init(struct pt_regs *regs, u8 version);
u64 tdxsim_sys_lp_init(struct pt_regs *regs, u8 version);
u64 tdxsim_sys_rd(struct pt_regs *regs, u8 version);
u64 tdxsim_sys_config(struct pt_regs *regs, u8 version);
u64 tdxsim_sys_key_config(struct pt_regs *regs, u8 version);
u64 tdxsim_sys_tdmr_init(struct pt_regs *regs, u8 version);
u64 tdxsim_sys_shutdown(struct pt_regs *regs, u8 version);
u64 tdxsim_sys_update(struct pt_regs *regs, u8 version);
u64 tdxsim_sys_disable(struct pt_regs *regs, u8 version);
u64 tdxsim_phymem_page_rdmd(struct pt_regs *regs, u8 version);
u64 tdxsim_ext_mem_add(struct pt_regs *regs, u8 version);
u64 tdxsim_ext_init(struct pt_regs *regs, u8 version);
u64 tdxsim_quote_init(struct pt_regs *regs, u8 version);
u64 tdxsim_seamldr_info(struct pt_regs *regs, u8 version);
u64 tdxsim_seamldr_install(struct pt_regs *regs, u8 version);

#endif /* _X86_VIRT_TDXSIM_H */
