// SPDX-License-Identifier: GPL-2.0
/*
 * tdxsim: options, faults on demand, and what can be seen of the module.
 *
 * All of it on the kernel's command line (tdxsim.<option>=), and the most of it
 * in debugfs while the machine runs.
 */
#define pr_fmt(fmt) "tdxsim: " fmt

#include <linux/array_size.h>
#include <linux/cleanup.h>
#include <linux/ctype.h>
#include <linux/debugfs.h>
#include <linux/init.h>
#include <linux/kernel.h>
#include <linux/kstrtox.h>
#include <linux/moduleparam.h>
#include <linux/mutex.h>
#include <linux/seq_file.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <asm/setup.h>

#include "tdxsim.h"

#define MAX_EXT_PAGES	SZ_1M
#define MAX_STEPS	10000u
#define MAX_STEP_US	1000000u
#define MAX_QUOTES	64u

struct tdxsim_options tdxsim_options = {
	.quoting = true,
	.ext_pages = 64,
	.steps = 2,
	.quote_size = 8192,
	.quote_step_us = 0,
	.quote_slots = 2,
};

/* All options that are numbers: name, least and greatest value. */
static const struct number_option {
	const char *name;
	unsigned int *val;
	unsigned int min, max;
} number_options[] = {
	{ "ext_pages",		&tdxsim_options.ext_pages,	0, MAX_EXT_PAGES },
	{ "steps",		&tdxsim_options.steps,		0, MAX_STEPS },
	{ "quote_size",		&tdxsim_options.quote_size,	1, TDXSIM_MAX_QUOTE_SIZE },
	{ "quote_step_us",	&tdxsim_options.quote_step_us,	0, MAX_STEP_US },
	{ "quote_slots",	&tdxsim_options.quote_slots,	0, MAX_QUOTES },
};

static int set_number(const struct number_option *opt, const char *val)
{
	unsigned int num;
	int ret = kstrtouint(val, 0, &num);

	if (!ret && (num < opt->min || num > opt->max))
		ret = -ERANGE;
	if (ret) {
		pr_err("%s=%s: say a number from %u to %u\n", opt->name, val, opt->min, opt->max);
		return ret;
	}

	WRITE_ONCE(*opt->val, num);
	return 0;
}

static int param_set_number(const char *val, const struct kernel_param *kp)
{
	return set_number(kp->arg, val);
}

static int param_get_number(char *buf, const struct kernel_param *kp)
{
	const struct number_option *opt = kp->arg;

	return sysfs_emit(buf, "%u\n", READ_ONCE(*opt->val));
}

static const struct kernel_param_ops number_ops = {
	.set = param_set_number,
	.get = param_get_number,
};

module_param_named(quoting, tdxsim_options.quoting, bool, 0444);
MODULE_PARM_DESC(quoting, "The module offers extensions and Quoting");
module_param_named(update, tdxsim_options.update, bool, 0444);
MODULE_PARM_DESC(update, "There is a P-SEAMLDR that can update the module");
module_param_cb(ext_pages, &number_ops, (void *)&number_options[0], 0444);
MODULE_PARM_DESC(ext_pages, "Pages that the extensions need for Quoting");
module_param_cb(steps, &number_ops, (void *)&number_options[1], 0444);
MODULE_PARM_DESC(steps, "How often a resumable leaf is interrupted before it is done");
module_param_cb(quote_size, &number_ops, (void *)&number_options[2], 0444);
MODULE_PARM_DESC(quote_size, "Bytes of a Quote");
module_param_cb(quote_step_us, &number_ops, (void *)&number_options[3], 0444);
MODULE_PARM_DESC(quote_step_us, "Microseconds that one step of TDH.QUOTE.GET takes");
module_param_cb(quote_slots, &number_ops, (void *)&number_options[4], 0444);
MODULE_PARM_DESC(quote_slots, "Quotes that can be in the making at once");

/*
 * Faults.
 *
 * Leaves read the table without a lock, with interrupts off. The words of an
 * entry are in place before @nr_faults counts it, and are not written again
 * before all who may still look at it are done.
 */
struct fault {
	unsigned int leaf;
	u64 field;			/* 0: any */
	bool lie;			/* the leaf works, and returns @value */
	u64 value;			/* else the status */
	unsigned int nth;
	unsigned int times;		/* 0: always */
	atomic_t calls;
};

#define MAX_FAULTS	32

static struct fault faults[MAX_FAULTS];
static unsigned int nr_faults;
static DEFINE_MUTEX(faults_mutex);

