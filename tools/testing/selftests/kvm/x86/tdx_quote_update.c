// SPDX-License-Identifier: GPL-2.0-only
/*
 * TDG.VP.VMCALL<GetQuote> and updates of the TDX module at run time
 *
 *	tdx_quote_update TEST [FAULT]
 *
 * Needs the tdx-host driver, and tdxsim's debugfs to say what the next module is like.
 */
#include <pthread.h>

#include "tdx_quote_td.h"

#define FIRMWARE	"/sys/class/firmware/tdx_module/"
#define OPTIONS		DEBUGFS "options/"

#define NR_UPDATES	10

/* What the kernel takes for an image; tdxsim does not look into it. */
struct image {
	u16 version;
	u16 checksum;
	u8 signature[8];
	u32 nr_sig_pages;
	u32 nr_module_pages;
	u8 reserved[4076];
	u8 pages[2 * SZ_4K];
} __packed;

static void read_line(const char *name, char *line, size_t size)
{
	FILE *file = fopen(name, "r");

	TEST_ASSERT(file, "No file %s", name);
	line[0] = '\0';
	if (fgets(line, size, file))
		line[strcspn(line, "\n")] = '\0';
	fclose(file);
}

/* Load a new module. Returns whether the kernel says that it went well. */
static bool update(void)
{
	static const struct image image = {
		.version = 0x200,
		.signature = "TDX-BLOB",
		.nr_sig_pages = 1,
		.nr_module_pages = 1,
	};
	char line[64];

	write_file(FIRMWARE "loading", "1", 1);
	write_file(FIRMWARE "data", &image, sizeof(image));
	write_file(FIRMWARE "loading", "0", 1);
	do {
		usleep(1000);
		read_line(FIRMWARE "status", line, sizeof(line));
	} while (strcmp(line, "idle"));

	read_line(FIRMWARE "error", line, sizeof(line));
	if (line[0])
		ksft_print_msg("the new module was not taken: %s\n", line);
	return !line[0];
}

static void set_option(const char *name, const char *val)
{
	char path[128];

	snprintf(path, sizeof(path), OPTIONS "%s", name);
	write_file(path, val, strlen(val));
}

/* What KVM offers to new VMs */
static bool notify_offered(struct quote_td *td)
{
	struct kvm_tdx_capabilities *caps = vm_tdx_get_capabilities(td->vm);
	bool offered = caps->user_tdvmcallinfo_1_r11;

	free(caps);
	return offered;
}

/* A VM whose Quotes the kernel makes refuses the call, whatever becomes of the module. */
static bool notify_refused(struct quote_td *td)
{
	return tdx_proxy_tdvmcall(&td->vcpu, TDVMCALL_SETUP_EVENT_NOTIFY_INTERRUPT, 64, 0) ==
	       TDVMCALL_STATUS_SUBFUNC_UNSUPPORTED;
}

/* Do the two calls get to userspace, and what that says to the guest? */
static bool calls_exit(struct quote_td *td)
{
	static const u64 calls[] = {
		TDVMCALL_GET_QUOTE, TDVMCALL_SETUP_EVENT_NOTIFY_INTERRUPT,
	};
	struct kvm_run *run = td->vcpu.vcpu->run;
	int i;

	for (i = 0; i < ARRAY_SIZE(calls); i++) {
		make_request(td);
		if (calls[i] != TDVMCALL_GET_QUOTE)
			tdx_proxy_set_tdvmcall(&td->vcpu, calls[i], 64, 0);
		if (tdx_proxy_run(&td->vcpu) || run->exit_reason != KVM_EXIT_TDX ||
		    run->tdx.nr != calls[i])
			return false;
		run->tdx.unknown.ret = TDVMCALL_STATUS_SUCCESS;
		tdx_proxy_run_without_exit(&td->vcpu);
		if (td->vcpu.cmd->regs.r10 != TDVMCALL_STATUS_SUCCESS)
			return false;
	}

	return true;
}

static void destroy(struct quote_td *td)
{
	kvm_vm_free(td->vm);
}

