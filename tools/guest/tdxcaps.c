// SPDX-License-Identifier: GPL-2.0
/*
 * Ask the running kernel through the real ioctl what a VMM is told about TDX, and
 * compare it with what the case expects: "none" (no TDX here), "userspace" or "kernel"
 * (who makes Quotes).
 *
 * Lines of TAP on stdout, numbered by who runs this. Each value also as "# name=value",
 * for a table.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/ioctl.h>

#include <linux/kvm.h>

/* More than any TDX module has to offer; KVM says -E2BIG if not. */
#define MAX_CPUID_ENTRIES	256

/* Bits of R11 of GetTdVmCallInfo, leaf 1 */
#define GET_QUOTE_BIT		0x1
#define EVENT_NOTIFY_BIT	0x2

static unsigned int nr_failed;

static void point(bool ok, const char *what)
{
	printf("%sok - %s\n", ok ? "" : "not ", what);
	if (!ok)
		nr_failed++;
}

static bool get_capabilities(int vm, struct kvm_tdx_capabilities *caps)
{
	struct kvm_tdx_cmd cmd = {
		.id = KVM_TDX_CAPABILITIES,
		.data = (unsigned long)caps,
	};

	caps->cpuid.nent = MAX_CPUID_ENTRIES;
	if (!ioctl(vm, KVM_MEMORY_ENCRYPT_OP, &cmd))
		return true;
	printf("# KVM_TDX_CAPABILITIES: %s, hw_error %#llx\n", strerror(errno),
	       (unsigned long long)cmd.hw_error);
	return false;
}

static bool all_zero(const void *data, size_t size)
{
	const unsigned char *byte = data;

	while (size--)
		if (byte[size])
			return false;
	return true;
}

static void check_none(int kvm)
{
	int types, vm;

	printf("# kvm=%s\n", kvm < 0 ? "no" : "yes");
	if (kvm < 0) {
		point(true, "no /dev/kvm, so no TDX");
		return;
	}
	types = ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_VM_TYPES);
	printf("# vm_types=%#x\n", types);
	point(types >= 0 && !(types & (1 << KVM_X86_TDX_VM)), "KVM_CAP_VM_TYPES has no TDX");
	vm = ioctl(kvm, KVM_CREATE_VM, KVM_X86_TDX_VM);
	point(vm < 0 && errno == EINVAL, "KVM_CREATE_VM(KVM_X86_TDX_VM) is refused");
}

static void check_tdx(int kvm, bool quotes_in_kernel)
{
	struct kvm_tdx_capabilities *caps;
	int types, vm;

	point(kvm >= 0, "/dev/kvm is there");
	if (kvm < 0)
		return;
	types = ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_VM_TYPES);
	printf("# vm_types=%#x\n", types);
	point(types >= 0 && types & (1 << KVM_X86_TDX_VM), "KVM_CAP_VM_TYPES has TDX");
	vm = ioctl(kvm, KVM_CREATE_VM, KVM_X86_TDX_VM);
	if (vm < 0)
		printf("# KVM_CREATE_VM: %s\n", strerror(errno));
	point(vm >= 0, "KVM_CREATE_VM(KVM_X86_TDX_VM)");

	caps = calloc(1, sizeof(*caps) + MAX_CPUID_ENTRIES * sizeof(caps->cpuid.entries[0]));
	if (!caps)
		err(1, "calloc");
	if (vm < 0 || !get_capabilities(vm, caps)) {
		point(false, "KVM_TDX_CAPABILITIES");
		return;
	}
	point(true, "KVM_TDX_CAPABILITIES");

	printf("# supported_attrs=0x%llx\n", (unsigned long long)caps->supported_attrs);
	printf("# supported_xfam=0x%llx\n", (unsigned long long)caps->supported_xfam);
	printf("# kernel_tdvmcallinfo_1_r11=0x%llx\n",
	       (unsigned long long)caps->kernel_tdvmcallinfo_1_r11);
	printf("# user_tdvmcallinfo_1_r11=0x%llx\n",
	       (unsigned long long)caps->user_tdvmcallinfo_1_r11);
	printf("# kernel_tdvmcallinfo_1_r12=0x%llx\n",
	       (unsigned long long)caps->kernel_tdvmcallinfo_1_r12);
	printf("# user_tdvmcallinfo_1_r12=0x%llx\n",
	       (unsigned long long)caps->user_tdvmcallinfo_1_r12);

	if (quotes_in_kernel)
		point(caps->user_tdvmcallinfo_1_r11 == 0,
		      "Quotes are made in the kernel, so SetupEventNotifyInterrupt is not offered");
	else
		point(caps->user_tdvmcallinfo_1_r11 == EVENT_NOTIFY_BIT,
		      "Quotes are made in userspace, so SetupEventNotifyInterrupt is offered");
	point(!(caps->kernel_tdvmcallinfo_1_r11 & (GET_QUOTE_BIT | EVENT_NOTIFY_BIT)),
	      "no Quote call is said to be KVM's alone");
	point(!caps->kernel_tdvmcallinfo_1_r12 && !caps->user_tdvmcallinfo_1_r12,
	      "R12 of both is zero");
	point(all_zero(caps->reserved, sizeof(caps->reserved)), "reserved fields are zero");
	close(vm);
}

int main(int argc, char **argv)
{
	const char *expected = argc == 2 ? argv[1] : "";
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (!strcmp(expected, "none"))
		check_none(kvm);
	else if (!strcmp(expected, "userspace") || !strcmp(expected, "kernel"))
		check_tdx(kvm, !strcmp(expected, "kernel"));
	else
		errx(2, "usage: tdxcaps none|userspace|kernel");
	return nr_failed ? 1 : 0;
}