static bool find_fault(unsigned int leaf, u64 field, bool lie, u64 *value)
{
	unsigned int nr, i;

	/* Pairs with add_faults(). */
	nr = smp_load_acquire(&nr_faults);
	for (i = 0; i < nr; i++) {
		struct fault *f = &faults[i];
		unsigned int call;

		if (f->leaf != leaf || f->lie != lie || (f->field && f->field != field))
			continue;

		call = atomic_inc_return(&f->calls);
		if (call < f->nth || (f->times && call - f->nth >= f->times))
			continue;

		*value = f->value;
		return true;
	}

	return false;
}

bool tdxsim_fault(unsigned int leaf, u64 field, u64 *status)
{
	return find_fault(leaf, field, false, status);
}

bool tdxsim_lie(unsigned int leaf, u64 field, u64 *value)
{
	return find_fault(leaf, field, true, value);
}

/* LEAF[/FIELD]:STATUS[:NTH[:TIMES]], and =VALUE for STATUS; @spec is taken apart. */
static int parse_fault(char *spec, struct fault *f)
{
	char *leaf = strsep(&spec, ":");
	char *status = strsep(&spec, ":");
	char *nth = strsep(&spec, ":");
	char *times = strsep(&spec, ":");
	char *field = strchr(leaf, '/');
	int ret;

	if (!status || spec)
		return -EINVAL;
	if (field)
		*field++ = '\0';

	ret = tdxsim_leaf_by_name(leaf, strlen(leaf));
	if (ret < 0)
		return ret;
	f->leaf = ret;

	f->field = 0;
	if (field && (f->leaf != LEAF_SYS_RD || kstrtoull(field, 16, &f->field)))
		return -EINVAL;
	f->lie = *status == '=';
	if (kstrtoull(status + f->lie, 16, &f->value))
		return -EINVAL;
	f->nth = 1;
	if (nth && (kstrtouint(nth, 0, &f->nth) || !f->nth))
		return -EINVAL;
	f->times = 0;
	if (times && kstrtouint(times, 0, &f->times))
		return -EINVAL;

	atomic_set(&f->calls, 0);
	return 0;
}

/* @specs is taken apart. What comes before a bad SPEC stays in force. */
static int add_faults(char *specs)
{
	char *spec;

	while ((spec = strsep(&specs, ",\n"))) {
		char shown[80];
		int ret;

		spec = strim(spec);
		if (!*spec)
			continue;

		strscpy(shown, spec);
		ret = nr_faults < MAX_FAULTS ? parse_fault(spec, &faults[nr_faults]) : -ENOSPC;
		if (ret) {
			pr_err("fault=%s: not taken (%d), say LEAF[/FIELD]:[=]STATUS[:NTH[:TIMES]], at most %d of them\n",
			       shown, ret, MAX_FAULTS);
			return ret;
		}
		/* Pairs with tdxsim_fault(). */
		smp_store_release(&nr_faults, nr_faults + 1);
	}

	return 0;
}

/* Only called while the command line is parsed, when nothing can be allocated. */
static int param_set_fault(const char *val, const struct kernel_param *kp)
{
	static char specs[COMMAND_LINE_SIZE];

	strscpy(specs, val);
	return add_faults(specs);
}

static const struct kernel_param_ops fault_ops = { .set = param_set_fault };

module_param_cb(fault, &fault_ops, NULL, 0);
MODULE_PARM_DESC(fault, "LEAF[/FIELD]:[=]STATUS[:NTH[:TIMES]], several with commas");

/* debugfs: SPECs add to those in force, an empty line or "clear" ends all. */
static ssize_t fault_write(struct file *file, const char __user *ubuf, size_t len, loff_t *pos)
{
	char *buf __free(kfree) = NULL;
	char *specs;
	int ret;

	if (len >= PAGE_SIZE)
		return -E2BIG;
	buf = memdup_user_nul(ubuf, len);
	if (IS_ERR(buf))
		return PTR_ERR(no_free_ptr(buf));

	guard(mutex)(&faults_mutex);

	specs = strim(buf);
	if (!*specs || !strcmp(specs, "clear")) {
		WRITE_ONCE(nr_faults, 0);
		synchronize_rcu();
		return len;
	}

	ret = add_faults(specs);
	return ret ?: len;
}

static int fault_show(struct seq_file *m, void *unused)
{
	unsigned int i;

	guard(mutex)(&faults_mutex);

	for (i = 0; i < nr_faults; i++) {
		struct fault *f = &faults[i];

		seq_puts(m, tdxsim_leaves[f->leaf].name);
		if (f->field)
			seq_printf(m, "/%llx", f->field);
		seq_printf(m, ":%s%llx:%u:%u calls %u\n", f->lie ? "=" : "", f->value, f->nth,
			   f->times, atomic_read(&f->calls));
	}

	return 0;
}

static int fault_open(struct inode *inode, struct file *file)
{
	return single_open(file, fault_show, NULL);
}