/* ---- a module that is as good as the one before */

struct thread {
	pthread_t thread;
	struct quote_td td;
	int nr_quotes;
	bool stop, failed;
};

static void *ask_for_quotes(void *arg)
{
	struct thread *t = arg;

	while (!READ_ONCE(t->stop)) {
		t->failed |= !get_quote(&t->td, QUOTE_LEN);
		WRITE_ONCE(t->nr_quotes, t->nr_quotes + 1);
	}

	return NULL;
}

static void test_good(void)
{
	struct thread threads[2] = {};
	struct quote_td later;
	int i, nr = 0, updates = 0;
	bool ok = true;

	for (i = 0; i < ARRAY_SIZE(threads); i++)
		quote_td_create(&threads[i].td);
	ksft_test_result(update() && get_quote(&threads[0].td, QUOTE_LEN) &&
			 get_quote(&threads[1].td, QUOTE_LEN), "Quotes after an update\n");

	/* TDs can be made as before, with the gate where it was. */
	quote_td_create(&later);
	ksft_test_result(!notify_offered(&later) && get_quote(&later, QUOTE_LEN) &&
			 notify_refused(&later) && notify_refused(&threads[0].td),
			 "a TD made after an update\n");
	destroy(&later);

	for (i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_create(&threads[i].thread, NULL, ask_for_quotes, &threads[i]);
	for (i = 0; i < NR_UPDATES; i++) {
		int before = READ_ONCE(threads[0].nr_quotes);

		updates += update();
		while (READ_ONCE(threads[0].nr_quotes) < before + 2)
			usleep(1000);
	}
	for (i = 0; i < ARRAY_SIZE(threads); i++) {
		WRITE_ONCE(threads[i].stop, true);
		pthread_join(threads[i].thread, NULL);
		ok &= !threads[i].failed;
		nr += threads[i].nr_quotes;
	}
	ksft_test_result(ok && updates == NR_UPDATES, "%d Quotes during %d updates\n", nr, updates);

	set_option("quote_size", "32768");
	ksft_test_result(get_quote(&threads[0].td, QUOTE_LEN) && update() &&
			 get_quote(&threads[0].td, 32768), "a module that makes larger Quotes\n");
	set_option("quote_size", "100");
	ksft_test_result(update() && get_quote(&threads[0].td, 100),
			 "a module that makes smaller Quotes\n");
	set_option("steps", "50");
	set_option("quote_size", "8192");
	ksft_test_result(update() && get_quote(&threads[0].td, QUOTE_LEN),
			 "a module that is interrupted often\n");
	set_option("ext_pages", "10");
	ksft_test_result(update() && get_quote(&threads[0].td, QUOTE_LEN),
			 "a module that needs less memory\n");

	/* What passes when it is tried again, in stop_machine() */
	inject("TDH.EXT.INIT:8000000300000000:1:1000,TDH.QUOTE.INIT:8000000300000000:1:1000");
	ok = update() && get_quote(&threads[0].td, QUOTE_LEN);
	inject("clear");
	ksft_test_result(ok, "a module that is interrupted a thousand times\n");
	inject("TDH.EXT.INIT:8000020300000000:1:1,TDH.QUOTE.INIT:8000020300000000:1:1");
	ok = update() && get_quote(&threads[0].td, QUOTE_LEN);
	inject("clear");
	ksft_test_result(ok, "a module that has no entropy at first\n");

	for (i = 0; i < ARRAY_SIZE(threads); i++)
		destroy(&threads[i].td);
}

/* ---- a Quote that is half made when the update comes */

static void *run_vcpu(void *arg)
{
	struct quote_td *td = arg;

	tdx_proxy_run_without_exit(&td->vcpu);
	return NULL;
}

static void test_during(void)
{
	struct quote_td td;
	pthread_t thread;
	long before;
	bool ok;

	quote_td_create(&td);
	set_option("quote_step_us", "20000");
	set_option("steps", "50");

	make_request(&td);
	before = status_of("TDH.QUOTE.GET");
	pthread_create(&thread, NULL, run_vcpu, &td);
	while (status_of("TDH.QUOTE.GET") < before + 10)
		usleep(1000);
	ok = update();
	ok &= status_of("TDH.QUOTE.GET") < before + 50;
	pthread_join(thread, NULL);
	ksft_test_result(ok && answer_ok(&td, QUOTE_LEN), "a Quote that had been begun before\n");
	/* From the beginning: 51 calls of the new module, and those of the old one */
	ksft_test_result(status_of("TDH.QUOTE.GET") >= before + 61, "it was made anew\n");

	/* The same on a new module that does not make Quotes */
	make_request(&td);
	before = status_of("TDH.QUOTE.GET");
	pthread_create(&thread, NULL, run_vcpu, &td);
	while (status_of("TDH.QUOTE.GET") < before + 10)
		usleep(1000);
	inject("TDH.QUOTE.INIT:C000010000000000");
	ok = update();
	inject("clear");
	pthread_join(thread, NULL);
	ksft_test_result(ok && answer_ok(&td, 0), "a Quote that the new module does not make\n");
	ksft_test_result(update() && get_quote(&td, QUOTE_LEN), "the next module does\n");

	/* The memory is what the old module's Quotes need. The next request has enough of it. */
	make_request(&td);
	before = status_of("TDH.QUOTE.GET");
	pthread_create(&thread, NULL, run_vcpu, &td);
	while (status_of("TDH.QUOTE.GET") < before + 10)
		usleep(1000);
	set_option("quote_size", "32768");
	ok = update();
	pthread_join(thread, NULL);
	ksft_test_result(ok && answer_ok(&td, 0),
			 "a Quote that the new module has too little memory for\n");
	ksft_test_result(get_quote(&td, 32768), "the next one\n");

	destroy(&td);
}

/* ---- a module with which Quoting fails, and another one with which it does not */

static void test_without_quoting(const char *what)
{
	struct quote_td old, new, newest;
	bool ok;

	quote_td_create(&old);
	ksft_test_result(get_quote(&old, QUOTE_LEN), "a Quote before\n");

	if (what)
		inject(what);
	else
		set_option("ext_pages", "200");
	ksft_test_result(update(), "the update itself is successful\n");
	inject("clear");

	ok = get_quote(&old, 0) && get_quote(&old, 0);
	ksft_test_result(ok, "who has Quotes made in the kernel is told that there are none\n");
	ksft_test_result(notify_refused(&old), "and still has no use for event notify\n");
	quote_td_create(&new);
	ksft_test_result(notify_offered(&new), "new TDs are offered event notify\n");
	ksft_test_result(calls_exit(&new), "and have Quotes made in userspace\n");

	set_option("ext_pages", "64");
	ksft_test_result(update(), "another update\n");
	ksft_test_result(get_quote(&old, QUOTE_LEN) && notify_refused(&old),
			 "the first one gets Quotes again\n");
	ksft_test_result(calls_exit(&new), "nothing changes for the second\n");
	quote_td_create(&newest);
	ksft_test_result(!notify_offered(&newest) && get_quote(&newest, QUOTE_LEN) &&
			 notify_refused(&newest), "a third is like the first\n");

	destroy(&old);
	destroy(&new);
	destroy(&newest);
}

/* ---- the first module had no Quoting: its successors are not asked for any */

static void test_userspace(void)
{
	struct quote_td old, new;
	bool ok;

	quote_td_create(&old);
	ksft_test_result(notify_offered(&old) && calls_exit(&old),
			 "Quotes are made in userspace\n");

	/* Userspace has not answered yet when the module is another one. */
	make_request(&old);
	ok = !tdx_proxy_run(&old.vcpu) && old.vcpu.vcpu->run->exit_reason == KVM_EXIT_TDX;
	set_option("quoting", "1");
	ok &= update();
	old.vcpu.vcpu->run->tdx.get_quote.ret = TDVMCALL_STATUS_RETRY;
	tdx_proxy_run_without_exit(&old.vcpu);
	ksft_test_result(ok && old.vcpu.cmd->regs.r10 == TDVMCALL_STATUS_RETRY,
			 "a request while the module is updated\n");

	ksft_test_result(notify_offered(&old) && calls_exit(&old), "nothing changes for the TD\n");
	quote_td_create(&new);
	ksft_test_result(notify_offered(&new) && calls_exit(&new), "nor for new ones\n");
	ksft_test_result(!status_of("TDH.QUOTE.INIT") && !status_of("pages_ext"),
			 "the new module is not asked for Quotes\n");

	/* The end of a TD whose request userspace never answers */
	make_request(&old);
	ksft_test_result(!tdx_proxy_run(&old.vcpu), "a request that is never answered\n");
	destroy(&old);
	destroy(&new);
}

/* ---- an update that comes to nothing before the module is gone */

static void test_kept(const char *fault)
{
	struct quote_td td, new;

	quote_td_create(&td);
	inject(fault);
	ksft_test_result(!update(), "the update fails\n");
	ksft_test_result(get_quote(&td, QUOTE_LEN) && notify_refused(&td),
			 "there are Quotes afterwards\n");
	quote_td_create(&new);
	ksft_test_result(!notify_offered(&new) && get_quote(&new, QUOTE_LEN),
			 "also for new TDs\n");
	inject("clear");
	ksft_test_result(update() && get_quote(&td, QUOTE_LEN), "the next update is successful\n");

	destroy(&td);
	destroy(&new);
}

/* ---- a module that the kernel cannot have */

static void test_lost(const char *fault)
{
	struct quote_td td, new = {};
	int ret;

	quote_td_create(&td);
	if (fault)
		inject(fault);
	else
		set_option("quoting", "0");
	ksft_test_result(!update(), "the new module is not taken\n");

	/* There is no module now. Nothing works, but whoever tries is told. */
	make_request(&td);
	ret = __vcpu_run(td.vcpu.vcpu);
	ksft_print_msg("KVM_RUN returned %d, errno %d, exit reason %u\n", ret, errno,
		       td.vcpu.vcpu->run->exit_reason);
	ksft_test_result(ret || td.vcpu.vcpu->run->exit_reason != KVM_EXIT_TDX,
			 "KVM_RUN fails\n");
	/* A new VM: KVM takes no more ioctls of one whose vCPUs the module did not flush. */
	new.vm = vm_create_barebones_type(KVM_X86_TDX_VM);
	ksft_test_result(notify_offered(&new), "Quotes are not made by the TDX module\n");
	kvm_vm_free(new.vm);
	ksft_test_result(!update(), "the next update fails as well\n");
	/* The end of the process tears the TD down, as far as possible. */
}

int main(int argc, char *argv[])
{
	const char *test = argc > 1 ? argv[1] : "";
	const char *fault = argc > 2 ? argv[2] : NULL;

	TEST_REQUIRE(kvm_has_tdx());
	TEST_REQUIRE(!access(DEBUGFS "fault", W_OK));
	TEST_REQUIRE(!access(FIRMWARE "loading", W_OK));

	ksft_print_header();
	if (!strcmp(test, "good")) {
		ksft_set_plan(10);
		test_good();
	} else if (!strcmp(test, "during")) {
		ksft_set_plan(7);
		test_during();
	} else if (!strcmp(test, "userspace")) {
		ksft_set_plan(7);
		test_userspace();
	} else if (!strcmp(test, "kept") && fault) {
		ksft_set_plan(5);
		test_kept(fault);
	} else if (!strcmp(test, "lost")) {
		ksft_set_plan(4);
		test_lost(fault);
		ksft_finished();
	} else if (!strcmp(test, "more-memory") || (!strcmp(test, "fails") && fault)) {
		ksft_set_plan(11);
		test_without_quoting(fault);
	} else {
		ksft_exit_fail_msg("usage: %s good|during|userspace|more-memory|lost\n"
				   "       %s fails|kept|lost FAULT\n", argv[0], argv[0]);
	}

	ksft_test_result(!status_of("tds") && !status_of("quotes_running"),
			 "no TD and no Quote is left\n");
	ksft_finished();
}