static const struct file_operations fault_fops = {
	.owner = THIS_MODULE,
	.open = fault_open,
	.read = seq_read,
	.write = fault_write,
	.llseek = seq_lseek,
	.release = single_release,
};

static int number_get(void *data, u64 *val)
{
	const struct number_option *opt = data;

	*val = READ_ONCE(*opt->val);
	return 0;
}

static int number_set(void *data, u64 val)
{
	const struct number_option *opt = data;

	if (val < opt->min || val > opt->max)
		return -ERANGE;

	WRITE_ONCE(*opt->val, val);
	return 0;
}

DEFINE_DEBUGFS_ATTRIBUTE(number_fops, number_get, number_set, "%llu\n");

static const char * const state_names[SYS_NR_STATES] = {
	[SYS_INIT_PENDING]	= "init-pending",
	[SYS_INIT_DONE]		= "init-done",
	[SYS_CONFIG_DONE]	= "config-done",
	[SYS_READY]		= "ready",
	[SYS_SHUTDOWN]		= "shutdown",
	[SYS_DISABLED]		= "disabled",
};

static const char * const ext_names[] = {
	[EXT_OFF]		= "off",
	[EXT_NEEDS_MEM]		= "needs-memory",
	[EXT_NEEDS_INIT]	= "needs-init",
	[EXT_READY]		= "ready",
};

static const char * const quote_names[] = {
	[QUOTE_OFF]		= "off",
	[QUOTE_NEEDS_INIT]	= "needs-init",
	[QUOTE_READY]		= "ready",
};

static const char * const page_names[PT_EXT + 1] = {
	[PT_RSVD]	= "reserved",
	[PT_REG]	= "reg",
	[PT_TDR]	= "tdr",
	[PT_TDCX]	= "tdcx",
	[PT_TDVPR]	= "tdvpr",
	[PT_SEPT]	= "sept",
	[PT_EXT]	= "ext",
};

/* One "name value" per line, so that a script can take what it looks for. */
static int status_show(struct seq_file *m, void *unused)
{
	int i;

	seq_printf(m, "state %s\n", state_names[tdxsim_sys.state]);
	seq_printf(m, "features_offered %llx\n", tdxsim_sys.offered);
	seq_printf(m, "features_enabled %llx\n", tdxsim_sys.features);
	seq_printf(m, "ext %s\n", ext_names[tdxsim_sys.ext_state]);
	seq_printf(m, "ext_pages_needed %u\n", tdxsim_sys.ext_pages_needed);
	seq_printf(m, "quoting %s\n", quote_names[tdxsim_sys.quote_state]);
	seq_printf(m, "quote_key_generation %u\n", tdxsim_sys.quote_key_generation);
	seq_printf(m, "quotes_running %d\n", atomic_read(&tdxsim_stats.quotes_running));
	seq_printf(m, "quotes_made %lld\n", atomic64_read(&tdxsim_stats.quotes_made));
	seq_printf(m, "tds %d\n", atomic_read(&tdxsim_stats.tds));
	seq_printf(m, "vcpus %d\n", atomic_read(&tdxsim_stats.vcpus));

	for (i = 0; i < ARRAY_SIZE(page_names); i++) {
		if (page_names[i])
			seq_printf(m, "pages_%s %d\n", page_names[i],
				   atomic_read(&tdxsim_stats.pages[i]));
	}

	for (i = 0; i < TDXSIM_NR_LEAVES; i++) {
		s64 calls = atomic64_read(&tdxsim_stats.calls[i]);

		if (calls)
			seq_printf(m, "%s %lld failed %lld\n", tdxsim_leaves[i].name, calls,
				   atomic64_read(&tdxsim_stats.failed[i]));
	}

	return 0;
}
DEFINE_SHOW_ATTRIBUTE(status);

static struct dentry *debugfs_dir;

struct dentry *tdxsim_debugfs(void)
{
	return debugfs_dir;
}

static int __init tdxsim_debugfs_init(void)
{
	struct dentry *options;
	int i;

	if (!tdxsim_platform.on)
		return 0;

	debugfs_dir = debugfs_create_dir("tdxsim", NULL);
	debugfs_create_file("status", 0444, debugfs_dir, NULL, &status_fops);
	debugfs_create_file("fault", 0600, debugfs_dir, NULL, &fault_fops);

	options = debugfs_create_dir("options", debugfs_dir);
	debugfs_create_bool("quoting", 0600, options, &tdxsim_options.quoting);
	for (i = 0; i < ARRAY_SIZE(number_options); i++)
		debugfs_create_file_unsafe(number_options[i].name, 0600, options,
					   (void *)&number_options[i], &number_fops);

	return 0;
}
postcore_initcall(tdxsim_debugfs_init);
